"""How often the detector is wrong on healthy lines, and how soon it is right on faulty ones.

python benchmarks/drift/table.py healthy --seeds 1001-1010       100 device-months a seed in the main world
python benchmarks/drift/table.py worlds --seeds 1101-1102        80 device-months a seed in each of the other worlds
python benchmarks/drift/table.py faults --seeds 1201-1204        60 runs of each fault a seed
python benchmarks/drift/table.py changeover --seeds 1301         4 sites of 20 devices, detector, peers and alerts
python benchmarks/drift/table.py cost                            microseconds a report, bytes a device
python benchmarks/drift/table.py render                          results.md from parts.jsonl

Each finished chunk is added to parts.jsonl with a fingerprint of the code that made it: a run that was stopped goes on
where it was, and results.md shows only what the code of now has made. `--processes 2` takes two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from render import render

from fleet.alert_trials import try_alerts
from fleet.trials import learn, try_detector
from fleet.worlds import DAY, World, simulate

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PARTS = HERE / "parts.jsonl"
FAULTS = {"ood1": 7, "ood5": 7, "ood20": 7, "defects3": 7, "blind": 7, "bulk": 7, "ramp": 14, "frozen": 7}
WATCHED = {"ood5": 2, "ood20": 2, "bulk": 2, "frozen": 2}
WORLDS = [(60, 2.0), (3600, 2.0), (60, 10.0), (600, 10.0), (3600, 10.0)]
MONTH = 30 * DAY
CODE = ["device_agent/detector/*.py", "fleet/trials.py", "fleet/alert_trials.py", "fleet/worlds*", "fleet/worlds/*.py"]


def fingerprint() -> str:
    """Of the sources that decide the figures, 8 hex digits."""
    files = sorted({path for pattern in CODE for path in ROOT.glob(pattern) if path.is_file()})
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def chunks(part: str, seeds: list[int]) -> Iterator[dict]:
    """What has to be run, a chunk each: enough to know it again."""
    for seed in seeds:
        if part == "healthy":
            yield {"part": "healthy", "frames": 600, "dwell_s": 2.0, "sites": 5, "seed": seed}
        elif part == "worlds":
            for frames, dwell_s in WORLDS:
                yield {"part": "healthy", "frames": frames, "dwell_s": dwell_s, "sites": 4, "seed": seed}
        elif part == "faults":
            for fault in FAULTS:
                yield {"part": "fault", "fault": fault, "seed": seed}
        elif part == "changeover":
            for peers in (False, True):
                yield {"part": "changeover", "peers": peers, "seed": seed}
        else:
            yield {"part": "cost", "classes": 2}
            yield {"part": "cost", "classes": 10}


def run(chunk: dict) -> dict:
    """One chunk, with what it gave and the CPU seconds that it took."""
    start = time.process_time()
    found = {"healthy": _healthy, "fault": _fault, "changeover": _changeover, "cost": _cost}[chunk["part"]](chunk)
    return chunk | found | {"cpu_s": round(time.process_time() - start, 1)}


def _healthy(chunk: dict) -> dict:
    world = World(sites=chunk["sites"], frames=chunk["frames"], dwell_s=chunk["dwell_s"])
    trial = try_detector(world, chunk["seed"])
    return {
        "months": trial.healthy_minutes / MONTH,
        "warns": trial.early_warns,
        "pages": trial.early_pages,
        "frozen": trial.early_frozen,
    }


def _fault(chunk: dict) -> dict:
    """Minutes to page and to warn of each device that was found within its days; a day at most passes before."""
    fault = chunk["fault"]
    days = FAULTS[fault]
    trial = try_detector(World(sites=3), chunk["seed"], fault=fault, days=WATCHED.get(fault, days) + 1)
    found = {}
    for level, first in (("page", trial.page), ("warn", trial.warn)):
        minutes = np.minimum(first, trial.frozen)
        found[level] = sorted(int(minute) for minute in minutes if minute <= days * DAY)
    return {"devices": len(trial.page), "within_days": days, **found}


def _changeover(chunk: dict) -> dict:
    """Within 7 days: with peers the alerts that the monitor opens, without them the devices that warn and page."""
    world = World(sites=4)
    if chunk["peers"]:
        return try_alerts(world, chunk["seed"], days=8)._asdict()
    trial = try_detector(world, chunk["seed"], fault="changeover", days=8)
    warned, paged = (int((first <= 7 * DAY).sum()) for first in (trial.warn, trial.page))
    return {"devices": warned, "device_pages": paged}


def _cost(chunk: dict) -> dict:
    """Microseconds a report of `Detector.update` in batches of 1,000 devices, each with a reference of its own; the
    best of 60 batches, compiled and with numpy alone, after an hour of reports."""
    from device_agent.detector import Detector, reference_from_history, streams, threshold

    classes = chunk["classes"]
    rng = np.random.default_rng(51)
    days = list(simulate(World(sites=1), 1, rng))
    chosen, reference = learn(days)
    counts, same = days[0].counts.astype(np.int64), days[0].same.astype(np.int64)
    if classes > 2:
        shares = np.full(classes - 1, 1 / (classes - 1))
        counts = np.concatenate([counts[..., :24], _split(counts[..., 24:], shares, rng)], axis=-1)
        pooled = counts.sum(axis=(0, 1)).reshape(classes, 24).astype(np.float64)
        chosen = streams(["good", *["defect"] * (classes - 1)], pooled)
        reference = reference_from_history(counts, same, chosen)
    rows, frames, best = np.arange(1000), np.full(1000, 600), {}
    for name, compiled in (("compiled_us", True), ("numpy_us", False)):
        detector = Detector(chosen, reference.take(rows % 20), page=threshold(1000), compiled=compiled)
        times = []
        for minute in range(120):
            now = (rows % 20, minute + rows // 20)
            report = counts[now], frames, same[now], same[now] * 0
            start = time.perf_counter()
            detector.update(rows, *report)
            times.append(time.perf_counter() - start)
        best[name] = round(min(times[60:]) * 1e3, 2)
    memory = {"stored_bytes": len(detector.state(0)), "device_bytes": detector.device_bytes}
    return best | memory | {"streams": len(chosen.names)}


def _split(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts (..., 24) dealt out to classes: (..., classes * 24)."""
    dealt = rng.multinomial(counts, shares)
    return np.moveaxis(dealt, -1, -2).reshape(*counts.shape[:-1], -1)


def _seed_list(text: str) -> list[int]:
    """Seeds of "7" or "7-10" or "7,9"."""
    seeds: list[int] = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def main() -> None:
    """Run one part, or render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["healthy", "faults", "worlds", "changeover", "cost", "render"])
    parser.add_argument("--seeds", type=_seed_list, default=[1])
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    code = fingerprint()
    lines = PARTS.read_text().splitlines() if PARTS.exists() else []
    kept = [part for part in map(json.loads, lines) if part.get("code") == code]
    if options.part == "render":
        text = render(kept, code)
        (HERE / "results.md").write_text(text)
        print(text)
        return
    wanted = [
        one for one in chunks(options.part, options.seeds) if not any(one.items() <= part.items() for part in kept)
    ]
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        for number, done in enumerate(as_completed([pool.submit(run, chunk) for chunk in wanted]), start=1):
            line = json.dumps(done.result() | {"code": code})
            with PARTS.open("a") as out:
                out.write(line + "\n")
            print(line if len(line) < 400 else line[:400] + " ...", flush=True)
            print(f"{number} of {len(wanted)} chunks", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
