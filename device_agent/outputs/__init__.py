"""Where the line hears what becomes of a part: JSON lines, MQTT, a webhook, GPIO pins.

Each output has a thread of its own, and loses verdicts rather than keep anybody waiting.
"""

from __future__ import annotations

from typing import Literal, Protocol

from device_agent.contract.errors import LinesideError
from device_agent.contract.review import Verdict

Fate = Literal["pass", "review", "reject"]


class LineOutput(Protocol):
    """One way to the line."""

    def put(self, verdict: Verdict) -> None:
        """Hand over a verdict; returns at once and never raises."""
        ...

    def close(self, timeout_s: float) -> None:
        """Deliver what waits, as far as it is taken within the time, and leave the line in its safe state."""
        ...


class NotTaken(LinesideError):
    """A receiver did not take a verdict, which is lost; the next one may be taken."""


def fate_of(verdict: Verdict) -> Fate | None:
    """What becomes of the part: its `decision`, or without an operating point what its label is; None where nobody
    knows.

    >>> fate_of(Verdict(0, "scratch", "defect", 0.9, 2.2, 0)), fate_of(Verdict(0, "", "", 0.0, 0.0, 0))
    ('reject', None)
    >>> fate_of(Verdict(0, "scratch", "defect", 0.6, 0.4, 0, decision="review"))
    'review'
    """
    if verdict.decision == "pass" or verdict.decision == "review" or verdict.decision == "reject":
        return verdict.decision  # type: ignore[return-value]
    if not verdict.role:
        return None
    return "pass" if verdict.role == "good" else "reject"
