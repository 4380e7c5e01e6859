"""Reports of a second against a bundle alone: false alarms, and delays after a lens gets dirty, by validation size.

    python benchmarks/drift/bundle.py        adds its figures to parts.jsonl; table.py render shows them

Five devices, 25 independent frames a report, ten minutes. Validation images are half good, the line is stated and
drawn 99:1 from the same shares as the validation images: no gap between the two. Dirt moves a share of all frames to
low confidence, in either class.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from table import fingerprint

from device_agent.contract.manifest import Baseline
from device_agent.detector import Detector, reference_from_baseline, streams, threshold, warn_threshold, weighted_cells
from fleet.worlds import AMBIGUOUS, DEFECT, GOOD_A, GOOD_B, components

DEVICES, FRAMES, A_WEEK = 5, 25, 604_800
PAGE = threshold(DEVICES, A_WEEK, 1)
PARTS = components()
GOOD = 0.4925 * (PARTS[GOOD_A] + PARTS[GOOD_B]) + 0.006 * PARTS[AMBIGUOUS]
BAD = 0.005 * PARTS[DEFECT] + 0.004 * PARTS[AMBIGUOUS]
GOOD, BAD = GOOD / GOOD.sum(), BAD / BAD.sum()
LINE = 0.99 * GOOD + 0.01 * BAD
DIRT = np.zeros(48)
DIRT[3:8] = DIRT[27:32] = 0.1


def watch(seed: int, images: int, windows: int, dirt: float, onset: int) -> tuple[np.ndarray, np.ndarray, int, float]:
    """First reports (devices,) of warn and page counted from onset, frozen verdicts, and the bound of low+."""
    rng = np.random.default_rng(seed)
    counts = np.stack([rng.multinomial(images - images // 2, GOOD), rng.multinomial(images // 2, BAD)])
    baseline = Baseline.of(counts.reshape(2, 2, 24), [0.99, 0.01])
    chosen = streams(["good", "defect"], weighted_cells(baseline))
    reference = reference_from_baseline(baseline, chosen)
    detector = Detector(chosen, reference.repeat(DEVICES), page=PAGE, warn=warn_threshold(PAGE, A_WEEK))
    rows, n, first, frozen = np.arange(DEVICES), np.full(DEVICES, FRAMES), np.full((2, DEVICES), np.inf), 0
    ladders = np.cumsum(LINE), np.cumsum((1 - dirt) * LINE + dirt * DIRT)
    for window in range(windows):
        drawn = np.searchsorted(ladders[window >= onset], rng.random((DEVICES, FRAMES))).clip(max=47)
        cells = np.bincount((drawn + 48 * rows[:, None]).ravel(), minlength=48 * DEVICES).reshape(DEVICES, 48)
        found = detector.update(rows, cells, n, (np.diff(drawn, axis=1) == 0).sum(axis=1), n * 0)
        levels = np.array([found.warn, found.page])
        first = np.minimum(first, np.where(levels, window + 1 - onset, np.inf))
        frozen += int(found.frozen.sum())
    return first[0], first[1], frozen, float(reference.bound[0, 0])


def main() -> None:
    """All sizes."""
    code = fingerprint()
    for images, seeds in ((100, 20), (200, 20), (300, 200), (600, 20), (1000, 20), (3000, 20)):
        start = time.perf_counter()
        quiet = [watch(seed, images, 600, 0.0, 0) for seed in range(seeds)]
        row = {"part": "bundle", "code": code, "images": images, "seeds": seeds, "minutes": 10}
        row |= {"warned": int(sum(np.isfinite(warn).sum() for warn, _, _, _ in quiet))}
        row |= {"paged": int(sum(np.isfinite(page).sum() for _, page, _, _ in quiet))}
        row |= {"frozen": sum(frozen for _, _, frozen, _ in quiet), "bound": float(np.median([b for *_, b in quiet]))}
        for dirt in (0.3, 0.6):
            trials = [watch(seed, images, 120, dirt, 60) for seed in range(1000, 1020)]
            page = np.concatenate([page for _, page, _, _ in trials])
            late = int((page >= 10).sum())
            row |= {f"dirt{dirt:g}": [float(np.median(page)), float(page.max()), late, len(page)]}
        line = json.dumps(row)
        print(line, f"{time.perf_counter() - start:.0f} s", flush=True)
        with (Path(__file__).parent / "parts.jsonl").open("a") as out:
            out.write(line + "\n")


if __name__ == "__main__":
    main()
