"""How fast, how lean and how exact the project is, against the same recipe written the plain way.

pytest benchmarks/ --benchmark-only            measure (--quick: at toy sizes, in a minute; --thorough: more cases)
pytest benchmarks/ --benchmark-only --record   and append the figures to benchmarks/results/<machine>.json
python -m benchmarks.report --write            put the newest figures into README.md and benchmarks/figures/
python -m benchmarks.compare RECORD [RECORD]   what became slower or larger between two runs, beyond the noise
python -m benchmarks.flops                     what the encoders cost, counted, and where the paper's 7.89 comes from
"""
