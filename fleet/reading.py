"""Reading: the detector's last word on one device."""

from __future__ import annotations

import math

import msgspec

STIRRING = math.log(10)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Score of a device after its last report, natural log of an e-value, and what the strongest stream shows.

    `warn_at`, `page_at`: the scores at which it warns and pages. `level` 0, 1 (warn), 2 (page), held until cleared.
    `armed` False: normal is not known yet, nothing above info is raised. `ratio`: rate over the expected one with its
    95 % interval; `independent`: number of independent frames since `onset_ms`. `peers`: devices compared with.
    `excess`: share of frames, 0 to 1, that the strongest stream has beyond the expected one, at least (95 %); None
    where a stream does not count frames of low confidence.
    """

    device: str
    model: str
    at_ms: int
    score: float
    warn_at: float
    page_at: float
    level: int
    frozen: bool
    armed: bool
    stream: str
    onset_ms: int
    log_e: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    independent: float
    peers: int
    windows: int
    excess: float | None = None

    @property
    def stirring(self) -> bool:
        """Evidence of at least ten to one, or an alert level that is not cleared yet."""
        return self.level > 0 or self.score >= STIRRING


def excess(stream: str, expected: float, ratio_low: float) -> float | None:
    """Share of frames of low confidence beyond the expected one, at least.

    Args:
        stream: name of the stream; only those that count frames of low confidence say anything here.
        expected: its share of frames that is normal, 0 to 1.
        ratio_low: lower 95 % limit of the rate over the expected one.

    >>> excess("low+", 0.01, 26.0), excess("def+", 0.01, 26.0)
    (0.25, None)
    """
    if stream not in ("low+", "tail+") or not (math.isfinite(expected) and math.isfinite(ratio_low)):
        return None
    return float(min(max(expected * (ratio_low - 1), 0.0), 1.0))
