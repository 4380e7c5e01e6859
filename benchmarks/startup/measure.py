"""How long does a program take to answer --help? Median, least and most of N runs, wall and CPU time.

python benchmarks/startup/measure.py [RUNS]
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("lineside", "lineside-agent", "lineside-fleet")
LIMIT_S = 0.3


def cpu_s() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(command: list[str], runs: int) -> tuple[list[float], list[float]]:
    """Wall and CPU seconds of each run, after two that warm the page cache."""
    wall_s, spent_s = [], []
    for index in range(runs + 2):
        start, before = time.perf_counter(), cpu_s()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        if index >= 2:
            wall_s.append(time.perf_counter() - start)
            spent_s.append(cpu_s() - before)
    return wall_s, spent_s


def main() -> None:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    folder = Path(sys.executable).parent
    print(f"{runs} runs each, Python {platform.python_version()}, {os.cpu_count()} {platform.machine()} cores")
    print("| command | wall median, s | least | most | CPU median, s | under 0.3 s |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = {"python -c pass": [sys.executable, "-c", "pass"]}
    rows |= {f"{name} --help": [str(folder / name), "--help"] for name in PROGRAMS}
    for name, command in rows.items():
        wall_s, spent_s = measure(command, runs)
        middle = statistics.median(wall_s)
        cells = [middle, min(wall_s), max(wall_s), statistics.median(spent_s)]
        verdict = "yes" if middle < LIMIT_S else "no"
        print(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} | {verdict} |")


if __name__ == "__main__":
    main()
