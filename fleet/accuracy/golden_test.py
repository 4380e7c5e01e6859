"""A sequential test on parts of known class: how long a fall stays unseen, and how often one is seen that is none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from device_agent.contract.errors import BadInput
from fleet.accuracy.intervals import Interval, exact

LIFTS = (2.0, 5.0, 15.0, 50.0)
"""Odds of a right answer that are bet on: claimed odds divided by these."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """After all runs of a line: `log_e` is the natural log of the e-detector, `bound` what it has to reach. `onset` is
    the number of the run from which the evidence was gathered, `alarm` that of the run that reached the bound, None
    while none did; `share` is that of right answers since the onset, exact limits, None without a run."""

    runs: int
    right: int
    log_e: float
    bound: float
    onset: int
    alarm: int | None
    share: Interval | None


@dataclass
class GoldenTest:
    """Shiryaev-Roberts e-detectors of "every part is answered rightly with at least its claimed chance", averaged over
    the falls of `LIFTS` (Shin, Ramdas, Rinaldo 2024).

    Before a run the detector stands at M; a run makes it (M + 1) x likelihood ratio. While the claim holds, M less the
    number of runs is a supermartingale: the mean number of runs to an alarm at `runs_between` is at least that, and
    the chance of one within n runs at most n / runs_between, whenever one stops to look.
    """

    runs_between: float
    _values: list[float]
    _onsets: list[int]
    runs: int = 0
    right: int = 0

    @classmethod
    def start(cls, runs_between: float) -> GoldenTest:
        """A test with at most one false alarm in so many runs.

        Raises:
            BadInput: not over 1.
        """
        if not 1 < runs_between < math.inf:
            raise BadInput(f"golden: one false alarm in {runs_between:g} runs is no rate; it must be over 1")
        return cls(runs_between, [0.0] * len(LIFTS), [0] * len(LIFTS))

    def add(self, right: bool, claim: float) -> bool:
        """Count a run of a part that a healthy line answers rightly with a chance of at least `claim`. True from the
        run on that reaches the bound.

        Raises:
            BadInput: a claim that is not between 0 and 1.
        """
        if not 0 < claim < 1:
            raise BadInput(f"golden: a claim of {claim:g} cannot be tested; it must be over 0 and under 1")
        for index, lift in enumerate(LIFTS):
            odds = claim / (1 - claim) / lift
            fallen = odds / (1 + odds)
            ratio = fallen / claim if right else (1 - fallen) / (1 - claim)
            if self._values[index] < 1:
                self._onsets[index] = self.runs
            self._values[index] = min((self._values[index] + 1) * ratio, 1e200)
        self.runs += 1
        self.right += right
        return self.value >= self.runs_between

    @property
    def value(self) -> float:
        """The e-detector."""
        return sum(self._values) / len(self._values)

    @property
    def onset(self) -> int:
        """Number of the run at which the strongest evidence began: the last at which it had been under 1."""
        return self._onsets[max(range(len(LIFTS)), key=self._values.__getitem__)]


def judge_runs(runs: Sequence[tuple[bool, float]], runs_between: float) -> Outcome:
    """The test over the runs of one line with one model, in order: (right, claim) each.

    >>> healthy = [(True, 0.95)] * 40
    >>> judge_runs(healthy, 4380).alarm, judge_runs(healthy + [(False, 0.95)] * 5, 4380).alarm
    (None, 43)

    Raises:
        BadInput: as for `GoldenTest`.
    """
    test = GoldenTest.start(runs_between)
    alarm = onset = None
    for number, (right, claim) in enumerate(runs):
        if test.add(right, claim) and alarm is None:
            alarm, onset = number, test.onset
    since = test.onset if onset is None else onset
    return Outcome(
        runs=test.runs,
        right=test.right,
        log_e=math.log(max(test.value, 1e-300)),
        bound=math.log(runs_between),
        onset=since,
        alarm=alarm,
        share=share_of(right for right, _ in runs[since:]),
    )


def share_of(answers: Iterable[bool]) -> Interval | None:
    """Share of right answers with exact limits; None without any."""
    told = list(answers)
    return exact(sum(told), len(told)) if told else None
