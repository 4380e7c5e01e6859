"""Simulated lines as .npy files, drawn once, so that every library reads the same counts."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from fleet.worlds import DAY, World, simulate_sites, site_rng

ROOT = Path(__file__).resolve().parents[2]
REFERENCE_DAYS = 3
Plan = dict[str, tuple[int, int]]
"""Fault: sites of 20 devices, days watched; the onset falls into the first half day."""
QUICK: Plan = {
    "none": (1, 10), "ood5": (1, 2), "ood20": (1, 1), "blind": (1, 2), "bulk": (1, 2), "ramp": (1, 3),
    "frozen": (1, 1),
}  # fmt: skip
FULL: Plan = {
    "none": (5, 30), "ood1": (3, 8), "ood5": (3, 8), "ood20": (3, 3), "defects3": (3, 8), "blind": (3, 8),
    "bulk": (3, 3), "ramp": (3, 15), "frozen": (3, 2),
}  # fmt: skip
PLANS = {"quick": QUICK, "full": FULL}


def draw(folder: Path, plan: Plan, seed: int) -> None:
    """The counts of every scenario, unless the same code has drawn them here from the same seed, see `made.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [Path(__file__), *sorted((ROOT / "fleet" / "worlds").glob("*.py"))]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]
    made, note = json.dumps({"seed": seed, "plan": plan, "code": code}), folder / "made.json"
    if note.exists() and note.read_text() == made:
        return
    note.unlink(missing_ok=True)
    for old in folder.glob("*.npy"):
        old.unlink()
    for number, (fault, (sites, days)) in enumerate(plan.items()):
        world, rngs = World(), [site_rng(seed + number, site) for site in range(sites)]
        onset = np.random.default_rng([seed, number]).integers(60, DAY // 2, sites * world.devices)
        at = onset + REFERENCE_DAYS * DAY if fault != "none" else 10**9
        drawn = list(simulate_sites(world, REFERENCE_DAYS + days, rngs, fault=fault, onset=at))
        learn, watch = drawn[:REFERENCE_DAYS], drawn[REFERENCE_DAYS:]
        arrays = {
            "learn": _joined(learn, 0),
            "learn_same": _joined(learn, 1),
            "same": _joined(watch, 1),
            "identical": _joined(watch, 2),
            "onset": onset if fault != "none" else np.full_like(onset, 10**9),
            "watch": _joined(watch, 0),
        }
        for name, array in arrays.items():
            np.save(folder / f"{fault}.{name}.npy", array)
        print(f"drawn: {fault}", file=sys.stderr)
    note.write_text(made)


def _joined(days: list, part: int) -> np.ndarray:
    return np.concatenate([day[part] for day in days], axis=1)
