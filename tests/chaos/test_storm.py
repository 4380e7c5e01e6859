"""10,000 agents lose their broker at once: what comes back to it in any second is counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from device_agent.config import Timing
from device_agent.uplink import Clocks, Uplink

AGENTS, MOST_A_SECOND = 10_000, 500


class EmptySpool:
    """A spool with nothing in it."""

    boot, epoch, last_id = 1, 7, 0

    def pending(self, *_: object, **__: object) -> list[object]:
        return []


class Door:
    """The broker's door for one agent: attempts are counted by the second, and taken or refused."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.uplink: Uplink | None = None

    def open(self, will: bytes) -> None:
        self._fleet.attempts[int(self._fleet.now_s)] += 1
        self._fleet.knocking.append(self)

    def give_up(self) -> None: ...

    def publish(self, kind: str, payload: bytes, **_: object) -> None: ...

    def close(self, timeout_s: float) -> None: ...


class Fleet:
    """Uplinks on one clock, whose seconds pass when told to."""

    def __init__(self, agents: int, seed: int) -> None:
        self.now_s, self.attempts = 0.0, Counter[int]()
        self.knocking: list[Door] = []
        self.uplinks: list[Uplink] = []
        clocks = Clocks(lambda: self.now_s, lambda: 1.7e9)
        for number in range(agents):
            door = Door(self)
            rng = random.Random(seed * agents + number)
            quiet: Callable[[str, str], None] = lambda _kind, _text: None  # noqa: E731
            door.uplink = Uplink(EmptySpool, door, timing=Timing.of(60), clocks=clocks, log=quiet, rng=rng)  # type: ignore[arg-type]
            self.uplinks.append(door.uplink)

    def tick(self, *, broker: bool) -> None:
        """One second."""
        self.now_s += 1
        for uplink in self.uplinks:
            uplink.tick()
        for door in self.knocking:
            assert door.uplink is not None
            door.uplink.connected() if broker else door.uplink.disconnected("the broker does not answer")
        self.knocking.clear()


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [0, 5, 60])
def test_a_broker_that_restarts_is_not_stormed(away_s, capsys):
    fleet = Fleet(AGENTS, seed=3)
    fleet.tick(broker=True)
    fleet.now_s += 3600
    fleet.attempts.clear()
    for uplink in fleet.uplinks:
        uplink.disconnected("the connection ended")
    start_s = fleet.now_s
    while not all(uplink.online for uplink in fleet.uplinks):
        assert fleet.now_s < start_s + 900
        fleet.tick(broker=fleet.now_s - start_s > away_s)
    most, back_s = max(fleet.attempts.values()), fleet.now_s - start_s
    with capsys.disabled():
        print(f"\nbroker away {away_s} s: at most {most} attempts in a second, all are back after {back_s:.0f} s")
    assert sum(fleet.attempts.values()) >= AGENTS and most <= MOST_A_SECOND
