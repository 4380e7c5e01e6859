"""How an operating point is found: the band is chosen on some groups of validation images and judged on the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.decide import defect_log_odds
from toolkit.artifacts import open_artifact
from toolkit.evaluation.answers import Answers, answers_of
from toolkit.evaluation.scaling import Affine, Kind, Scaling, choose_scaling, fit_vector
from toolkit.evaluation.scores import ensure_evaluation
from toolkit.operating_point.bounds import Share, check_confidence, images_needed, measure_share
from toolkit.operating_point.costs import Costs, good_classes, prior_shift, shares_on_line
from toolkit.operating_point.point import ClassEscape, OperatingPoint, Rates, probability
from toolkit.operating_point.thresholds import Band, Scored, choose_band
from toolkit.runs import Run

FOLDS = 10
CLAIM = 0.005
CAUTION = 0.3
Progress = Callable[[int, int], None]


class Wanted(NamedTuple):
    """What the line asks for: costs, share of each class (by name or role), confidence of the bounds, the most that the
    escape rate may be, and the calibration (None: the better one)."""

    costs: Costs
    prevalence: dict[str, float]
    confidence: float = 0.95
    most_escape: float | None = None
    kind: Kind | None = None


def find_operating_point(
    run: Run, name: str, wanted: Wanted, *, threads: int = 1, progress: Progress | None = None
) -> tuple[OperatingPoint, Judged]:
    """The operating point of an artifact by its answers to the validation images, and what it was judged on; nothing is
    saved.

    Raises:
        NotFound: the artifact or the data are not there.
        BadInput: no good class, no defects or defects of one group only among the images, a prevalence that is not
            stated or does not fit, costs or a confidence that are none.
    """
    wanted.costs.check()
    check_confidence(wanted.confidence)
    if wanted.most_escape is not None and not 0 < wanted.most_escape < 1:
        raise BadInput(f"the escape rate allowed must lie between 0 and 1, got {wanted.most_escape:g}")
    good = good_classes(run.labels)
    prevalence = _stated(run, wanted.prevalence)
    answers = answers_of(run, name, "val", threads=threads, progress=progress)
    temperature = ensure_evaluation(run, name, threads=threads).temperature
    counts = np.bincount(answers.labels, minlength=len(good))
    if not counts[~good].sum() or not counts[good].sum():
        raise BadInput(f"{run.dir}: no {'defect' if counts[good].sum() else 'good part'} among the validation images")
    weighing = Weighing(good, shares_on_line(prevalence, run.labels, counts), counts)
    kind: Kind | None = "temperature" if answers.marks is not None else wanted.kind
    scaling = choose_scaling(answers.logits, answers.labels, answers.groups, temperature, kind=kind)
    judged = judge(answers, weighing, scaling, wanted)
    return _describe(run, name, answers, weighing, scaling, wanted, judged), judged


def _stated(run: Run, prevalence: dict[str, float]) -> dict[str, float]:
    if prevalence:
        return prevalence
    if run.record.prevalence is None:
        raise BadInput(
            f"{run.dir}: what the line makes is not stated, and the data do not tell; state it, such as with "
            f"--prevalence good=0.99"
        )
    return {label.name: share for label, share in zip(run.labels, run.record.prevalence, strict=True)}


class Judged(NamedTuple):
    """Scored images, and what became of each (n,) by the band that groups other than its own chose; `band`, the line's,
    was chosen on all of them. Rejected are also those that the line's band rejects: its caution lowers it, and the
    overkill of the folds' bands alone would flatter. `single` (n,) tells which ones the best threshold without review
    would have passed."""

    images: Scored
    band: Band
    passed: NDArray[np.bool_]
    rejected: NDArray[np.bool_]
    single: NDArray[np.bool_]
    folds: int


class Weighing(NamedTuple):
    """The classes as the line has them: which are good (classes,), the share of each on the line (classes,), and the
    images of each in the data (classes,)."""

    good: NDArray[np.bool_]
    shares: NDArray[np.float64]
    counts: NDArray[np.int64]

    def score(self, answers: Answers, affine: Affine) -> Scored:
        """The images with their defect scores, each standing for its part of the line."""
        shift = affine.shift + prior_shift(self.shares, self.counts)
        odds = defect_log_odds(answers.logits, affine.scale.tolist(), shift.tolist(), self.good)
        weights = (self.shares / np.maximum(self.counts, 1))[answers.labels]
        return Scored(odds, ~self.good[answers.labels], answers.groups, weights / weights.sum())


def judge(answers: Answers, weighing: Weighing, scaling: Scaling, wanted: Wanted) -> Judged:
    """Choose the band, and judge each image by a band that was chosen without its group (and calibrated without it, by
    vector scaling)."""
    images = weighing.score(answers, scaling.affine)
    fold = deal_groups(images.defect, images.groups)
    alone = wanted._replace(costs=msgspec.structs.replace(wanted.costs, review=None))
    passed, single = np.zeros((2, len(fold)), bool)
    held, highs = np.empty((2, len(fold)))
    lows = []
    for one in range(int(fold.max()) + 1):
        out, there = fold == one, images
        if scaling.kind == "vector":
            fitted = fit_vector(answers.logits[~out], answers.labels[~out], scaling.temperature)
            there = weighing.score(answers, fitted)
        rest, scores = there.only(~out), there.scores[out]
        band = _choose(rest, wanted)
        lows.append(band.low)
        held[out], highs[out], passed[out] = scores, band.high, scores < band.low
        single[out] = scores < (band if wanted.costs.review is None else _choose(rest, alone)).low
    band = _cautious(_choose(images, wanted), lows, review=wanted.costs.review is not None)
    return Judged(images, band, passed, held >= np.minimum(highs, band.high), single, int(fold.max()) + 1)


def _cautious(band: Band, lows: list[float], *, review: bool) -> Band:
    """The band with a lower edge no higher than the third lowest of ten folds': the bound is that of the folds' bands
    on average, and an edge that lies higher by chance would let more through."""
    low = min(band.low, float(np.quantile(lows, CAUTION, method="lower")))
    return Band(low, band.high if review else low)


def _choose(images: Scored, wanted: Wanted) -> Band:
    band = choose_band(images, wanted.costs, most_escape=wanted.most_escape, confidence=wanted.confidence)
    return Band(round(band.low, 6), round(band.high, 6))


def deal_groups(defect: NDArray[np.bool_], groups: NDArray[np.generic], *, folds: int = FOLDS) -> NDArray[np.int64]:
    """Fold (n,) of each image, 0 to `folds` - 1 or as many as there are groups with a defect; the groups with defects
    and those without are each dealt out evenly, in an order that only their names decide.

    >>> deal_groups(np.array([True, True, True, False, False]), np.array(["a", "a", "b", "c", "d"])).tolist()
    [0, 0, 1, 0, 1]

    Raises:
        BadInput: all defects, or all good parts, are in one group.
    """
    for kind, what in ((defect, "defects"), (~defect, "good parts")):
        if len(np.unique(groups[kind])) < 2:
            raise BadInput(
                f"all {what} among the validation images are of one group; nothing can be told from one part"
            )
    names, index = np.unique(groups, return_inverse=True)
    flawed = np.isin(names, groups[defect])
    folds, place = min(folds, int(flawed.sum())), np.empty(len(names), np.int64)
    rng = np.random.default_rng(0)
    for kind in (flawed, ~flawed):
        place[kind] = rng.permutation(int(kind.sum())) % folds
    return place[index]


def _escapes(
    labels: NDArray[np.int64], judged: Judged, weighing: Weighing, names: list[str], confidence: float
) -> list[ClassEscape]:
    """One entry for each defect class that has an image."""
    there = np.flatnonzero(~weighing.good & (weighing.counts > 0))
    strict = 1 - (1 - confidence) / len(there)
    found = []
    for k in there:
        passed, groups = judged.passed[labels == k], judged.images.groups[labels == k]
        found.append(
            ClassEscape(
                label=names[k],
                prevalence=float(weighing.shares[k]),
                escape=measure_share(passed, groups, confidence),
                together=measure_share(passed, groups, strict),
            )
        )
    return found


def worst_of(by_class: list[ClassEscape]) -> ClassEscape:
    """The class with the highest bound of those that hold at once; that one goes into the manifest."""
    return max(by_class, key=lambda one: (one.together.upper, one.escape.rate))


def _describe(
    run: Run, name: str, answers: Answers, weighing: Weighing, scaling: Scaling, wanted: Wanted, judged: Judged
) -> OperatingPoint:
    images, band = judged.images, judged.band
    everyone = np.ones(len(images.defect), bool)

    def share(what: NDArray[np.bool_], among: NDArray[np.bool_]) -> Share:
        return measure_share(what[among], images.groups[among], wanted.confidence, weights=images.weights[among])

    names = [label.name for label in run.labels]
    by_class = _escapes(answers.labels, judged, weighing, names, wanted.confidence)
    escape, claim = share(judged.passed, images.defect), wanted.most_escape or CLAIM
    defects = float(weighing.shares[~weighing.good].sum())
    return OperatingPoint(
        artifact=name,
        artifact_sha256=open_artifact(run, name).sha256,
        data_sha256=run.record.data_sha256,
        labels=names,
        good=[each for each, is_good in zip(names, weighing.good, strict=True) if is_good],
        prevalence=weighing.shares.tolist(),
        costs=wanted.costs,
        confidence=wanted.confidence,
        most_escape=wanted.most_escape,
        scaling=scaling,
        scale=scaling.scale,
        shift=(scaling.affine.shift + prior_shift(weighing.shares, weighing.counts)).tolist(),
        low=band.low,
        high=band.high,
        low_score=probability(band.low),
        high_score=probability(band.high),
        crossfit=judged.folds,
        images=len(everyone),
        groups=len(np.unique(images.groups)),
        escape=escape,
        by_class=by_class,
        worst_class=worst_of(by_class).label,
        overkill=share(judged.rejected, ~images.defect),
        review=share(~judged.passed & ~judged.rejected, everyone),
        rates=rates(images, judged.passed, judged.rejected, wanted.costs),
        escapes_upper_per_million=1e6 * defects * escape.upper,
        unreviewed=rates(images, judged.single, ~judged.single, wanted.costs),
        accept_all=1000 * defects * wanted.costs.escape,
        reject_all=1000 * (1 - defects) * wanted.costs.overkill,
        needed=images_needed(escape, claim),
        claim_shown=escape.upper <= claim,
    )


def rates(images: Scored, passed: NDArray[np.bool_], rejected: NDArray[np.bool_], costs: Costs) -> Rates:
    """What passing and rejecting these images, (n,) each, would mean for the line."""
    escapes = float(images.weights[passed & images.defect].sum())
    overkill = float(images.weights[rejected & ~images.defect].sum())
    reviews = float(images.weights[~passed & ~rejected].sum())
    cost = escapes * costs.escape + overkill * costs.overkill + reviews * (costs.review or 0.0)
    return Rates(
        cost_per_1000=1000 * cost,
        escapes_per_million=1e6 * escapes,
        overkill_per_million=1e6 * overkill,
        reviews_per_million=1e6 * reviews,
    )
