"""The operating point of an artifact: when a part passes, is rejected, or goes to a person, and what that claims.

RUN/operating_point/<artifact>.json and .png
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import msgspec

from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import Decision
from toolkit.artifacts import open_artifact
from toolkit.evaluation.scaling import Scaling
from toolkit.operating_point.bounds import Needed, Share
from toolkit.operating_point.costs import Costs
from toolkit.runs import Run

SCHEMA = "1.0"


class ClassEscape(msgspec.Struct, frozen=True, kw_only=True):
    """How often defects of one class pass, and its share of the line's parts, 0 to 1. The bounds of `together` hold for
    all defect classes at once (Bonferroni)."""

    label: str
    prevalence: float
    escape: Share
    together: Share


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What a band does to the line's parts: cost per 1,000 of them, and how many of a million are defects that escape,
    good parts that are rejected, parts that go to a person."""

    cost_per_1000: float
    escapes_per_million: float
    overkill_per_million: float
    reviews_per_million: float


class OperatingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A band on the defect score of one artifact, and what was measured of it on validation images.

    `low` and `high` are log-odds, `low_score` and `high_score` the same as probabilities of a defect at the line's
    prevalence. Escape, overkill and review are shares of true defects, of good parts and of all parts, at the line's
    prevalence. They were counted in `crossfit` folds, on images of groups that took no part in choosing the band; the
    band of the line was then chosen on all. `escapes_upper_per_million` is the bound of `escape`, in parts of the line.
    `unreviewed` is what the best single threshold would do, likewise counted; `accept_all` and `reject_all` are the
    costs per 1,000 parts without any model.
    """

    schema: str = SCHEMA
    artifact: str
    artifact_sha256: str
    data_sha256: str
    labels: list[str]
    good: list[str]
    prevalence: list[float]
    costs: Costs
    confidence: float
    most_escape: float | None
    scaling: Scaling
    scale: list[float]
    shift: list[float]
    low: float
    high: float
    low_score: float
    high_score: float
    crossfit: int
    images: int
    groups: int
    escape: Share
    by_class: list[ClassEscape]
    worst_class: str
    overkill: Share
    review: Share
    rates: Rates
    escapes_upper_per_million: float
    unreviewed: Rates
    accept_all: float
    reject_all: float
    needed: Needed
    claim_shown: bool
    provenance: Literal["measured"] = "measured"

    def decision(self) -> Decision:
        """What the device needs of it."""
        return Decision(
            low=self.low,
            high=self.high,
            scale=self.scale,
            shift=self.shift,
            prevalence=self.prevalence,
            confidence=self.confidence,
            escape_upper=self.escape.upper,
            escape_worst_upper=max(one.together.upper for one in self.by_class),
            overkill_upper=self.overkill.upper,
            images=self.images,
            groups=self.groups,
        )

    def metrics(self) -> dict[str, float]:
        """What the manifest says of it in figures, 0 to 1: another band gives another model id."""
        return {
            "escape_upper": round(self.escape.upper, 6),
            "overkill": round(self.overkill.rate, 6),
            "review": round(self.review.rate, 6),
            "reject_from": round(self.high_score, 12),
        }


def probability(log_odds: float) -> float:
    """A probability 0 to 1 of its log-odds.

    >>> probability(0.0), probability(-800.0), probability(800.0)
    (0.5, 0.0, 1.0)
    """
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0


def point_path(run: Run, name: str) -> Path:
    """Where the operating point of an artifact lies."""
    return run.dir / "operating_point" / f"{name}.json"


def save_operating_point(run: Run, point: OperatingPoint) -> Path:
    """Write it into the run, wholly or not at all; the path.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    text = msgspec.json.format(msgspec.json.encode(point, order="sorted"), indent=2)
    write_whole(point_path(run, point.artifact), text + b"\n")
    return point_path(run, point.artifact)


def read_operating_point(run: Run, name: str) -> OperatingPoint | None:
    """The saved operating point of an artifact, None where there is none.

    Raises:
        BadInput: it is damaged, or was found for another artifact or other data than those that are there now.
    """
    again = f"find it again with: lineside operating-point {run.dir}"
    point = read_document_file(point_path(run, name), OperatingPoint, reads=SCHEMA, hint=f"; {again}")
    if point is None:
        return None
    if point.data_sha256 != run.record.data_sha256 or point.artifact_sha256 != open_artifact(run, name).sha256:
        raise BadInput(f"{point_path(run, name)}: is of another artifact or other data than there are now; {again}")
    return point
