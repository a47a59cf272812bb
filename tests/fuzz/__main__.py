"""python -m tests.fuzz: malformed files for everything that reads files.

Every reader, checkpoint and configuration is given good files that were changed at random. A
UserError may come out, nothing else: no other exception, no endless reading, no code that a file
brings along, no cache that is half there.
"""

import argparse
import math
import sys
import time

from tests.fuzz.harness import fuzz
from tests.fuzz.targets import TARGETS


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 when something else came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="inputs (default 100,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (default 0)")
    parser.add_argument("--only", choices=list(TARGETS), nargs="+", help="targets (default all)")
    options = parser.parse_args(arguments)
    names = options.only or list(TARGETS)
    found = done = 0
    shares = sum(TARGETS[name].share for name in names)
    print(f"{'target':<24}{'inputs':>8}{'refused':>9}{'seconds':>9}  findings")
    for name in names:
        each = math.ceil(options.count * TARGETS[name].share / shares)
        begin = time.perf_counter()
        findings, refused = fuzz(name, 0, each, options.seed)
        seconds = time.perf_counter() - begin
        print(f"{name:<24}{each:>8}{refused:>9}{seconds:>9.0f}  {len(findings)}", flush=True)
        for what in {finding.what: finding for finding in findings}.values():
            print(f"  input {what.number}: {what.what.strip()}", flush=True)
        found, done = found + len(findings), done + each
    print(f"{done} inputs, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
