"""How often a thing happens at most when images come in groups: Clopper and Pearson's bounds on as many independent
images as the groups are worth, and how many more would settle a claim."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput

MOST_TIMES = 1e6


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A measured share, 0 to 1, with one-sided bounds that hold with the stated confidence each.

    `events` of `images` in `groups` were counted; `design_effect` is how many images of these groups and weights are
    worth one independent image.
    """

    rate: float
    lower: float
    upper: float
    confidence: float
    events: int
    images: int
    groups: int
    design_effect: float


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """How many more images, of how many more groups (parts), would bring the upper bound to `claim`, 0 to 1.

    `images` and `groups` if it goes on happening at the measured rate, None when that rate is itself no better than the
    claim; `images_at_least` and `groups_at_least` if it never happens again. Predicted: groups as large and as alike as
    the measured ones are supposed.
    """

    claim: float
    images: int | None
    groups: int | None
    images_at_least: int
    groups_at_least: int


def measure_share(
    happened: NDArray[np.bool_],
    groups: NDArray[np.generic],
    confidence: float,
    *,
    weights: NDArray[np.floating] | None = None,
) -> Share:
    """The share of the images for which something happened, with its bounds.

    The bounds are Clopper's and Pearson's (1934) at the effective size n / design effect (Korn and Graubard 1998). Few
    events cannot show that they come in groups, so one more group is supposed in which all happened, of the size that a
    typical image's has; Fay and Feuer (1997) suppose one more event of the largest weight for the same reason. Measured
    in benchmarks/operating_point.

    Args:
        happened: (n,) for each image.
        groups: (n,) names; images of one group are photographs of one part.
        confidence: of each bound, between 0 and 1.
        weights: (n,) what each image stands for, >= 0 with a positive sum; equal if left out.

    >>> alone = measure_share(np.zeros(598, bool), np.arange(598), 0.95)
    >>> in_threes = measure_share(np.zeros(598, bool), np.arange(598) // 3, 0.95)
    >>> f"{alone.upper:.4f} {in_threes.upper:.4f}"
    '0.0050 0.0149'

    Raises:
        BadInput: no images, or a confidence that is none.
    """
    check_confidence(confidence)
    if not len(happened):
        raise BadInput("no images to measure a share on")
    weight = np.ones(len(happened)) if weights is None else np.asarray(weights, np.float64)
    weight = weight / weight.sum()
    _, group = np.unique(groups, return_inverse=True)
    share = np.asarray(np.bincount(group, weight), np.float64)
    hit = np.asarray(np.bincount(group, weight * happened), np.float64)
    rate = min(float(hit.sum()), 1.0)
    effective = effective_size(hit, share, float((weight**2).sum()))
    events = rate * effective
    return Share(
        rate=rate,
        lower=1 - clopper_pearson_upper(effective - events, effective, confidence),
        upper=clopper_pearson_upper(events, effective, confidence),
        confidence=confidence,
        events=int(np.count_nonzero(happened)),
        images=len(happened),
        groups=len(share),
        design_effect=len(happened) / effective,
    )


def effective_size(hit: NDArray[np.float64], share: NDArray[np.float64], alone: float) -> float:
    """How many independent images of equal weight would settle a share as well as these groups do.

    Args:
        hit: (groups,) the weight of the images of each group for which it happened.
        share: (groups,) the weight of all its images; adds up to 1.
        alone: sum of the squared weights of the images: 1 / the size if every image were a group of its own.

    >>> share = np.full(50, 1 / 50)
    >>> whole, even = np.where(np.arange(50) < 10, share, 0), 0.2 * share
    >>> [round(effective_size(hit, share, 1 / 200)) for hit in (whole, even)]
    [49, 200]
    """
    rate, count = float(hit.sum()), len(share)
    typical = float((share**2).sum())
    strays = count / max(count - 1, 1) * float(((hit - rate * share) ** 2).sum())
    independent = alone * rate * (1 - rate) / max(1 - alone, alone) + alone * typical
    effect = max((strays + typical**2) / independent, 1.0)
    return 1 / (alone * effect)


def clopper_pearson_upper(events: float, size: float, confidence: float) -> float:
    """The one-sided upper bound of a share, 0 to 1, seen `events` times in `size` independent images; both may be
    fractions (Clopper and Pearson 1934).

    >>> round(clopper_pearson_upper(0, 598, 0.95), 5), clopper_pearson_upper(3, 3, 0.95)
    (0.005, 1.0)
    """
    from scipy.special import betaincinv

    if events >= size:
        return 1.0
    return float(betaincinv(max(events, 0.0) + 1, size - max(events, 0.0), confidence))


def images_needed(share: Share, claim: float) -> Needed:
    """How many more images would bring the upper bound of `share` to `claim`, see `Needed`.

    >>> none = measure_share(np.zeros(100, bool), np.arange(100) // 2, 0.95)
    >>> images_needed(none, 0.005)
    Needed(claim=0.005, images=1096, groups=548, images_at_least=1096, groups_at_least=548)
    """
    effective = share.images / share.design_effect
    events = share.rate * effective

    def times(more_events: float) -> float | None:
        def reached(factor: float) -> bool:
            seen = events * (1 + (factor - 1) * more_events)
            return clopper_pearson_upper(seen, effective * factor, share.confidence) <= claim

        if not reached(MOST_TIMES):
            return None
        low, high = 0.0, math.log(MOST_TIMES)
        if reached(1.0):
            return 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if reached(math.exp(middle)) else (middle, high)
        return math.exp(high)

    def more(factor: float | None, there: int) -> int | None:
        return None if factor is None else math.ceil((factor - 1) * there - 1e-6)

    same, never = times(1.0), times(0.0) or MOST_TIMES
    return Needed(
        claim=claim,
        images=more(same, share.images),
        groups=more(same, share.groups),
        images_at_least=more(never, share.images) or 0,
        groups_at_least=more(never, share.groups) or 0,
    )


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that does not lie between 0 and 1.

    Raises:
        BadInput: it does not.
    """
    if not 0 < confidence < 1:
        raise BadInput(f"confidence must lie between 0 and 1, got {confidence:g}")
