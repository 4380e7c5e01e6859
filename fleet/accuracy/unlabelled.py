"""Accuracy without labels: what a line's counts say of right and wrong, how far that can be off, and when not at all.

Two assumptions give two answers. That an answer of some class and confidence is as often right as in validation (CBPE,
ATC); or that each true class still looks as in validation and only their shares moved (BBSE, EM). Neither can be seen
from counts. A model that no longer sees a defect leaves the same counts as a line that makes fewer of them: so the
lower end of recall supposes that the line makes as many defects as a line may that was stated to make its share.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS, EDGES
from device_agent.detector.reference import TRANSFER
from fleet.accuracy.intervals import Floats, Interval, of_draws
from fleet.accuracy.label_shift import draw_given, draw_seen, inverted_confusion, maximum_likelihood, unexplained
from fleet.accuracy.validation import Coarse, Validation

Badge = Literal["identified", "not identified", "needs labels"]
DRAWS = 200
LEAST_FRAMES = 200
STRANGE = 0.01
WIDEST = {"accuracy": 0.04, "recall": 0.20, "precision": 0.20}
Z = 1.959964


class Estimate(msgspec.Struct, frozen=True):
    """One method's figure: predicted, not measured. `figure` is accuracy, recall or precision, the last two of `of`, a
    class or "defect"."""

    method: str
    figure: str
    of: str
    interval: Interval


class Judgement(msgspec.Struct, frozen=True):
    """A figure from counts alone: the middle of the methods, limits that hold under either assumption and where
    defects may go unseen, and whether it is to be believed. Predicted, not measured."""

    figure: str
    of: str
    interval: Interval
    badge: Badge
    why: str


class Unlabelled(msgspec.Struct, frozen=True, kw_only=True):
    """What counts say. `independent` frames are those that tell something new; `strange` is the share of frames that no
    mix of the validated classes explains; `prevalence` by class, each with its limits; `expected` is the accuracy of
    the bundle at the stated prevalence."""

    frames: int
    independent: float
    mean_confidence: float
    expected: float
    strange: Interval
    prevalence: dict[str, Interval]
    estimates: list[Estimate]
    judgements: list[Judgement]
    provenance: Literal["predicted"] = "predicted"

    def judged(self, figure: str, of: str = "") -> Judgement:
        """The judgement of a figure."""
        return next(one for one in self.judgements if (one.figure, one.of) == (figure, of))


def estimate(
    validation: Validation, seen: NDArray[np.integer], independent: float, rng: np.random.Generator, draws: int = DRAWS
) -> Unlabelled:
    """Accuracy, recall and precision of a line from its counts, with what is not known of the validation included.

    Args:
        validation: of the model.
        seen: (classes, 24) counts of the line, predicted class x bin.
        independent: how many independent frames these are worth, over 0, see `fleet.accuracy.observed`.
        rng: for resampling.
        draws: of it.

    Raises:
        BadInput: no frames, counts of other classes, or classes that are all good or all defects.
    """
    if validation.defect.all() or not validation.defect.any():
        raise BadInput("accuracy: a model whose classes are all good, or all defects, decides nothing")
    cells = validation.fold(seen)
    frames = float(cells.sum())
    if frames < 1 or not 0 < independent <= frames:
        raise BadInput(f"accuracy: {frames:.0f} frames, of which {independent:.0f} independent, say nothing")
    coarse = validation.coarse()
    pooled, phi = coarse.pool(cells), frames / independent
    smooth = coarse.smoothed()
    given = np.concatenate([(smooth / smooth.sum(axis=1, keepdims=True))[None], draw_given(coarse, draws, rng)])
    shares = np.concatenate([(pooled / frames)[None], draw_seen(pooled, phi, draws, rng)])
    start = np.clip(validation.prevalence, 1e-4, 1)
    prevalence = maximum_likelihood(given, shares, start / start.sum())
    strange = _strange(pooled, given, shares, prevalence, phi, rng)
    estimates = _estimates(coarse, given, shares, prevalence)
    called = np.asarray(np.bincount(coarse.predicted, pooled, validation.classes) / frames, np.float64)
    estimates.insert(0, Estimate("atc", "accuracy", "", _threshold(validation, cells, independent)))
    return Unlabelled(
        frames=int(frames),
        independent=independent,
        mean_confidence=mean_confidence(cells.reshape(-1, BINS)),
        expected=float(_accuracy(coarse, (validation.prevalence[:, None] * given[0])[None])[0]),
        strange=strange,
        prevalence={
            name: of_draws(float(prevalence[0, k]), prevalence[1:, k]) for k, name in enumerate(validation.names)
        },
        estimates=estimates,
        judgements=_judge(validation, estimates, prevalence[0], called, strange, independent),
    )


def mean_confidence(counts: NDArray[np.floating] | NDArray[np.integer]) -> float:
    """Mean top-1 probability of counts (classes, 24): each bin at its middle, the open ones a quarter beyond their
    edge."""
    middle = np.concatenate([[EDGES[0] - 0.25], (EDGES[:-1] + EDGES[1:]) / 2, [EDGES[-1] + 0.25]])
    by_bin = np.asarray(counts).sum(axis=0)
    return float((by_bin / (1 + np.exp(-middle))).sum() / max(by_bin.sum(), 1e-300))


def _estimates(coarse: Coarse, given: Floats, shares: Floats, prevalence: Floats) -> list[Estimate]:
    """Figures of each method from its joint shares (draws, true, strata); the first draw is the estimate itself."""
    validation = coarse.validation
    weighted = validation.prevalence[None, :, None] * given
    truth = weighted / np.maximum(weighted.sum(axis=1, keepdims=True), 1e-300)
    onto = np.eye(validation.classes)[coarse.predicted]
    inverted = inverted_confusion(given @ onto, shares @ onto)
    tables = {
        "cbpe": truth * shares[:, None],
        "em": prevalence[:, :, None] * given,
        "bbse": inverted[:, :, None] * given,
    }
    found = []
    for method, table in tables.items():
        for (figure, of), values in _figures(coarse, table).items():
            if np.isfinite(values[0]):
                found.append(Estimate(method, figure, of, of_draws(float(values[0]), values[1:])))
    return found


def _figures(coarse: Coarse, table: Floats) -> dict[tuple[str, str], Floats]:
    """Accuracy, and recall and precision of each class and of all defects, (draws,) each, of joint shares."""
    validation = coarse.validation
    found: dict[tuple[str, str], Floats] = {("accuracy", ""): _accuracy(coarse, table)}
    sets = {"defect": validation.defect}
    if validation.classes > 2:
        sets |= {
            name: np.arange(validation.classes) == k for k, name in enumerate(validation.names) if name != "defect"
        }
    for name, members in sets.items():
        called = members[coarse.predicted]
        hit = table[:, members][:, :, called].sum(axis=(1, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            found["recall", name] = hit / table[:, members].sum(axis=(1, 2))
            found["precision", name] = hit / table[:, :, called].sum(axis=(1, 2))
    return found


def _accuracy(coarse: Coarse, table: Floats) -> Floats:
    return np.asarray(table[:, coarse.predicted, np.arange(len(coarse.predicted))].sum(axis=1))


def _threshold(validation: Validation, cells: Floats, independent: float) -> Interval:
    """Average thresholded confidence (Garg et al. 2022): the share of frames above the confidence that as many frames
    lie below in validation as are wrong there; a bin is taken as even."""
    weighted = validation.prevalence[:, None] * validation.given()
    right = weighted[validation.predicted, np.arange(weighted.shape[1])].sum()
    reference = weighted.reshape(validation.classes, -1, BINS).sum(axis=(0, 1))
    line = cells.reshape(-1, BINS).sum(axis=0) / cells.sum()
    below = np.concatenate([[0.0], np.cumsum(reference)])
    at = np.interp(1 - right, below, np.arange(BINS + 1.0))
    share = float(np.interp(at, np.arange(BINS + 1.0), np.concatenate([[0.0], np.cumsum(line)])))
    images = validation.counts.sum()
    spread = Z * np.sqrt(max(share * (1 - share), 0) / independent + max(right * (1 - right), 0) / images)
    return Interval(1 - share, float(max(1 - share - spread, 0)), float(min(1 - share + spread, 1)))


def _strange(
    pooled: Floats, given: Floats, shares: Floats, prevalence: Floats, phi: float, rng: np.random.Generator
) -> Interval:
    """Share of the frames that no mix of classes explains, less what chance puts there: lines are drawn from the fit,
    classes from the validation images, and fitted alike."""
    found = float(unexplained(given[:1], shares[:1], prevalence[:1])[0])
    lines = draw_seen(prevalence[0] @ given[0] * pooled.sum(), phi, len(given) - 1, rng)
    start = np.clip(prevalence[0], 1e-4, 1)
    fitted = maximum_likelihood(given[1:], lines, start / start.sum())
    middle, high = np.quantile(unexplained(given[1:], lines, fitted), [0.5, 0.975])
    return Interval(float(max(found - middle, 0)), float(max(found - high, 0)), found)


def _judge(
    validation: Validation,
    estimates: list[Estimate],
    prevalence: Floats,
    called: Floats,
    strange: Interval,
    independent: float,
) -> list[Judgement]:
    """One judgement a figure, of CBPE and EM, which stand for one assumption each."""
    found = []
    doubt = strange.high if strange.low > 0 else 0.0
    both = {(one.figure, one.of) for one in estimates if one.method == "cbpe"} & {
        (one.figure, one.of) for one in estimates if one.method == "em"
    }
    for figure, of in sorted(both):
        pair = [
            one.interval for one in estimates if (one.figure, one.of) == (figure, of) and one.method in ("cbpe", "em")
        ]
        value = sum(one.value for one in pair) / len(pair)
        low, high = min(one.low for one in pair), max(one.high for one in pair)
        members = _members(validation, of)
        share = float(prevalence[members].sum())
        unseen = _unseen(validation, members, share)
        if figure == "accuracy":
            low -= doubt + unseen
        elif figure == "recall":
            low *= share / max(share + unseen + doubt, 1e-300)
        else:
            low *= max(1 - doubt / max(float(called[members].sum()), 1e-300), 0)
        interval = Interval(value, min(max(low, 0.0), value), max(min(high, 1.0), value))
        badge, why = _badge(validation, figure, interval, strange, independent, unseen)
        found.append(Judgement(figure, of, interval, badge, why))
    return found


def _members(validation: Validation, of: str) -> NDArray[np.bool_]:
    if of in ("", "defect"):
        return validation.defect
    return np.array([name == of for name in validation.names])


def _unseen(validation: Validation, members: NDArray[np.bool_], share: float) -> float:
    """How much larger the share of these classes may be than it looks: what was stated, within what a line differs."""
    usual = float(validation.prevalence[members].sum()) if validation.stated else share
    usual = min(max(usual, 1e-9), 1 - 1e-9)
    odds = usual / (1 - usual) * np.exp(Z * TRANSFER["rare"])
    return float(max(odds / (1 + odds) - share, 0.0))


def _badge(
    validation: Validation, figure: str, interval: Interval, strange: Interval, independent: float, unseen: float
) -> tuple[Badge, str]:
    if strange.low > STRANGE:
        return "not identified", f"{strange.value:.1%} of the frames look like no mix of the validated classes"
    if independent < LEAST_FRAMES:
        return "needs labels", f"{independent:.0f} independent frames are too few"
    if figure == "recall" and not validation.stated:
        return "needs labels", "the share of defects on the line was never stated"
    if interval.width > WIDEST[figure]:
        wide = f"the limits are {100 * interval.width:.0f} points apart"
        gone = (
            "; counts cannot tell defects that are missed from defects that are not made"
            if figure == "recall" and unseen > 0
            else ""
        )
        return "needs labels", wide + gone
    return "identified", "if each class still looks as in validation"
