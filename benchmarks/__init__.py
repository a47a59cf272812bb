"""How fast, how lean and how exact the project is, against the same recipe written the plain way.

pytest benchmarks/ --benchmark-only            measure everything (--quick: at toy sizes, in a minute)
pytest benchmarks/ --benchmark-only --record   and append the figures to benchmarks/results/<machine>.json
python -m benchmarks.report --write            put the newest figures into README.md and benchmarks/figures/
"""
