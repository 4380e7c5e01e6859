"""Equalised odds: whether defects are found, and good parts called defect, equally often for each value of a column."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.evaluation.answers import Answers
from toolkit.evaluation.columns import slices_of
from toolkit.evaluation.figures import Figure, Judged
from toolkit.evaluation.intervals import PRIOR, TAIL, Z, index_groups, inverted_interval, typical_size
from toolkit.evaluation.slices import LEVEL, Slice, divide, holm, permutation_p, shares_of

DRAWS = 1000
Rate = Literal["true positive rate", "false positive rate"]


class Odds(msgspec.Struct, frozen=True, kw_only=True):
    """One rate of a defect being called for each value; `difference` between the highest and the lowest of the values
    with enough images, None where fewer than two have."""

    rate: Rate
    values: list[Slice]
    difference: Figure | None
    p_holm: float | None


class EqualisedOdds(msgspec.Struct, frozen=True, kw_only=True):
    """Both rates over a protected column (Hardt et al. 2016). `difference` is the larger of the two differences."""

    column: str
    rates: list[Odds]
    difference: float | None
    verdict: str


def equalised_odds(judged: Judged, answers: Answers, column: str, *, seed: int = 0) -> EqualisedOdds:
    """The rates, their largest difference with a 95 % interval over groups, and a verdict of one sentence.

    The largest of several differences is above 0 by chance alone; the interval takes that into account, see
    `toolkit.evaluation.intervals.inverted_interval`, and reaches 0 when chance explains it.

    Raises:
        BadInput: no such column, or not both good and defect classes.
    """
    good = judged.good()
    if not good.any() or good.all():
        raise BadInput("equalised odds need good and defect classes; say which are good in labels.json")
    slices = slices_of(answers, judged.names, column)
    found = []
    for rate, metric in (("true positive rate", "defect-recall"), ("false positive rate", "false-alarm-rate")):
        right, among = shares_of(judged, metric)
        groups, values = judged.groups[among], slices[among]
        rows = divide(right[among], groups, values) if among.any() else []
        large = np.isin(values, [one.value for one in rows if one.enough])
        hit, whose, value = right[among][large], groups[large], values[large]
        p = permutation_p(hit, whose, value, seed=seed) if len(value) else None
        difference = None if p is None else _difference(hit, whose, value, np.random.default_rng(seed))
        found.append((rate, rows, difference, p))
    corrected = holm([p for *_, p in found])
    rates = [
        Odds(rate=rate, values=rows, difference=difference, p_holm=by)  # type: ignore[arg-type]
        for (rate, rows, difference, _), by in zip(found, corrected, strict=True)
    ]
    largest = max((one.difference.value for one in rates if one.difference), default=None)
    return EqualisedOdds(column=column, rates=rates, difference=largest, verdict=_verdict(column, rates))


def _difference(
    hit: NDArray[np.bool_], groups: NDArray[np.str_], values: NDArray[np.str_], rng: np.random.Generator
) -> Figure:
    """Highest less lowest rate; groups are drawn (Bayesian bootstrap), with half an image of each kind as the prior.

    Of few groups the bootstrap shows too little noise: it is widened to the unbiased variance of each value's groups
    and to Student's quantile.
    """
    from scipy.stats import t as student

    kinds, value = np.unique(values, return_inverse=True)
    group = index_groups(groups)
    hits, sizes = np.zeros((2, int(group.max()) + 1, len(kinds)))
    np.add.at(hits, (group, value), hit)
    np.add.at(sizes, (group, value), 1)
    rates = hits.sum(axis=0) / sizes.sum(axis=0)
    weights = rng.standard_gamma(1.0, (DRAWS, len(hits)))
    effect = np.array([typical_size(sizes[:, place]) for place in range(len(kinds))])
    right, wrong = effect * rng.standard_gamma(PRIOR, (2, DRAWS, len(kinds)))
    drawn = (weights @ hits + right) / (weights @ sizes + right + wrong)
    count = (sizes > 0).sum(axis=0)
    wider = np.sqrt((count + 1) / (count - 1)) * student.ppf(1 - TAIL, count - 1) / Z
    low, high = inverted_interval(rates, wider * (drawn - drawn.mean(axis=0)), lambda each: np.ptp(each, axis=-1))
    return Figure(float(np.ptp(rates)), low, high, len(hit), len(hits))


def _verdict(column: str, rates: list[Odds]) -> str:
    told = [one for one in rates if one.difference is not None]
    if not told:
        return f"{column}: too few images of two values to say whether the odds are equal"
    unequal = [one for one in told if one.p_holm is not None and one.p_holm < LEVEL]
    said = "; ".join(_said(one) for one in (unequal or told))
    missing = "" if len(told) == len(rates) else f"; too few images for the {_untold(rates)}"
    if unequal:
        return f"{column}: the odds are not equal: {said}{missing}"
    return f"{column}: no difference beyond chance was found: {said}{missing}"


def _said(odds: Odds) -> str:
    figure = odds.difference
    if figure is None:
        return odds.rate
    return f"{odds.rate} differs by {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _untold(rates: list[Odds]) -> str:
    return " and the ".join(one.rate for one in rates if one.difference is None)
