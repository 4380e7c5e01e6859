"""public.md: the table of all methods, and what a reader needs to doubt it."""

from __future__ import annotations

import math
import os
import platform

from draw import Plan

from fleet.trials import upper_bound

DAY = 1440
MONTH = 30 * DAY
LIKELY = 0.05
TEXT = """\
World: {world}. Reference: 3 healthy days of each device. Watched: {plan}. The worlds are our own (`fleet/worlds`); to
try others, write the same .npy files and run `libraries/with_*.py FOLDER OUT.json`.

- **False alarms** a device-month are counted on healthy devices. An alarm stands until it has not come back for six
  hours, whatever the method, as nobody would be called twice. The limit is the exact Poisson one, as if alarms came
  independently.
- **Standing**: share of the healthy devices' time in which a false alarm stands. A method that alarms all the time has
  few of them, as none ever ends to make place for another: read both columns.
- **Faults**: median minutes from the onset to the first minute that the method is up, 95 % interval of the median from
  order statistics, and the share of devices found in the days watched. **~~Struck out~~ where it is no detection**:
  *healthy too* is the share of moments on healthy devices after which the same method was up within the same minutes;
  from 5 % on the cell tells of the method's false alarms rather than of the fault.
- **Settings**: each library with its own default, and with one setting tuned by hand that is the same everywhere: a
  threshold of 1.5 times what the device's own reference reached; for river, values scaled by the reference's deviation.
  Hourly methods cannot be sooner than the end of the hour, so KL and KS are there by 10 minutes too. Ours: one false
  page a week for 1,000 devices, no peers.
- **Input**: all get counts by class and confidence bin; river the mean confidence of each minute; alibi-detect and
  evidently every tenth frame of an hour, unfolded from the counts. Only ours reads the pairs of equal
  frames that reports carry too: the libraries have no input for them. They are what finds *frozen* in 2 minutes, and
  what says how correlated frames are.
- **us a report**: time of the run on healthy lines, batches of 20 devices where the method takes batches; whatever
  else the machine did is in it.

All figures are measured, none is predicted.
"""


def limit(events: int, exposure: float) -> float:
    """Upper 95 % limit of a Poisson rate; over 500 events by Wilson and Hilferty's formula.

    >>> round(limit(0, 6.0), 3), round(limit(600, 1.0)), round(upper_bound(600, 1.0))
    (0.499, 642, 642)
    """
    if events <= 500:
        return upper_bound(events, exposure)
    n = events + 1
    return n * (1 - 1 / (9 * n) + 1.6449 / (3 * math.sqrt(n))) ** 3 / exposure


def median(delays: list[int | None], within: int) -> tuple[float, float, float, float]:
    """Median delay, its 95 % interval from order statistics (binomial), inf for never; and the share found.

    >>> median([5, 7, 9, None], 100)
    (9.0, 5.0, inf, 0.75)
    """
    found = sorted(math.inf if d is None or d > within else float(d) for d in delays)
    n, chance, low = len(found), 0.0, 0
    while low < n // 2 and (chance := chance + math.comb(n, low) / 2**n) <= 0.025:
        low += 1
    first, last = max(low - 1, 0), min(n - low, n - 1)
    return found[n // 2], found[first], found[last], sum(map(math.isfinite, found)) / n


def by_chance(waits: list[int | None], delay: float) -> float:
    """Share of the waits (quantiles) that are at most `delay`.

    >>> by_chance([1, 1, 30, None], 5)
    0.5
    """
    return sum(wait is not None and wait <= delay for wait in waits) / len(waits)


def cell(delays: list[int | None], waits: list[int | None], days: int) -> str:
    """One fault of one method.

    >>> cell([5, 7, 9, 11], [None, None], 1), cell([1, 1, 1, 1], [1, 1, 2, None], 1)
    ('9 (5 to 11), 100 %', '~~1 (1 to 1), 100 %~~ healthy too: 50 %')
    >>> cell([None, None], [None, None], 1)
    'never, 0 %'
    """
    middle, first, last, share = median(delays, days * DAY)
    said = ["never" if math.isinf(value) else f"{value:.0f}" for value in (middle, first, last)]
    text = said[0] if said[0] == said[1] == "never" else f"{said[0]} ({said[1]} to {said[2]})"
    text += f", {percent(share)}"
    healthy = by_chance(waits, middle if math.isfinite(middle) else days * DAY)
    return f"~~{text}~~ healthy too: {percent(healthy)}" if share and healthy >= LIKELY else text


def percent(share: float) -> str:
    """As people write it.

    >>> percent(0.123), percent(0.00123), percent(1), percent(0)
    ('12 %', '0.12 %', '100 %', '0 %')
    """
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share:.0%}".replace("%", " %")


def render(found: list[dict], mode: str, made: dict) -> str:
    """The page.

    Args:
        found: what the runners wrote, one a library.
        mode: "quick" or "full".
        made: what `draw` wrote.
    """
    plan: Plan = made["plan"]
    faults = [fault for fault in plan if fault != "none"]
    watched = "; ".join(f"{fault}: {sites * 20} devices, {days} d" for fault, (sites, days) in plan.items())
    found = sorted(found, key=lambda one: (one["library"] != "lineside", one["library"]))
    lines = [
        "# Drift detectors on the same simulated lines",
        "",
        f"Written by `python benchmarks/drift/run.py --{mode} --seed {made['seed']}` on {os.cpu_count()} cores, "
        f"{platform.machine()}, Python {platform.python_version()}; counts drawn by code {made['code']}.",
        "",
        TEXT.format(world="600 frames a minute, parts 2 s in view, slow harmless change", plan=watched),
        "| library | versions | code of runner and library | seconds |",
        "| --- | --- | --- | --- |",
    ]
    for one in found:
        versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
        seconds = sum(case["seconds"] for cases in one["results"].values() for case in cases.values())
        lines.append(f"| {one['library']} | {versions} | {one['code']} | {seconds:.0f} |")
    lines += [
        "",
        "| method | false alarms a device-month (upper 95 %) | standing | " + " | ".join(faults) + " | us a report |",
        "| --- | --- | --- | " + "--- | " * len(faults) + "--- |",
    ]
    lines += [
        _row(one["library"], name, results, plan, faults) for one in found for name, results in one["results"].items()
    ]
    lines += ["", "Medians below that of our page, cells that are struck out aside:", ""]
    return "\n".join(lines + sooner(found, plan, faults)) + "\n"


def sooner(found: list[dict], plan: Plan, faults: list[str]) -> list[str]:
    """A line for each fault: methods that are sooner than our page, and how often they are wrong in a device-month."""
    lines = []
    for fault in faults:
        within, better = plan[fault][1] * DAY, []
        ours = next(one for one in found if one["library"] == "lineside")["results"]["detector, page"]
        mine = median(ours[fault]["delays"], within)[0]
        for one in found:
            for name, results in one["results"].items():
                quiet, middle = results["none"], median(results[fault]["delays"], within)[0]
                if name != "detector, warn" and middle < mine and by_chance(quiet["waits"], middle) < LIKELY:
                    rate = quiet["false"] / quiet["healthy_minutes"] * MONTH
                    better.append((middle, f"{one['library']}: {name} {middle:.0f}, {rate:.2g} false alarms"))
        said = "; ".join(text for _, text in sorted(better)) or "none"
        lines.append(f"- {fault} (ours {mine:.0f}): {said}")
    return lines


def _row(library: str, name: str, results: dict, plan: Plan, faults: list[str]) -> str:
    quiet = results["none"]
    months = quiet["healthy_minutes"] / MONTH
    false = f"{quiet['false'] / months:.3g} ({limit(quiet['false'], months):.3g})"
    cells = [cell(results[fault]["delays"], quiet["waits"], plan[fault][1]) for fault in faults]
    stands, cost = (
        quiet["standing_minutes"] / quiet["healthy_minutes"],
        quiet["seconds"] / quiet["healthy_minutes"] * 1e6,
    )
    return f"| {library}: {name} | {false} | {percent(stands)} | " + " | ".join(cells) + f" | {cost:.1f} |"
