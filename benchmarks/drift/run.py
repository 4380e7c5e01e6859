"""Drift detectors of the field and ours on the same simulated lines: false alarms, delays, share detected.

python benchmarks/drift/run.py --quick                 7 healthy device-months, 6 faults: under 5 minutes
python benchmarks/drift/run.py --full                  100 device-months, 8 faults of 60 devices: hours; resumable
python benchmarks/drift/run.py --render                public.md and the rates of the textbook tests, from what is there

Counts are drawn once and written as .npy files; every library reads the same ones in a process of its own.
alibi-detect, evidently and river live in a virtual environment that is made under --work with the standard venv and
pip.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np

from fleet.trials import upper_bound
from fleet.worlds import DAY, World, simulate_sites, site_rng

HERE = Path(__file__).parent
OWN, FOREIGN = ("lineside", "thresholds"), ("river", "alibi", "evidently")
REFERENCE_DAYS = 3
QUICK = {
    "none": (1, 10),
    "ood5": (1, 2),
    "ood20": (1, 1),
    "blind": (1, 2),
    "bulk": (1, 2),
    "ramp": (1, 3),
    "frozen": (1, 1),
}
FULL = {
    "none": (5, 30), "ood1": (3, 8), "ood5": (3, 8), "ood20": (3, 3), "defects3": (3, 8), "blind": (3, 8),
    "bulk": (3, 3), "ramp": (3, 15), "frozen": (3, 2),
}  # fmt: skip
"""Fault: sites of 20 devices, days watched; the onset falls into the first half day."""


def draw(folder: Path, plan: dict[str, tuple[int, int]], seed: int) -> None:
    """The counts of every scenario, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (fault, (sites, days)) in enumerate(plan.items()):
        if (folder / f"{fault}.watch.npy").exists():
            continue
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


def _joined(days: list, part: int) -> np.ndarray:
    return np.concatenate([day[part] for day in days], axis=1)


def environment(work: Path) -> Path:
    """Python of the environment with the other libraries, made if it is not there."""
    folder = work / "libraries-venv"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"making {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        wanted = HERE / "libraries" / "requirements.txt"
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", wanted], check=True, stdout=sys.stderr)
        (folder / "complete").touch()
    return python


def compare(work: Path, mode: str, libraries: list[str]) -> None:
    """Run every library; each in its own process, one after the other."""
    for library in libraries:
        python = Path(sys.executable) if library in OWN else environment(work)
        runner = HERE / "libraries" / f"with_{library}.py"
        out = work / mode / f"{library}.json"
        variables = (
            os.environ | {"PYTHONPATH": f"{HERE.parents[1]}"} if library in OWN else {"PATH": os.environ["PATH"]}
        )
        began = time.perf_counter()
        subprocess.run([python, runner, work / mode / "data", out], check=True, env=variables)
        print(f"{library}: {time.perf_counter() - began:.0f} s", file=sys.stderr)


def middle(delays: list[int | None], within: int) -> str:
    """Median, its 95 % interval from order statistics (binomial), and the share detected.

    >>> middle([5, 7, 9, None], 100)
    '9 (5 to never), 75 %'
    """
    found = sorted(math.inf if d is None or d > within else float(d) for d in delays)
    n, chance, low = len(found), 0.0, 0
    while low < n // 2 and (chance := chance + math.comb(n, low) / 2**n) <= 0.025:
        low += 1
    first, last = max(low - 1, 0), min(n - low, n - 1)
    say = [("never" if math.isinf(found[k]) else f"{found[k]:.0f}") for k in (n // 2, first, last)]
    return f"{say[0]} ({say[1]} to {say[2]}), {np.isfinite(found).mean():.0%}".replace("%", " %")


def render(work: Path, mode: str, seed: int) -> str:
    """public.md."""
    plan = QUICK if mode == "quick" else FULL
    found = [json.loads(path.read_text()) for path in sorted((work / mode).glob("*.json"))]
    versions = {name: number for one in found for name, number in one["versions"].items() if name != "numpy"}
    numpys = ", ".join(f"{one['library']} {one['versions']['numpy']}" for one in found)
    faults = [fault for fault in plan if fault != "none"]
    lines = [
        "# Drift detectors on the same simulated lines",
        "",
        f"Written by `benchmarks/drift/run.py --{mode}`, seed {seed}. Machine: {os.cpu_count()} cores, "
        f"{platform.machine()}, Python {platform.python_version()}; numpy: {numpys}; "
        + ", ".join(f"{name} {number}" for name, number in sorted(versions.items())) + ". All figures are measured.",
        "",
        "World: 600 frames a minute, parts 2 s in view, 3 days of reference, harmless change as in `fleet/worlds`. "
        + "; ".join(f"{fault}: {sites * 20} devices, {days} days" for fault, (sites, days) in plan.items())
        + ". False alarms: rises of a method's state on healthy devices; time up: share of their time that it is up, "
        "which tells of one that never comes down. Delays: median minutes from onset to the first minute that it is up "
        "(95 % interval), and the share detected in the days watched; a method that is up half of the time is soon up. "
        "Each library stands with its own default and one setting tuned by hand: a threshold of 1.5 times what the "
        "device's own reference reached, or, for river, values scaled by the reference's deviation. Microseconds a "
        "report in batches of 20 devices.",
        "",
        "| method | false alarms a device-month (upper 95 %) | time up | " + " | ".join(faults) + " | us a report |",
        "| --- | --- | --- | " + "--- | " * len(faults) + "--- |",
    ]  # fmt: skip
    for one in sorted(found, key=lambda one: one["library"] != "lineside"):
        for name, results in one["results"].items():
            quiet = results["none"]
            months = quiet["healthy_minutes"] / (30 * DAY)
            false = (
                f"{quiet['false'] / months:.3g} ({upper_bound(quiet['false'], months):.3g})"
                if quiet["false"] < 700
                else f"{quiet['false'] / months:.0f}"
            )
            cells = [middle(results[fault]["delays"], plan[fault][1] * DAY) for fault in faults]
            cost = quiet["seconds"] / quiet["healthy_minutes"] * 1e6
            up = f"{quiet['up_minutes'] / quiet['healthy_minutes']:.2%}".replace("%", " %")
            lines.append(f"| {one['library']}: {name} | {false} | {up} | " + " | ".join(cells) + f" | {cost:.1f} |")
    return "\n".join(lines) + "\n"


def write_rates(work: Path, mode: str, seed: int) -> None:
    """The rates that the product's textbook tests state, from these results."""
    results = json.loads((work / mode / "lineside.json").read_text())["results"]
    rows = {}
    for name, of_case in results.items():
        test, apart, _ = name.partition(" on independent counts")
        if apart:
            months = of_case["none"]["healthy_minutes"] / (30 * DAY)
            false = of_case["none"]["false"]
            rows[test] = (false, round(months, 2), float(f"{upper_bound(false, months):.3g}"))
    body = "".join(f'    "{name}": {row},\n' for name, row in sorted(rows.items()))
    (HERE.parents[1] / "fleet" / "diagnostics" / "rates.py").write_text(
        '"""False alarms of each test in a device-month of healthy lines: written by `benchmarks/drift/run.py`."""'
        f'\n\nMEASURED_ON = "benchmarks/drift/run.py --{mode}, seed {seed}"\n'
        "FALSE_ALARMS_A_MONTH: dict[str, tuple[int, float, float]] = {\n" + body + "}\n"
        '"""Name: false alarms, device-months watched, upper 95 % limit of the rate a device-month."""\n'
    )


def main() -> None:
    """Draw, run, render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", dest="mode", action="store_const", const="quick", default="quick")
    parser.add_argument("--full", dest="mode", action="store_const", const="full")
    parser.add_argument("--render", action="store_true", help="only write the table from what is there")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lineside-drift")
    parser.add_argument("--seed", type=int, default=2201)
    parser.add_argument("--libraries", nargs="+", choices=OWN + FOREIGN, default=[*OWN, *FOREIGN])
    options = parser.parse_args()
    if not options.render:
        draw(options.work / options.mode / "data", QUICK if options.mode == "quick" else FULL, options.seed)
        compare(options.work, options.mode, options.libraries)
    text = render(options.work, options.mode, options.seed)
    (HERE / "public.md").write_text(text)
    if "lineside" in options.libraries:
        write_rates(options.work, options.mode, options.seed)
    print(text)


if __name__ == "__main__":
    main()
