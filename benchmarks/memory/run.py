"""Whether the memory of a training grows with the number of images: `lineside train` on 20,000 and on 200,000 files.

python benchmarks/memory/run.py [--images N ...] [--write]

Small noisy pictures of three classes, four of a part, are drawn into a temporary folder; `lineside train` then runs one
epoch of a tiny network in a process of its own, which prints the most memory that it ever held (VmHWM). Fitted pictures
take 3 KiB each: of the smaller set all lie in memory, of the larger one those to train on go to a flat file. Files
are removed at the end.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from device_agent.contract.files import write_whole
from toolkit.data.pictures import IN_MEMORY_BYTES
from toolkit.framework import package_versions

HERE = Path(__file__).parent
CLASSES = {"good": 90, "pit": 120, "stain": 150}
SIDE, SEED = 32, 0
AIM_MIB = 3 * 1024
TRAIN = """
import sys
from toolkit.cli import cli
try:
    cli.main(sys.argv[1:], standalone_mode=False)
finally:
    with open("/proc/self/status") as file:
        print(next(line for line in file if line.startswith("VmHWM")).split()[1], file=sys.stderr)
"""


class Row(NamedTuple):
    """One training: images, MiB at most, seconds to draw and to train."""

    images: int
    peak_mib: float
    draw_s: float
    train_s: float


def draw(folder: Path, images: int) -> None:
    """Pictures of SIDE px in a folder a class, and a manifest that says which four show one part."""
    rng = np.random.default_rng(SEED)
    noise = rng.normal(0, 12, (64, SIDE, SIDE, 3))
    names = list(CLASSES)
    lines = ["file,class,group"]
    for number in range(images):
        name = names[number // 4 % len(names)]
        place = f"{name}/{number // 1000:03d}/{number}.jpg"
        if number % 1000 < 12:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
        level = CLASSES[name] + rng.normal(0, 8)
        picture = np.roll(noise[rng.integers(64)], int(rng.integers(SIDE)), axis=0) + level
        (folder / place).write_bytes(cv2.imencode(".jpg", np.clip(picture, 0, 255).astype(np.uint8))[1].tobytes())
        lines.append(f"{place},{name},part-{number // 4}")
    write_whole(folder / "manifest.csv", "\n".join(lines) + "\n")


def measure(images: int, work: Path) -> Row:
    """Draw, train, and remove what was drawn."""
    data, run, began = work / "data", work / "run", time.monotonic()
    draw(data, images)
    drawn = time.monotonic()
    command = [
        "train",
        str(data),
        "--out",
        str(run),
        "--model",
        "mobilenet-v3-small",
        "--minimalistic",
        "--width",
        "0.05",
    ]
    command += ["--size", str(SIDE), "--epochs", "1", "--batch", "256", "--json"]
    done = subprocess.run([sys.executable, "-c", TRAIN, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    shutil.rmtree(work)
    peak = int(done.stderr.splitlines()[-1])
    return Row(images, peak / 1024, drawn - began, time.monotonic() - drawn)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--write", action="store_true", help="write results.md")
    given = parser.parse_args()
    rows = []
    for images in given.images:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(images, Path(folder) / "work"))
        print(rows[-1], file=sys.stderr)
    text = report(rows)
    print(text)
    if given.write:
        write_whole(HERE / "results.md", text)


def report(rows: list[Row]) -> str:
    """results.md."""
    packages = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    lines = [
        "# Memory of a training: measured",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with other "
        f"work; {packages}. Date: {time.strftime('%Y-%m-%d')}. Seed {SEED}.",
        f"`lineside train`, one epoch of a minimalistic MobileNetV3-Small 0.05 at {SIDE} px, batch 256. Peak is "
        "VmHWM of the process, TensorFlow included; pictures of a split beyond "
        f"{IN_MEMORY_BYTES // 2**20} MiB are in a flat file.",
        "",
        "| images | peak, MiB | drawing, s | training with everything around it, s |",
        "| ---: | ---: | ---: | ---: |",
        *(f"| {row.images:,} | {row.peak_mib:.0f} | {row.draw_s:.0f} | {row.train_s:.0f} |" for row in rows),
        "",
    ]
    if len(rows) > 1:
        first, last = rows[0], rows[-1]
        each = (last.peak_mib - first.peak_mib) * 1024 / (last.images - first.images)
        lines.append(
            f"{last.images / first.images:.0f} times the images take {last.peak_mib / first.peak_mib:.2f} times the "
            f"memory: {each:.2f} KiB an image (path, label, group, digests), where its pixels are 3 KiB."
        )
    most = max(row.peak_mib for row in rows)
    lines += ["", f"Aim: at most {AIM_MIB:,} MiB: {'met' if most <= AIM_MIB else 'missed'} ({most:,.0f})."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
