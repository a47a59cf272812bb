"""How fast, how lean and how exact the project is, against the same recipe written the plain way.

Folders: suite (what pytest measures), baselines (what we are compared with), flops (what the
methods cost), gpu (the kernels on a GPU), predicted (what a GPU should take), records (results on
file, their tables and charts).

    pytest benchmarks/ --benchmark-only            measure; --quick: toy sizes; --thorough: all
    pytest benchmarks/ --benchmark-only --record   and append to records/results/<machine>.json
    python -m benchmarks.records --write           put the newest results into README.md and docs/
    python -m benchmarks.records.compare RECORD    what became slower or larger between two commits
    python -m benchmarks.flops                     FLOPs of the encoders, and where 7.89 comes from
    python -m benchmarks.gpu                       the kernels on this GPU: exact, lean, fast?
    python -m benchmarks.predicted                 step and inference on a GPU, without one
    python -m benchmarks.gpu.tune KERNEL           which tiles, warps and stages suit a kernel
    python -m benchmarks.busy                      the demo's speed beside busy processes
    python -m benchmarks.transfer                  encoders carried over to another skeleton
"""
