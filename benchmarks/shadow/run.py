"""How often a shadow's recommendation is wrong, and how soon it is right.

python benchmarks/shadow/run.py [--runs 200] [--seed 1] [--write]

Simulated: devices that serve 60 frames a minute; a frame stays that of the frame before with probability
exp(-1 s / tau) (the hold process); the candidate sees every k-th frame, and now and then misses one. Rates wander by
15 % with the day. People label 20 disagreements a day, drawn by lot. After each day the product's own `recommend` is
asked, and the first promotion or rejection ends a run. Everything printed is counted in these runs, limits are exact
(Clopper and Pearson).
With --write the table goes to results.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from device_agent.contract.files import write_whole
from fleet.shadow.comparison import ALPHA, HOURS, MARGIN, TOLERANCE, Terms, change_of, recommend
from fleet.shadow.disagreement import independent, limits, repeat, watch
from fleet.shadow.labelled import Outcomes
from fleet.shadow.tally import Counts
from fleet.triggers.evidence import exact_interval

HERE = Path(__file__).parent
MINUTE_FRAMES, EXPECTED, LABELS, DEFECT_SHARE = 60, 0.01, 20, 0.3
CELLS = np.array([0.3, 0.25, 0.2, 0.15, 0.1])


class Case(NamedTuple):
    """A candidate: how often it disagrees, and of these disagreements the shares in which it is right, and in which
    the model that serves is. `labels` a day; `tau_s` of the frames, of which it sees every `every`-th."""

    name: str
    wrong: str
    rate: float
    better: float
    worse: float
    labels: int = LABELS
    every: int = 10
    tau_s: float = 2.0
    days: int = 14
    devices: int = 4


CASES = (
    Case("as good, disagrees as expected", "reject", EXPECTED, 0.45, 0.45),
    Case("as good, frames held 10 s, sees each", "reject", EXPECTED, 0.45, 0.45, every=1, tau_s=10.0, days=4),
    Case("as good, disagrees on 1.5 x", "reject", TOLERANCE * EXPECTED, 0.45, 0.45),
    Case("as good, disagrees on 3 x", "reject", 3 * EXPECTED, 0.45, 0.45),
    Case("hardly disagrees, no labels", "reject", 0.0005, 0.45, 0.45, labels=0),
    Case("worse by the margin, no labels", "promote", MARGIN, 0.0, 1.0, labels=0),
    Case("worse by the margin, held 10 s, no labels", "promote", MARGIN, 0, 1, labels=0, every=1, tau_s=10.0, days=4),
    Case("worse by the margin, disagrees on 1 %", "promote", EXPECTED, 0.35, 0.55),
    Case("worse by 0.5 points", "promote", EXPECTED, 0.20, 0.70),
    Case("better by 0.5 points", "reject", EXPECTED, 0.70, 0.20),
)


def frames_of(case: Case, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[Counts]]:
    """Frames (hours, devices) that the candidate saw, those on which both disagree, and counts of the frames served."""
    count, per_hour = case.days * 24, 60 * MINUTE_FRAMES // case.every
    rho = np.exp(-1 / case.tau_s * 60 / MINUTE_FRAMES)
    frames, apart = np.full((count, case.devices), float(per_hour)), np.zeros((count, case.devices))
    counts = []
    for device in range(case.devices):
        steps = count * per_hour
        gaps = case.every * rng.geometric(0.9, steps)
        fresh = rng.random(steps) >= rho**gaps
        fresh[0] = True
        day = np.exp(0.15 * np.sin(2 * np.pi * (np.arange(count) / 24 + rng.random())))
        rate = case.rate * np.repeat(day / max(1.0, day.mean()), per_hour)
        drawn = rng.random(steps) < rate
        held = drawn[np.maximum.accumulate(np.where(fresh, np.arange(steps), 0))]
        apart[:, device] = held.reshape(count, per_hour).sum(axis=1)
        pairs = count * 3600 - count * 60
        same = int(rng.binomial(pairs, rho + (1 - rho) * (CELLS**2).sum()))
        served = dict(enumerate((CELLS * count * 3600).astype(int).tolist()))
        counts.append(Counts(reports=count * 60, frames=steps, same=same, served=served))
    return frames, apart, counts


def one_run(case: Case, rng: np.random.Generator) -> tuple[str, int, int | None]:
    """The first recommendation to do something, after how many days, and the hour of the alarm."""
    frames, apart, counts = frames_of(case, rng)
    rho = np.array([repeat(one) for one in counts])
    watched = watch(frames, apart, rho, EXPECTED, tolerance=TOLERANCE, hours=HOURS, alpha=ALPHA)
    tallied = np.zeros(6, int)
    for day in range(1, case.days + 1):
        until = day * 24
        seen, other = frames[:until].sum(axis=0), apart[:until].sum(axis=0)
        shares = np.array([case.better, case.worse, 1 - case.better - case.worse])
        both = np.concatenate([shares * (1 - DEFECT_SHARE), shares * DEFECT_SHARE])
        tallied += rng.multinomial(min(case.labels, int(other.sum())), both / both.sum())
        labelled, defects = Outcomes(*(tallied[:3] + tallied[3:]).tolist()), Outcomes(*tallied[3:].tolist())
        low, high = limits(seen, other, rho, ALPHA / 2)
        worth = float(sum(independent(n, r) for n, r in zip(seen, rho, strict=True)))
        shown = watched if watched.alarm is not None and watched.alarm < until else None
        said, _ = recommend(
            worth, until, high, change_of(low, high, labelled), shown, labelled, defects, Terms(EXPECTED)
        )
        if said != "keep watching":
            return said, day, watched.alarm
    return "keep watching", case.days, watched.alarm


def row(case: Case, runs: int, seed: int) -> str:
    """A line of the table."""
    said = [one_run(case, np.random.default_rng([seed, CASES.index(case), run])) for run in range(runs)]
    cells = [case.name]
    for word in ("promote", "reject"):
        days = [day for one, day, _ in said if one == word]
        low, high = exact_interval(len(days), runs)
        delay = f", median day {np.median(days):.0f}" if days else ""
        mark = " (wrong)" if word == case.wrong else ""
        cells.append(f"{len(days) / runs:.1%}{mark}, {low:.1%} to {high:.1%}{delay}")
    alarms = [hour for *_, hour in said if hour is not None]
    delay = f", median hour {np.median(alarms) + 1:.0f}" if alarms else ""
    cells.append(f"{len(alarms) / runs:.1%}{delay}")
    return "| " + " | ".join(cells) + f" | {case.days} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    lines = [
        "# A candidate beside the model that serves",
        "",
        f"Measured by `python benchmarks/shadow/run.py --runs {chosen.runs} --seed {chosen.seed} --write`, in "
        f"{chosen.runs} simulated runs a line.",
        f"Stated: a false promotion (worse by {MARGIN:.1%} of frames or more), a false rejection (not worse) and a "
        f"false alarm within {HOURS} hours each happen with a probability of {ALPHA:.0%} at most, however often one "
        "looks.",
        "",
        "| candidate | promoted | rejected | alarm | days watched at most |",
        "| --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    for case in CASES:
        lines.append(row(case, chosen.runs, chosen.seed))
        print(lines[-1], flush=True)
    if chosen.write:
        write_whole(HERE / "results.md", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
