"""`python -m slim_fast.weights`: the command line is `slim_fast.weights.cli`."""

import sys

from slim_fast.command import run_process
from slim_fast.weights.cli import main

if __name__ == "__main__":
    sys.exit(run_process(main))
