"""python -m benchmarks.busy: samples a second of the demo beside busy processes, by its threads.

"auto" is what pretrain does without --threads. Each cell trains in a process of its own; the busy
ones count in a loop.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

BUSY = [sys.executable, "-c", "while True: pass"]


def samples_per_second(threads: str, busy: int, steps: int, data: Path, out: Path) -> float:
    """The median of the last half's records of one run."""
    chosen = [] if threads == "auto" else ["--threads", threads]
    settings = [f"--data={data}", f"--out={out}", f"--steps={steps}", "--log.plots=false"]
    quiet = [f"--log.knn_every={10 * steps}", "--log.metrics_every=5"]
    others = [subprocess.Popen(BUSY) for _ in range(busy)]
    try:
        command = [sys.executable, "-m", "slim_fast.pretrain", *settings, *quiet, *chosen]
        subprocess.run(command, check=True, capture_output=True)
    finally:
        for other in others:
            other.kill()
            other.wait()
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    late = (record for record in records if record["step"] > steps // 2)
    rates = sorted(filter(None, (record.get("samples_per_second") for record in late)))
    return rates[len(rates) // 2]


def main() -> None:
    """Print one line a number of threads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.busy", description=__doc__)
    parser.add_argument(
        "--threads", nargs="+", default=["1", "2", "auto"], help="numbers, or auto (default all)"
    )
    parser.add_argument(
        "--busy", nargs="+", type=int, default=[0, 1, 2, 4], help="busy processes (default 0 1 2 4)"
    )
    parser.add_argument(
        "--steps", type=int, default=60, help="steps of the demo in each cell (default 60)"
    )
    options = parser.parse_args()
    print("threads" + "".join(f"{f'beside {busy}':>12}" for busy in options.busy), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "synthetic")
        make = ["synthetic", str(data), "--subjects", "6", "--repetitions", "2"]
        subprocess.run(
            [sys.executable, "-m", "slim_fast.data", *make], check=True, capture_output=True
        )
        for threads in options.threads:
            print(f"{threads:<7}", end="", flush=True)
            for busy in options.busy:
                out = Path(folder, f"{threads}-{busy}")
                rate = samples_per_second(threads, busy, options.steps, data, out)
                print(f"{rate:>12.0f}", end="", flush=True)
            print()


if __name__ == "__main__":
    main()
