"""What planning a batch costs, and how even shards are, on simulated trees of small photos.

    python -m benchmarks.plan

Each row is a folder tree of empty files, 500 a folder, planned in a process of its own: seconds of
the processor, seconds in all, and the peak of its memory, of which the program itself takes what
the first row shows. Photos get sizes as a camera's have (log-normal, 30 % apart); "largest shard"
is the bytes of the largest of 16 shards over their mean.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from amsnet_cli.batch.plan import plan_jobs
from amsnet_cli.batch.shard import Shard

COUNTS = (10, 100, 1_000, 10_000, 100_000)
PER_FOLDER = 500
SHARDS = 16
SPREAD = 0.3
"""Standard deviation of the logarithm of a photo's size."""


def make_tree(root: Path, count: int) -> None:
    """Make a tree of empty files named as a camera names photos."""
    for number in range(count):
        folder = root / f"{number // PER_FOLDER:04}"
        if number % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"IMG_{number:06}.jpg").touch()


def measure(root: Path, output: Path) -> tuple[float, float, float]:
    """Return seconds of the processor and in all, and the peak of the memory in MB, of planning."""
    started, used = time.perf_counter(), time.process_time()
    plan_jobs([root], output, recursive=True)
    used, elapsed = time.process_time() - used, time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024
    return used, elapsed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def largest_shard(count: int) -> float:
    """Return the bytes of the largest shard over the mean of all."""
    sizes = np.random.default_rng(0).lognormal(0, SPREAD, count)
    total = np.zeros(SHARDS)
    shards = [Shard(index, SHARDS) for index in range(SHARDS)]
    for number, size in enumerate(sizes):
        key = f"{number // PER_FOLDER:04}/IMG_{number:06}.jpg"
        total[next(s.index for s in shards if s.holds(key))] += size
    return float(total.max() / total.mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="numbers of photos")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(*measure(args.measure, args.measure.parent / "out"))
        return
    print("| photos | processor | in all | peak of memory | largest shard of 16 |")
    print("|---|---|---|---|---|")
    for count in args.counts:
        with TemporaryDirectory() as folder:
            root = Path(folder, "in")
            make_tree(root, count)
            command = [sys.executable, "-m", "benchmarks.plan", "--measure", str(root)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        used, elapsed, peak = map(float, done.stdout.split())
        print(
            f"| {count:,} | {used:.3f} s | {elapsed:.3f} s | {peak:.0f} MB "
            f"| {largest_shard(count):.2f} × the mean |",
            flush=True,
        )


if __name__ == "__main__":
    main()
