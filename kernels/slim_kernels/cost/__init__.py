"""python -m slim_kernels.cost: what each launch should take on a GPU, predicted without one.

No figure here is measured on a GPU. Every op runs in the emulator at small sizes, as compiled for
the device; counts are multilinear in the sizes (tokens, rows, prototypes), so that two values of
each give the recipe's. For each launch the model then takes the slowest of

- its pipes on the busiest SM: work of a program x programs / throughput. Tensor cores: floating-
  point operations of mma and wgmma as issued, padding included, at 80 % of the peak, which large
  products reach (the spec's 790 of 989 TFLOP/s); on 9.x mma.sync has 62 % of wgmma's rate. Issue,
  FMA, ALU, SFU, load/store: instructions of the binary (SASS) where its loops are those of the PTX,
  each region of it (a loop's body, or what is outside) run as often as that region of the PTX;
  otherwise of the PTX ("counted in PTX"). Shared memory: wavefronts of 128 bytes with bank
  conflicts, and the operands that wgmma reads there;
- L2: each 32-byte sector that is loaded once a block (a first-level cache that never evicts and
  serves one block), and so each that is stored;
- DRAM: the same once a launch (a second-level cache that never evicts), at 90 % of the peak,
  which copies reach (the spec's 4.3 of 4.8 TB/s);
- latency: programs one after the other on an SM / those that fit at once (by registers, shared
  memory, warps) x the clocks of one alone: the longest chain of dependent instructions through each
  region of the PTX, iterations not overlapping, or its own issue; a loop that copies asynchronously
  takes at least a memory access / stages in flight;

and adds a launch's overhead. Pipes overlap perfectly, the clock is the boost clock (no power
limit), blocks are all alike, inputs random; what global accesses take of L1's data path is left
out. What PyTorch runs beside the kernels counts as a product at the ceiling or as a copy of its
tensors. A floor is the larger of the op's necessary products at 80 % and its inputs and outputs,
each once, at 90 % of the peaks; "ceiling" is the share of 80 % of the tensor peak that the
necessary products reach; "next" is the second limit. A step leaves out heads, views, optimiser and
the prototype loss of the CLS tokens.
"""
