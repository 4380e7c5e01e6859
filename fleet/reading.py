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

    @property
    def stirring(self) -> bool:
        """Evidence of at least ten to one, or an alert level that is not cleared yet."""
        return self.level > 0 or self.score >= STIRRING
