"""How often a good bundle is rolled back by mistake, and at which wave a bad one is found.

python benchmarks/rollout/run.py [--runs 100] [--seed 1] [--write]

1,000 simulated devices at 50 sites, 600 frames a minute each, parts in view for 2 s (tau), rates that differ and
wander; waves of 1, 10, 50 and 100 % with the product's own hours, bets and decisions, see fleet.rollouts.trial.
Everything printed is counted in these runs, limits are exact (Clopper and Pearson). With --write the table goes to
results.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from device_agent.contract.files import write_whole
from fleet.rollouts.peers import TOLERANCE
from fleet.rollouts.plan import Terms
from fleet.rollouts.trial import Harm, run_trial
from fleet.triggers.evidence import exact_interval

HERE = Path(__file__).parent
CASES = (
    ("as validated", Harm()),
    ("low confidence x 1.25, tolerated", Harm(low=1.25)),
    ("low confidence x 1.5, at the limit", Harm(low=1.5)),
    ("low confidence x 2", Harm(low=2.0)),
    ("low confidence x 4", Harm(low=4.0)),
    ("defects called x 3", Harm(defects=3.0)),
    ("defects called x 0.5", Harm(defects=0.5)),
    ("blind: defects called x 0.1", Harm(defects=0.1)),
)
HEAD = """# A bundle that is brought to 1,000 devices in waves

Measured by `python benchmarks/rollout/run.py --runs {runs} --seed {seed} --write`, in {runs} simulated rollouts a line.
Stated: a bundle that is at most {tolerance:g} times worse than its peers (in the last wave: than before, and what
the day does is excused) is rolled back within {watched} hours with a probability of {alpha:.0%} at most.

| bundle | rolled back | at wave 1, 2, 3, 4 | median hours | median devices that had it |
| --- | --- | --- | --- | --- |"""


def row(name: str, harm: Harm, runs: int, seed: int) -> str:
    """A line of the table."""
    found = [run_trial(harm, seed * 10_000 + run) for run in range(runs)]
    back = [one for one in found if one.state == "rolled_back"]
    low, high = exact_interval(len(back), runs)
    stages = ", ".join(str(sum(one.stage == stage for one in back)) for stage in range(4))
    shown = back or found
    hours, reached = np.median([one.hours for one in shown]), np.median([one.reached for one in shown])
    ended = "" if back else " (to the end)"
    return (
        f"| {name} | {len(back) / runs:.1%} ({low:.1%} to {high:.1%}) | {stages} | {hours:.0f}{ended} | {reached:.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    terms = Terms()
    lines = [HEAD.format(runs=chosen.runs, seed=chosen.seed, tolerance=TOLERANCE, watched=terms.watched,
                         alpha=terms.alpha)]  # fmt: skip
    print(lines[0], flush=True)
    for name, harm in CASES:
        lines.append(row(name, harm, chosen.runs, chosen.seed))
        print(lines[-1], flush=True)
    if chosen.write:
        write_whole(HERE / "results.md", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
