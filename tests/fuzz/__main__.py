"""python -m tests.fuzz: malformed files for everything that reads files.

Every reader, checkpoint and configuration is given good files that were changed at random. A
UserError may come out, nothing else: no other exception, no endless reading, no code that a file
brings along, no cache that is half there, no end of the process. With --guided atheris chooses
the changes.
"""

import argparse
import math
import sys
import time
from contextlib import nullcontext
from typing import Any


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 when something else came out."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="inputs (default 100,000)")
    parser.add_argument("--first", type=int, default=0, help="number of a target's first input")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (default 0)")
    parser.add_argument("--only", nargs="+", metavar="TARGET", help="targets (default all)")
    guided = "seconds a target; needs atheris (pip install atheris)"
    parser.add_argument("--guided", type=float, metavar="SECONDS", help=guided)
    options = parser.parse_args(arguments)
    atheris: Any = None
    if options.guided is not None:
        try:
            import atheris
        except ImportError:
            parser.error(f"--guided: {guided}")
    # imported under atheris' eyes, which counts the lines that are reached
    with atheris.instrument_imports(include=["slim_fast"]) if atheris else nullcontext():
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.guided import fuzz_guided
    from tests.fuzz.harness import fuzz

    names = options.only or list(TARGETS)
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    found = done = 0
    shares = sum(TARGETS[name].share for name in names)
    print(f"{'target':<24}{'inputs':>8}{'refused':>9}{'seconds':>9}  findings")
    for name in names:
        each = math.ceil(options.count * TARGETS[name].share / shares)
        begin = time.perf_counter()
        if atheris:
            findings, each, refused = fuzz_guided(atheris, name, options.guided, options.seed)
        else:
            findings, refused = fuzz(name, options.first, each, options.seed)
        seconds = time.perf_counter() - begin
        print(f"{name:<24}{each:>8}{refused:>9}{seconds:>9.0f}  {len(findings)}", flush=True)
        for finding in {finding.where: finding for finding in findings}.values():
            print(f"  input {finding.number}: {finding.what.strip()}", flush=True)
        found, done = found + len(findings), done + each
    print(f"{done} inputs, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
