"""A training step on many GPUs, predicted from what it sends and computes. Nothing is measured.

`python -m benchmarks.scaling`. The bytes that a step sends follow from the method's sizes
(collectives.py); 1, 2 and 4 real processes on this machine's CPU train three steps each, and what
they hand to torch.distributed is counted: model and count must agree to the byte. Times:

- a GPU computes what `python -m benchmarks.predicted` says of one step of 768 samples, in
  proportion to its samples; the time between launches does not depend on them, nor do clipping,
  optimiser and the teacher's average, which FSDP2 divides by the processes;
- KoLeo searches the neighbours of a process' own b samples among all B, in float32: products at
  80 % of the float32 lanes, and a matrix of b x B written once and read once;
- the host launches what it launches for one GPU; in a CUDA graph it does not;
- a collective takes START, a hop for each level of a tree (NVLink within a node of 8, InfiniBand
  beyond), and its bytes at 80 % of the bandwidth of the slowest link of a ring: NVLink's 450 GB/s
  a GPU and direction, or a node's 8 adapters of 400 Gbit/s. An all-reduce sends 2 (N - 1) / N of
  its bytes and goes up and down the tree, an all-gather and a reduce-scatter (N - 1) / N, once;
- gradients and blocks' weights travel beside the computation, up to half of its time; what else is
  sent is waited for. All processes are equally fast, and nothing else is on the network.
"""
