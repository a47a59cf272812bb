"""The kernels on a GPU: exact, repeatable, lean and fast? `python -m benchmarks.gpu` answers in one command."""
