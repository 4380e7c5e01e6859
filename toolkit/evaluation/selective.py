"""Does doubt rank errors? The risk among the most confident answers, and how well doubt tells errors apart."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from toolkit.evaluation.intervals import PRIOR, Interval, drawn_interval, index_groups, typical_size

GRID = 50
DRAWS = 400


class RiskCurve(msgspec.Struct, frozen=True, kw_only=True):
    """The share of wrong answers (`risk`) among the most confident ones, at each `coverage`, with its 95 % interval
    over groups; all in [0, 1].

    `aurc` is the mean risk over all coverages, `best` what it would be if every error were doubted most. `auroc` is the
    chance that an error is doubted more than a right answer, None where every answer is right or every one wrong.
    """

    coverage: list[float]
    risk: list[float]
    low: list[float]
    high: list[float]
    aurc: float
    aurc_interval: Interval
    best: float
    auroc: float | None
    auroc_interval: Interval | None
    images: int
    groups: int
    errors: int


def measure_risk(
    wrong: NDArray[np.bool_],
    doubt: NDArray[np.floating],
    groups: NDArray[np.generic],
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> RiskCurve:
    """The risk-coverage curve (Geifman and El-Yaniv 2017); equally doubted answers are taken in together.

    Intervals are those of a Bayesian bootstrap over groups (Rubin 1981) with half an independent error and half an
    independent right answer as the prior.

    Args:
        wrong: (n,) whether each answer is.
        doubt: (n,) finite, larger means less sure.
        groups: (n,) names.

    >>> wrong = np.array([False, False, False, True])
    >>> curve = measure_risk(wrong, np.array([0.1, 0.2, 0.3, 0.9]), np.arange(4), rng=np.random.default_rng(0))
    >>> curve.risk[-1], curve.auroc
    (0.25, 1.0)

    Raises:
        BadInput: no images.
    """
    if not len(wrong):
        raise BadInput("no answers to measure a risk on")
    group = index_groups(groups)
    order = np.argsort(doubt, kind="stable")
    ends = np.flatnonzero(np.diff(np.asarray(doubt)[order], append=np.inf) > 0)
    coverage = np.arange(1, GRID + 1) / GRID
    weights = np.vstack([np.ones(int(group.max()) + 1), rng.standard_gamma(1.0, (draws, int(group.max()) + 1))])
    hit = np.asarray(wrong)[order]
    covered, errors = _cumulated(weights[:, group[order]], hit, ends)
    right, false = typical_size(np.bincount(group).astype(float)) * rng.standard_gamma(PRIOR, (2, draws))
    total = covered[:, -1]
    risks = np.stack([_at(coverage * total[k], covered[k], errors[k]) for k in range(draws + 1)])
    base = coverage * total[:, None]
    plain = risks[0] / base[0]
    drawn = (risks[1:] + false[:, None]) / (base[1:] + (right + false)[:, None])
    bands = [drawn_interval(float(one), drawn[:, k]) for k, one in enumerate(plain)]
    aurc = float(plain.mean())
    ranks = _auroc(covered, errors)
    some = 0 < hit.sum() < len(hit)
    return RiskCurve(
        coverage=coverage.tolist(),
        risk=plain.tolist(),
        low=[low for low, _ in bands],
        high=[high for _, high in bands],
        aurc=aurc,
        aurc_interval=drawn_interval(aurc, drawn.mean(axis=1)),
        best=float(np.maximum(coverage - (1 - hit.mean()), 0).dot(1 / coverage) / GRID),
        auroc=float(ranks[0]) if some else None,
        auroc_interval=_quantiles(ranks[1:]) if some else None,
        images=len(hit),
        groups=weights.shape[1],
        errors=int(hit.sum()),
    )


def _cumulated(
    weights: NDArray[np.float64], hit: NDArray[np.bool_], ends: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight and weight of errors (draws, k) up to the end of each run of equally doubted answers."""
    return np.cumsum(weights, axis=1)[:, ends], np.cumsum(weights * hit, axis=1)[:, ends]


def _at(where: NDArray[np.float64], covered: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.interp(where, np.concatenate([[0.0], covered]), np.concatenate([[0.0], errors]))
    return found


def _auroc(covered: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The area (draws,) under the curve of errors against right answers, from the most doubted on."""
    right = covered - errors
    steps_right = np.diff(right, axis=1, prepend=0.0)
    above = errors[:, -1:] - (errors + np.concatenate([np.zeros((len(errors), 1)), errors[:, :-1]], axis=1)) / 2
    return np.asarray((steps_right * above).sum(axis=1) / np.maximum(right[:, -1] * errors[:, -1], 1e-300))


def _quantiles(drawn: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def plot_risk(path: Path, curves: Mapping[str, RiskCurve]) -> None:
    """Write a PNG of the curves, with the band of the first.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, (name, curve) in enumerate(curves.items()):
        rank = "" if curve.auroc is None else f", AUROC {curve.auroc:.3f}"
        risk = [100 * each for each in curve.risk]
        (drawn,) = axes.plot(curve.coverage, risk, label=f"{name}: AURC {100 * curve.aurc:.2f} %{rank}")
        if place == 0:
            low, high = ([100 * each for each in side] for side in (curve.low, curve.high))
            axes.fill_between(curve.coverage, low, high, color=drawn.get_color(), alpha=0.15, label="95 %, over groups")
    axes.set(xlabel="coverage: share of answers given, the surest first", ylabel="wrong among them, %", ylim=(0, None))
    axes.legend(fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    write_whole(path, content.getvalue())
