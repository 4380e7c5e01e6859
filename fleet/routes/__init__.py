"""Routes: ways on which people and programs are told of alerts. One thread each, so that none waits for another.

A kind of route is a class with `take(notice)`. Built-in kinds are in `KINDS`; installed packages add their own under
the entry-point group `lineside.alert_routes`.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from device_agent.contract.alert import Alert
from device_agent.contract.plugins import Seam

KINDS = Seam(
    "alert_routes",
    {
        "apprise": "fleet.routes.people:AppriseRoute",
        "webhook": "fleet.routes.webhook:WebhookRoute",
        "alertmanager": "fleet.routes.alertmanager:AlertmanagerRoute",
        "mqtt": "fleet.routes.topic:TopicRoute",
        "memory": "fleet.routes.memory:MemoryRoute",
    },
)


class Item(msgspec.Struct, frozen=True):
    """One alert, and what became of it: opened, raised, explained, inhibited, reminder or closed."""

    what: str
    alert: Alert


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `id` is the same when it is sent again, so that a receiver can drop the second. A digest stands for
    many alerts: `counts` has how many of each severity, `title` and `text` are made for people and hold no character
    that moves a cursor or begins a new line elsewhere."""

    id: str
    kind: Literal["alert", "digest", "test"]
    at_ms: int
    title: str
    text: str
    counts: dict[str, int] = {}
    items: list[Item] = []


class NotTaken(Exception):
    """A receiver did not take a notice. `message` is one line without secrets; `wait_s` what it asked to wait;
    `refused`: it does not want this one, another may go."""

    def __init__(self, message: str, *, wait_s: float = 0.0, refused: bool = False) -> None:
        super().__init__(message)
        self.wait_s, self.refused = wait_s, refused


class Route(Protocol):
    """A way to a receiver; `take` runs in the thread of the route."""

    def take(self, notice: Notice) -> None:
        """Return once the receiver has it.

        Raises:
            NotTaken: it does not have it.
        """

    def close(self) -> None:
        """Hang up."""
