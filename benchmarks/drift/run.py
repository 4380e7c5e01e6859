"""Drift detectors of the field and ours on the same simulated lines: false alarms, delays, share detected.

python benchmarks/drift/run.py --quick                 7 healthy device-months, 6 faults of 20 devices: minutes
python benchmarks/drift/run.py --full                  100 device-months, 8 faults of 60 devices: hours; resumable
python benchmarks/drift/run.py --render                public.md and the rates of the textbook tests, from what is there

Counts are drawn once and written as .npy files; every library reads the same ones in a process of its own.
alibi-detect, evidently and river live in a virtual environment that is made under --work with the standard venv and
pip.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from draw import PLANS, draw
from public import MONTH, limit, render

HERE, ROOT = Path(__file__).resolve().parent, Path(__file__).resolve().parents[2]
OWN, FOREIGN = ("lineside", "thresholds"), ("river", "alibi", "evidently")


def environment(work: Path) -> Path:
    """Python of the environment with the other libraries, made if it is not there."""
    folder = work / "libraries-venv"
    python, complete = folder / "bin" / "python", folder / "complete"
    wanted = HERE / "libraries" / "requirements.txt"
    if not complete.exists() or complete.read_text() != wanted.read_text():
        print(f"making {folder}; minutes, once", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", wanted], check=True, stdout=sys.stderr)
        complete.write_text(wanted.read_text())
    return python


def compare(work: Path, mode: str, libraries: list[str]) -> None:
    """Run every library; each in its own process, one after the other."""
    for library in libraries:
        python = Path(sys.executable) if library in OWN else environment(work)
        runner = HERE / "libraries" / f"with_{library}.py"
        out = work / mode / f"{library}.json"
        variables = os.environ | {"PYTHONPATH": f"{ROOT}"} if library in OWN else {"PATH": os.environ["PATH"]}
        began = time.perf_counter()
        subprocess.run([python, runner, work / mode / "data", out], check=True, env=variables)
        print(f"{library}: {time.perf_counter() - began:.0f} s", file=sys.stderr)


def rates(results: dict, mode: str, seed: int) -> str:
    """Source of `fleet/diagnostics/rates.py`: what the product's textbook tests say of themselves.

    Args:
        results: of the runner of lineside.
        mode, seed: of the run.
    """
    rows = {}
    for name, of_case in results.items():
        test, apart, _ = name.partition(" on independent counts")
        if apart:
            months, false = of_case["none"]["healthy_minutes"] / MONTH, of_case["none"]["false"]
            rows[test] = (false, round(months, 2), float(f"{limit(false, months):.3g}"))
    body = "".join(f'    "{name}": {row},\n' for name, row in sorted(rows.items()))
    return (
        '"""False alarms of each test in a device-month of healthy lines: written by `benchmarks/drift/run.py`, not by '
        f'hand."""\n\nMEASURED_ON = "benchmarks/drift/run.py --{mode}, seed {seed}"\n'
        "FALSE_ALARMS_A_MONTH: dict[str, tuple[int, float, float]] = {\n" + body + "}\n"
        '"""Name: false alarms (one that comes back within six hours is the same), device-months watched, upper 95 % '
        'limit of the\nrate a device-month."""\n'
    )


def results_of(work: Path, mode: str, made: dict) -> list[dict]:
    """What the runners found on these counts, finished ones only."""
    found = [json.loads(path.read_text()) for path in sorted((work / mode).glob("*.json"))]
    for one in found:
        whole = {name: cases for name, cases in one["results"].items() if set(cases) == set(made["plan"])}
        if len(whole) < len(one["results"]):
            print(f"{one['library']}: not finished, left out: {set(one['results']) - set(whole)}", file=sys.stderr)
        one["results"] = whole
    return [one for one in found if one["made"] == made]


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
    data = options.work / options.mode / "data"
    if not options.render:
        draw(data, PLANS[options.mode], options.seed)
        compare(options.work, options.mode, options.libraries)
    made = json.loads((data / "made.json").read_text())
    found = results_of(options.work, options.mode, made)
    text = render(found, options.mode, made)
    (HERE / "public.md").write_text(text)
    for one in found:
        if one["library"] == "lineside":
            source = rates(one["results"], options.mode, made["seed"])
            (ROOT / "fleet" / "diagnostics" / "rates.py").write_text(source)
    print(text)


if __name__ == "__main__":
    main()
