"""A fleet of real agents, a real broker and a real monitor, with faults one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from fleet.chaos.audit import Account, read_stored
from fleet.chaos.delivery import wait_for
from fleet.chaos.device import Pace
from fleet.chaos.rehearsal import Rehearsal
from fleet.schema import EVENT
from fleet.store import open_store

Rehearse = Callable[..., Rehearsal]


class Stage(Rehearsal):
    """A rehearsal with what tests ask of it."""

    def wait_for_reports(self, more: int = 4, *, device: int | None = None) -> None:
        """Return when the monitor has so many further reports, of one device or of all together."""
        before = self.count(device)
        assert wait_for(lambda: self.count(device) >= before + more, 60.0), self.journals()

    def count(self, device: int | None = None) -> int:
        """Stored reports."""
        return self.stored() if device is None else len(read_stored(open_store(self.url), self.devices[device].name))

    def wait_until(self, true: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Return when it is true; let what is due heal meanwhile."""
        for _ in range(int(timeout_s / 0.25)):
            if true():
                return
            self.run_for(0.25)
        pytest.fail(f"not true within {timeout_s:g} s\n{self.journals()}")

    def restart_broker(self) -> None:
        """Start the broker; the monitor listens when this returns, for what is told to nobody is not told again."""
        journal = self.folder / "monitor.log"
        before = journal.read_text().count("connected to")
        self.broker.start()
        self.wait_until(lambda: journal.read_text().count("connected to") > before)

    def events(self, kind: str) -> list[str]:
        """What the monitor was told under this kind."""
        with open_store(self.url).connect() as tx:
            return [row.text for row in tx.execute(select(EVENT.c.text).where(EVENT.c.kind == kind))]

    def journal(self, device: int = 0) -> str:
        """The agent's own lines."""
        return (self.devices[device].folder / "agent.log").read_text(errors="replace")

    def journals(self) -> str:
        """The last lines of every agent."""
        return "\n".join(line for k in range(len(self.devices)) for line in self.journal(k).splitlines()[-15:])

    def finish(self) -> list[Account]:
        """Heal, deliver, end in order; every account adds up."""
        self.heal()
        self.deliver()
        accounts = self.end()
        assert [account.faults for account in accounts] == [[] for _ in accounts], self.journals()
        assert "Traceback" not in "".join(self.journal(k) for k in range(len(self.devices)))
        return accounts


@pytest.fixture
def rehearse(mosquitto_program: str, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """`rehearse(agents=1, interval_s=0.3, fps=20, seed=0, keepalive_s=6)`: a fleet that runs."""
    stages: list[Stage] = []

    def begin(
        agents: int = 1, interval_s: float = 0.3, fps: float = 20.0, seed: int = 0, keepalive_s: int = 6
    ) -> Stage:
        folder = tmp_path / f"fleet-{len(stages)}"
        pace = Pace(interval_s, fps, keepalive_s)
        stage = Stage(folder, agents, mosquitto_program, pace, seed=seed, say=lambda _line: None, bundle=None)
        stages.append(stage)
        stage.start()
        stage.wait_for_reports(agents)
        return stage

    yield begin
    for stage in stages:
        stage.close()
