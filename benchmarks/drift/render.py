"""Tables of results.md from measured parts."""

from __future__ import annotations

import math
import os
import platform
import statistics

import numpy as np

from fleet.trials import upper_bound

GOAL = {
    "ood1": 1268,
    "ood5": 50,
    "ood20": 7,
    "defects3": 1104,
    "blind": 466,
    "bulk": 39,
    "ramp": 2462,
    "frozen": 7,
}
"""Median minutes of the e-CUSUM with r = 1.2, page: what is to be beaten."""


def render(parts: list[dict], code: str) -> str:
    """results.md."""
    by = {
        name: [part for part in parts if part["part"] == name]
        for name in ("healthy", "fault", "changeover", "bundle", "cost")
    }
    out = [
        "# Drift detector: measured in simulation",
        "",
        f"Machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, numpy "
        f"{np.__version__}. Worlds: `fleet/worlds`. Page threshold 16.1 (1,000 devices, one false page a week), "
        f"warn 10.7, reference of 3 days, tolerance 1.2. Code {code}. All figures are measured, none is predicted.",
        "",
        "## False alarms on healthy devices",
        "| frames a minute | dwell | seeds | device-months | pages | warns | frozen | upper 95 % a month: pages "
        "| frozen | warns |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for frames, dwell_s in dict.fromkeys((part["frames"], part["dwell_s"]) for part in by["healthy"]):
        rows = [part for part in by["healthy"] if (part["frames"], part["dwell_s"]) == (frames, dwell_s)]
        keys = ("months", "pages", "warns", "frozen")
        months, pages, warns, frozen = (sum(part[key] for part in rows) for key in keys)
        bounds = " | ".join(f"{upper_bound(events, months):.4f}" for events in (pages, frozen, warns))
        out.append(
            f"| {frames} | {dwell_s:g} s | {_seeds(rows)} | {months:.0f} | {pages} | {warns} | {frozen} | {bounds} |"
        )
    out += [
        "",
        "## Delays, 600 frames a minute, dwell 2 s (median minutes from onset with its 95 % interval)",
        "| fault | seeds | runs | page | to beat | paged | within days | warn |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for fault in dict.fromkeys(part["fault"] for part in by["fault"]):
        rows = [part for part in by["fault"] if part["fault"] == fault]
        runs = sum(part["devices"] for part in rows)
        page, warn = ([minute for part in rows for minute in part[level]] for level in ("page", "warn"))
        out.append(
            f"| {fault} | {_seeds(rows)} | {runs} | {median(page, runs)} | {GOAL[fault]} | {len(page) / runs:.0%} | "
            f"{rows[0]['within_days']} | {median(warn, runs)} |"
        )
    out += [
        "",
        "## Change-over of four sites of 20 devices, 7 days",
        "| peers | seed | devices alerted | site alerts |",
    ]
    out += ["| --- | --- | --- | --- |"]
    for part in by["changeover"]:
        sites = f"{part['sites']}, of {part['changed_sites']} sites" if part["peers"] else "not tried"
        out.append(f"| {part['peers']} | {part['seed']} | {part['devices']} of 80 | {sites} |")
    out += _bundle(by["bundle"])
    out += ["", "## Cost", "| classes | streams | numba, us a report | numpy | bytes a device | of them stored |"]
    out += ["| --- | --- | --- | --- | --- | --- |"]
    for part in {part["classes"]: part for part in by["cost"]}.values():
        out.append(
            f"| {part['classes']} | {part['streams']} | {part['compiled_us']} | {part['numpy_us']} | "
            f"{part['device_bytes']} | {part['stored_bytes']} |"
        )
    out += [
        "",
        "Batches of 1,000 devices, best of 60. Bytes: W, effect, hysteresis, pairs, and a reference of its own.",
    ]
    return "\n".join(out) + "\n"


def _seeds(rows: list[dict]) -> str:
    return ", ".join(str(part["seed"]) for part in rows)


def median(found: list[int], runs: int) -> str:
    """Median of delays of which `found` are known and the others longer, with its 95 % interval of order statistics.

    >>> median([5, 1, 3, 2, 4, 9], 7), median([1], 3)
    ('4 (1 to never)', 'never (1 to never)')
    """
    whole = sorted([*map(float, found), *[math.inf] * (runs - len(found))])
    below, total = 0, math.comb(runs, 0) * 0.5**runs
    while total + math.comb(runs, below + 1) * 0.5**runs <= 0.025 and below + 1 < runs // 2:
        below += 1
        total += math.comb(runs, below) * 0.5**runs
    low, middle, high = (whole[at] for at in (below, runs // 2, runs - 1 - below))
    if runs % 2 == 0:
        middle = statistics.median(whole)
    return f"{_minutes(middle)} ({_minutes(low)} to {_minutes(high)})"


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


def _minutes(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0f}"
