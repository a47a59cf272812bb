"""The whole training step and inference on a GPU, predicted without one.

`python -m benchmarks.predicted`. No figure here is measured on a GPU. The code that trains and
infers runs on tensors that hold no data and say that they lie on a GPU; views are made for real, on
the CPU, because masks decide how many operations they take. Every operation that PyTorch dispatches
is written down. Then

- an operation of slim_kernels takes what `python -m slim_kernels.cost` predicts of its launches, at
  the sizes of the call;
- an operation of PyTorch is one kernel. It takes its floating-point operations at 80 % of the peak
  of their dtype (what large products reach; float32 products at 80 % of the float32 lanes), or the
  bytes of its inputs and outputs, each once, at 90 % of DRAM's peak, whichever is more; plus the
  time between dependent launches. Sorts sweep over their numbers 4 times. Caches help nothing;
- attention of the best library is FlashAttention's algorithm on packed sequences, see flash.py;
- the host needs HOST_MICROSECONDS an operation of PyTorch and HOST_OF_OURS of slim_kernels. It
  runs ahead of the GPU until it reads a tensor, so that between two reads the slower of both
  counts. In a CUDA graph only the GPU does;
- the trainer's views are made on a stream of their own (slim_fast/training/ahead.py): the GPU does
  that work in addition, and the host after it has launched the rest of the step. Eager PyTorch
  makes the same views before its step.

"visible" has as many tokens and keys as the drawn masks leave. The batch fits the memory, also
eager PyTorch's (it would not); gradients are not exchanged; the clock is the boost clock.
"""
