"""How often the detector is wrong on healthy lines, and how soon it is right on faulty ones.

python benchmarks/drift/table.py healthy --seed 101      one part; its figures are added to parts.jsonl
python benchmarks/drift/table.py faults --seed 7
python benchmarks/drift/table.py worlds --seed 31
python benchmarks/drift/table.py changeover --seed 41
python benchmarks/drift/table.py cost --seed 51
python benchmarks/drift/table.py render                  results.md from parts.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np

from fleet.trials import learn, summarise, try_detector, upper_bound
from fleet.worlds import DAY, World, simulate

HERE = Path(__file__).parent
FAULTS = {"ood1": 7, "ood5": 7, "ood20": 7, "defects3": 7, "blind": 7, "bulk": 7, "ramp": 14, "frozen": 7}
WATCHED = {"ood5": 2, "ood20": 2, "bulk": 2, "frozen": 2}
WORLDS = [(60, 2.0), (3600, 2.0), (600, 10.0), (600, None)]
MONTH = 30 * DAY


def healthy(seed: int) -> list[dict]:
    """False alarms of 100 device-months in the main world."""
    return [_healthy(World(sites=5), seed)]


def worlds(seed: int) -> list[dict]:
    """False alarms of 40 device-months in each of the other worlds."""
    return [_healthy(World(sites=2, frames=frames, dwell_s=dwell), seed) for frames, dwell in WORLDS]


def _healthy(world: World, seed: int) -> dict:
    trial = try_detector(world, seed)
    return {
        "part": "healthy",
        "world": f"{world.frames} frames a minute, dwell {world.dwell_s:g} s"
        if world.dwell_s
        else f"{world.frames} frames a minute, independent",
        "seed": seed,
        "months": trial.healthy_minutes / MONTH,
        "warns": trial.early_warns,
        "pages": trial.early_pages,
        "frozen": trial.early_frozen,
    }


def faults(seed: int) -> list[dict]:
    """Delays of 60 devices for each fault in the main world; a day at most passes before the onset."""
    out = []
    for fault, within in FAULTS.items():
        trial = try_detector(World(sites=3), seed, fault=fault, days=WATCHED.get(fault, within) + 1)
        cell = summarise(fault, trial, within)
        out.append({"part": "fault", "seed": seed} | {name: getattr(cell, name) for name in cell.__struct_fields__})
    return out


def changeover(seed: int) -> list[dict]:
    """Devices alerted within 7 days of a change-over of four sites, with and without peers."""
    out = []
    for peers in (False, True):
        trial = try_detector(World(sites=4), seed, fault="changeover", days=8, peers=peers)
        warned, paged = (int((first <= 7 * DAY).sum()) for first in (trial.warn, trial.page))
        out.append(
            {"part": "changeover", "seed": seed, "peers": peers, "devices": 80, "warned": warned, "paged": paged}
        )
    return out


def cost(seed: int) -> list[dict]:
    """Microseconds a report of `Detector.update` in batches of 1,000 devices, best of 5 passes."""
    from device_agent.detector import Detector, threshold

    days = list(simulate(World(sites=1), 1, np.random.default_rng(seed)))
    chosen, reference = learn(days)
    rows = np.arange(1000)
    detector = Detector(chosen, reference.take(rows % 20), page=threshold(1000))
    frames, times = np.full(1000, 600), []
    for minute in range(25):
        counts, same = days[0].counts[rows % 20, minute], days[0].same[rows % 20, minute]
        start = time.perf_counter()
        detector.update(rows, counts, frames, same, same * 0)
        times.append(time.perf_counter() - start)
    best = min(sum(times[i : i + 5]) / 5 for i in range(0, 25, 5))
    size = len(detector.state(0))
    return [{"part": "cost", "seed": seed, "us": best * 1e3, "bytes": size, "streams": len(chosen.names)}]


def render(parts: list[dict]) -> str:
    """results.md."""
    by = {
        name: [part for part in parts if part["part"] == name]
        for name in ("healthy", "fault", "changeover", "bundle", "cost")
    }
    out = [
        "# Drift detector: measured in simulation",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy "
        f"{np.__version__}. Worlds: `fleet/worlds.py`. Page threshold 16.1 (1,000 devices, one false page a week), "
        "reference of 3 days, tolerance 1.2.",
        "",
        "## False alarms on healthy devices",
        "| world | seeds | device-months | pages | warns | frozen | upper 95 %: pages a month | warns |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for world in dict.fromkeys(part["world"] for part in by["healthy"]):
        rows = [part for part in by["healthy"] if part["world"] == world]
        months, pages, warns, frozen = (
            sum(part[key] for part in rows) for key in ("months", "pages", "warns", "frozen")
        )
        seeds = ", ".join(str(part["seed"]) for part in rows)
        out.append(
            f"| {world} | {seeds} | {months:.0f} | {pages} | {warns} | {frozen} | {upper_bound(pages, months):.4f} | "
            f"{upper_bound(warns, months):.4f} |"
        )
    out += [
        "",
        "## Delays, 600 frames a minute, dwell 2 s (median minutes from onset; never: under half found)",
        "",
        "The `tail+` and `/runs` streams and the bets downwards were chosen with these faults, and seed 7, in view; "
        "seed 8 was run once, afterwards. With the low, def and bulk streams alone and the bets of the first design, "
        "seed 7 and 100 devices gave: ood1 1115, ood5 50, ood20 7, defects3 978, blind 647, bulk 47, ramp 2431, "
        "frozen 1.",
        "",
        "| fault | seed | devices | within days | page | paged | warn | warned |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for part in by["fault"]:
        page, warn = (_minutes(part[f"{level}_median_min"]) for level in ("page", "warn"))
        out.append(
            f"| {part['fault']} | {part['seed']} | {part['devices']} | {part['within_days']} | {page} | "
            f"{part['page_share']:.0%} | {warn} | {part['warn_share']:.0%} |"
        )
    out += [
        "",
        "## Change-over of four sites of 20 devices",
        "| peers | seed | warned | paged |",
        "| --- | --- | --- | --- |",
    ]
    out += [
        f"| {part['peers']} | {part['seed']} | {part['warned']} of 80 | {part['paged']} of 80 |"
        for part in by["changeover"]
    ]
    out += _bundle(by["bundle"])
    out += ["", "## Cost"] + [
        f"{part['us']:.1f} microseconds a report in batches of 1,000, {part['bytes']} bytes of memory a device "
        f"({part['streams']} streams of a two-class model)."
        for part in by["cost"]
    ]
    return "\n".join(out) + "\n"


def _bundle(parts: list[dict]) -> list[str]:
    """Section of `bundle.py`: medians, the worst, and how many of all take ten reports or more."""
    out = [
        "",
        "## Reports of a second against a bundle alone (seeds 0 up for healthy, 1000 to 1019 for dirt)",
        "| validation images | healthy: seeds x 5 devices x 10 min | warns | pages | frozen | median bound of low+ | "
        "30 % dirt: median, worst, 10 or more | 60 % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for part in parts:
        dirt = [
            "{:.0f}, {:.0f}, {} of {}".format(*part[f"dirt{share}"]).replace("inf", "over 60")
            for share in ("0.3", "0.6")
        ]
        out.append(
            f"| {part['images']} | {part['seeds']} | {part['warned']} | {part['paged']} | {part['frozen']} | "
            f"{part['bound']:.1%} | {dirt[0]} | {dirt[1]} |"
        )
    return out


def _minutes(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f}"


def main() -> None:
    """Run one part, or render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["healthy", "faults", "worlds", "changeover", "cost", "render"])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    store = HERE / "parts.jsonl"
    if options.part != "render":
        lines = [json.dumps(row) for row in globals()[options.part](options.seed)]
        print("\n".join(lines))
        with store.open("a") as out:
            out.write("\n".join(lines) + "\n")
        return
    text = render([json.loads(line) for line in store.read_text().splitlines()])
    (HERE / "results.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
