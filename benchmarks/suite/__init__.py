"""What `pytest benchmarks/ --benchmark-only` measures, and what it is measured with."""
