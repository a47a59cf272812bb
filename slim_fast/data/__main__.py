"""python -m slim_fast.data: convert, inspect, topologies, synthetic."""

import sys

from slim_fast.command import run_process
from slim_fast.data.cli import main

if __name__ == "__main__":
    sys.exit(run_process(main))
