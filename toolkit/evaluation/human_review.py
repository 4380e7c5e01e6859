"""What the same inspection costs by the model, by a simple rule, and by people."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from device_agent.contract.errors import BadInput
from toolkit.evaluation.figures import Figure
from toolkit.evaluation.simple_rule import SimpleRule

KNOWN = ("cost", "recall", "false-alarms", "precision", "per-hour")
THOUSAND = 1000


class HumanReview(msgspec.Struct, frozen=True, kw_only=True):
    """What the user states of people: cost of one look, recall and false alarm rate in [0, 1] (or precision in place of
    the latter), and images an hour."""

    cost: float
    recall: float
    false_alarms: float | None = None
    precision: float | None = None
    per_hour: float | None = None


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way to inspect 1000 images: defects that escape, good parts called defect, images that a person looks at, and
    what that costs in the unit that was stated. `basis` is "measured" or "stated"."""

    way: str
    defect_recall: float
    false_alarm_rate: float | None
    escapes: float
    false_alarms: float | None
    looks: float
    cost: float
    hours: float | None
    basis: str


class ReviewTable(msgspec.Struct, frozen=True, kw_only=True):
    """All ways side by side, for 1000 images with `defects` (a share in [0, 1]) of them defect; `prevalence_from` says
    where that share is from."""

    defects: float
    prevalence_from: str
    ways: list[Way]


def parse_review(text: str) -> HumanReview:
    """What is stated, from "cost=0.05,recall=0.9,precision=0.95,per-hour=600".

    >>> parse_review("cost=0.05,recall=0.9").recall
    0.9

    Raises:
        BadInput: an unknown or missing name, or a number out of its range.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, sign, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        highest = math.inf if name in ("cost", "per-hour") else 1.0
        if name not in KNOWN or not sign or not 0 <= value <= highest or math.isinf(value):
            raise BadInput(f"--human-review must be like cost=0.05,recall=0.9 with {', '.join(KNOWN)}; got {part!r}")
        if name in found:
            raise BadInput(f"--human-review: {name} is stated twice")
        found[name] = value
    if not {"cost", "recall"} <= found.keys() or {"false-alarms", "precision"} <= found.keys():
        raise BadInput("--human-review needs cost and recall, and false-alarms or precision, not both")
    if found.get("per-hour") == 0 or found.get("precision") == 0:
        raise BadInput("--human-review: per-hour and precision must be above 0")
    return HumanReview(
        cost=found["cost"],
        recall=found["recall"],
        false_alarms=found.get("false-alarms"),
        precision=found.get("precision"),
        per_hour=found.get("per-hour"),
    )


def compare_ways(
    figures: dict[str, Figure],
    review: HumanReview,
    *,
    defects: float,
    prevalence_from: str,
    rule: SimpleRule | None = None,
    artifact: str = "model",
) -> ReviewTable:
    """People alone, the model alone, the rule alone, and the model with people who look at what it calls defect.

    In the last, a person sees only the model's alarms, errs on them as stated, and independently of the model.

    Raises:
        BadInput: no good and defect classes.
    """
    if "defect-recall" not in figures or "false-alarm-rate" not in figures:
        raise BadInput("the cost of review needs images of good and of defect classes")
    recall, alarms = figures["defect-recall"].value, figures["false-alarm-rate"].value
    people = _false_alarms(review, defects)
    ways = [
        _way("people", review.recall, people, defects, review, looks=1.0, basis="stated"),
        _way(artifact, recall, alarms, defects, review, looks=0.0, basis="measured"),
    ]
    called = defects * recall + (1 - defects) * alarms
    both = None if people is None else alarms * people
    name = f"{artifact}, people check its alarms"
    ways.append(_way(name, recall * review.recall, both, defects, review, looks=called, basis="measured and stated"))
    if rule is not None and rule.defect_recall is not None and rule.false_alarm_rate is not None:
        rates = (rule.defect_recall.value, rule.false_alarm_rate.value)
        ways.append(_way("simple rule", *rates, defects, review, looks=0.0, basis="measured"))
    return ReviewTable(defects=defects, prevalence_from=prevalence_from, ways=ways)


def _false_alarms(review: HumanReview, defects: float) -> float | None:
    """The false alarm rate that was stated, or that follows from the precision at this share of defects."""
    if review.precision is None or defects == 1:
        return review.false_alarms
    return min(1.0, defects * review.recall * (1 / review.precision - 1) / (1 - defects))


def _way(
    way: str,
    recall: float,
    alarms: float | None,
    defects: float,
    review: HumanReview,
    *,
    looks: float,
    basis: str,
) -> Way:
    return Way(
        way=way,
        defect_recall=recall,
        false_alarm_rate=alarms,
        escapes=THOUSAND * defects * (1 - recall),
        false_alarms=None if alarms is None else THOUSAND * (1 - defects) * alarms,
        looks=THOUSAND * looks,
        cost=THOUSAND * looks * review.cost,
        hours=None if review.per_hour is None else THOUSAND * looks / review.per_hour,
        basis=basis,
    )


def share_of_defects(prevalence: Sequence[float] | None, defect: Sequence[bool], seen: float) -> tuple[float, str]:
    """The share of defects to reckon with, and where it is from: that stated for the line, else that of the images.

    >>> share_of_defects([0.01, 0.99], [True, False], 0.5)
    (0.01, 'stated for the line')
    """
    if prevalence is None:
        return seen, "that of the images; state the line's with lineside train --prevalence"
    return sum(value for value, is_ in zip(prevalence, defect, strict=True) if is_), "stated for the line"
