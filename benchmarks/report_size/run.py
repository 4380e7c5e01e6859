"""How large is a report? The drift benchmark's world at 600 frames a minute, with as many classes as are asked for.

python benchmarks/report_size/run.py [--devices 20] [--write]

`fleet.worlds` draws two classes, good and defect. Each defect is one of the other classes, all of them equally often,
for as long as the part stays in view, and the good class gets the highest index: the widest numbers and the most cells
that this world can give. Latency is
lognormal, 15 % wide, one frame in a hundred three times slower. `--write` puts the figures into results.md beside this
file.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.histogram import BINS, ConfidenceHistogram
from device_agent.contract.latency import BUCKETS, FIRST_US
from device_agent.contract.report import CLOCK_SYNCED, DeviceReport, ImageQuality, System, read_report
from fleet.worlds import World, simulate

RESULTS = Path(__file__).with_name("results.md")
AIMS = {10: 256, 1000: 330}
FRAMES = 600
STAGE_MEDIAN_US = (33_000, 900, 21_000, 120)


def spread(counts: NDArray[np.uint16], classes: int, stay: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Counts (48,) of two classes as (classes, 24): good last, each defect one of the others. A part stays in view for
    `stay` frames on average, >= 1."""
    out = np.zeros((classes, BINS), np.int64)
    out[-1] = counts[:BINS]
    for bin_, count in enumerate(counts[BINS:]):
        if count:
            ends = np.minimum(np.cumsum(rng.geometric(1 / stay, count)), count)
            np.add.at(out[:, bin_], rng.integers(0, classes - 1, count), np.diff(ends, prepend=0))
    return out


def latency(rng: np.random.Generator) -> list[list[int]]:
    """Sparse latency of the four stages."""
    out = []
    for median_us in STAGE_MEDIAN_US:
        slow = np.where(rng.random(FRAMES) < 0.01, 3.0, 1.0)
        times_us = median_us * slow * rng.lognormal(0, 0.15, FRAMES)
        buckets = np.clip(np.floor(2 * np.log2(times_us / FIRST_US)), 0, BUCKETS - 1).astype(int)
        found, counts = np.unique(buckets, return_counts=True)
        out.append(np.column_stack([found, counts]).ravel().tolist())
    return out


def payloads(world: World, classes: int, rng: np.random.Generator) -> Iterator[bytes]:
    """An encoded report for each minute of a day of each device."""
    (day,) = simulate(world, 1, rng)
    for device, minutes in enumerate(day.counts):
        epoch, boot, model = int(rng.integers(2**31, 2**32)), int(rng.integers(2**24, 2**25)), rng.bytes(8)
        for minute, counts in enumerate(minutes):
            dense = spread(counts, classes, 1 / (1 - world.rho), rng)
            yield encode(
                DeviceReport(
                    schema=SCHEMA,
                    epoch=epoch,
                    sequence=1_000_000 + minute,
                    boot=boot,
                    wall_ms=1_790_000_000_000 + 60_000 * minute,
                    monotonic_ms=5_000_000_000 + 60_000 * minute,
                    interval_ms=60_000 + int(rng.integers(0, 50)),
                    model=model,
                    frames=int(dense.sum()),
                    dropped=int(rng.integers(0, 400)),
                    parts=FRAMES // 2,
                    same=min(int(day.same[device, minute]), int(dense.sum())),
                    identical=0,
                    histogram=ConfidenceHistogram.of(dense),
                    latency=latency(rng),
                    quality=ImageQuality(140, int(rng.integers(300, 70_000)), 12),
                    system=System(63, 58, False, 180, 21_000),
                    self_test_ok=True,
                    flags=CLOCK_SYNCED,
                )
            )


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    lines = [
        "# Size of a report: measured",
        "",
        f"Python {platform.python_version()}, numpy {np.__version__}. Date: {today}. Seed {arguments.seed}. One day of "
        f"{arguments.devices} devices of `fleet.worlds` at {FRAMES} frames a minute, MessagePack, without shadow.",
        "",
        "| classes | dwell of a part, s | reports | p50, B | p99, B | largest, B | aim for p99, B | |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for classes in (2, *AIMS):
        for dwell_s in (2.0, 10.0, None):
            world = World(devices=arguments.devices, frames=FRAMES, dwell_s=dwell_s)
            rng = np.random.default_rng(arguments.seed)
            sizes = []
            for number, payload in enumerate(payloads(world, classes, rng)):
                sizes.append(len(payload))
                if number % 1000 == 0:
                    read_report(payload)
            p50, p99 = np.quantile(sizes, [0.5, 0.99])
            aim = AIMS.get(classes)
            verdict = "" if aim is None else "met" if p99 <= aim else "missed"
            lines.append(
                f"| {classes} | {dwell_s or 'independent'} | {len(sizes)} | {p50:.0f} | {p99:.0f} | {max(sizes)} | "
                f"{aim or ''} | {verdict} |"
            )
            print(lines[-1], flush=True)
    text = "\n".join([*lines, ""])
    print(text)
    if arguments.write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
