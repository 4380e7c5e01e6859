"""A fleet in one folder: started, put through faults, healed, waited for, ended in order, and audited."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, select

from device_agent.contract.errors import NotWritable
from fleet.chaos.audit import Account, audit
from fleet.chaos.bundle import write_fake_bundle
from fleet.chaos.delivery import deliver
from fleet.chaos.device import Device, Pace
from fleet.chaos.faults import FAULTS, Done
from fleet.chaos.machine import Disk, Memory, Unavailable, Wire
from fleet.chaos.programs import HOST, Broker, Program, python
from fleet.chaos.proxy import Network, Proxy
from fleet.schema import REPORT
from fleet.store import open_store

TURN_S = 0.05
RECOVERED_S = 12.0
Say = Callable[[str], None]


class Action(msgspec.Struct):
    """One line of the log of actions; `at_s` since the start."""

    at_s: float
    fault: str
    target: str
    text: str


class Rehearsal:
    """N agents, a broker and a monitor, each a process of its own; files lie in `folder`, which must be new or empty.

    Raises:
        NotWritable: the folder cannot be made.
    """

    def __init__(
        self, folder: Path, agents: int, broker_program: str, pace: Pace, *, seed: int, say: Say, bundle: Path | None
    ) -> None:
        self.folder, self.pace, self.say = folder, pace, say
        self.rng = random.Random(seed)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NotWritable(f"{folder}: cannot be made: {(error.strerror or str(error)).lower()}") from error
        if bundle is None:
            bundle = folder / "rehearsal.lineside"
            write_fake_bundle(bundle)
        self.url = f"sqlite:///{folder / 'fleet.db'}"
        self.engine = open_store(self.url, create=True)
        self.broker, self.network = Broker(broker_program, folder), Network()
        self.monitor = Program(self._serve, folder / "monitor.log")
        self.busy: set[str] = set()
        self.proxies: dict[str, Proxy] = {}
        self.wires: dict[str, Wire] = {}
        self.disks: dict[str, Disk] = {}
        self.memories: dict[str, Memory] = {}
        self.absent: dict[str, str] = {}
        self.kills: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._heals: list[tuple[float, Callable[[], None]]] = []
        self._start_s = time.monotonic()
        self.devices = [self._device(number, bundle, seed) for number in range(agents)]

    def _serve(self, _number: int) -> list[str]:
        broker = f"mqtt://{HOST}:{self.broker.port}"
        interval = f"{self.pace.interval_s:g}"
        return python(
            "fleet.cli", "serve", "--broker", broker, "--store", self.url, "--port", "0", "--interval", interval
        )

    def _device(self, number: int, bundle: Path, seed: int) -> Device:
        """A device; the first has a network of its own, the second a disk, the third a limit on memory, where this
        machine can give them."""
        name, host, prefix = f"agent-{number:02}", HOST, tuple[str, ...]()
        folder = self.folder / name
        if number == 0 and (wire := self._have("partition", lambda: Wire(number))) is not None:
            self.wires[name], host, prefix = wire, wire.host, wire.prefix
        if number == 1 and (disk := self._have("fill_disk", lambda: Disk(folder / "state"))) is not None:
            self.disks[name] = disk
        if number == 2 and (memory := self._have("limit_memory", lambda: Memory(number))) is not None:
            self.memories[name], prefix = memory, memory.prefix
        proxy = self.proxies[name] = self.network.proxy(self.broker.port, host=host, seed=seed + number)
        return Device(name, folder, bundle, f"{host}:{proxy.port}", self.pace, prefix)

    def _have(self, fault: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Unavailable as error:
            self.absent[fault] = str(error)
            return None

    def start(self) -> None:
        """Broker, monitor and agents, in this order; they need not be ready when this returns.

        Raises:
            Unreachable: the broker does not start.
        """
        self.broker.start()
        self.broker.await_listening()
        self.monitor.start()
        for device in self.devices:
            device.start()

    def run_for(self, seconds: float) -> None:
        """Let time pass; what is due heals, and what ended by itself is started again."""
        end = time.monotonic() + seconds
        while True:
            self._turn()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(TURN_S, left))

    def _turn(self) -> None:
        now = time.monotonic()
        due, self._heals = (
            [heal for heal in self._heals if heal[0] <= now],
            [heal for heal in self._heals if heal[0] > now],
        )
        for _, heal in due:
            heal()
        for device in self.devices:
            if device.note_death():
                memory = self.memories.get(device.name)
                cause = "oom-kill" if memory is not None and memory.killed() else "exit"
                device.say_cause(cause)
                self.log("died", device.name, f"it ended by {cause} and is started again")
                device.start()
        if self.monitor.note_death():
            self.log("died", "monitor", "it ended by itself and is started again")
            self.monitor.start()

    def log(self, fault: str, target: str, text: str) -> None:
        """Write an action down."""
        self.counts[fault] += 1
        action = Action(round(time.monotonic() - self._start_s, 3), fault, target, text)
        with (self.folder / "actions.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(action) + b"\n")

    def torment(self, *, kills: int | None, seconds: float | None, pause_s: float) -> None:
        """Faults drawn by their weights, with exponential pauses of mean `pause_s`, until so many processes were
        killed or so much time has passed."""
        names = [name for name in FAULTS if name not in self._missing()]
        weights = [FAULTS[name][1] for name in names]
        end, told_s = None if seconds is None else time.monotonic() + seconds, time.monotonic()
        while (kills is None or self.kills.total() < kills) and (end is None or time.monotonic() < end):
            self.run_for(self.rng.expovariate(1 / pause_s))
            self.do(self.rng.choices(names, weights)[0])
            if time.monotonic() - told_s >= 10:
                told_s = time.monotonic()
                self.say(f"{self.counts.total()} actions, {self.kills.total()} kills, {self.stored()} reports stored")

    def _missing(self) -> dict[str, str]:
        """Faults that cannot be made here, and why."""
        absent = dict(self.absent)
        if "partition" in absent:
            absent["narrow"] = absent["partition"]
        for name, owned in (("partition", self.wires), ("fill_disk", self.disks), ("limit_memory", self.memories)):
            if not owned:
                absent.setdefault(name, "too few agents")
        if not self.wires:
            absent.setdefault("narrow", "too few agents")
        return absent

    def do(self, name: str) -> Done | None:
        """Make one fault now; None if it cannot be made just now."""
        if name == "kill_broker" and not self.broker.running:
            return None
        try:
            done = FAULTS[name][0](self)
        except Unavailable:
            return None
        self.log(name, done.target, done.text)
        if done.kills:
            self.kills[name] += done.kills
        if done.heal is not None:
            at = time.monotonic() + done.heal_s
            self._heals.append((at, done.heal))
            if done.target in self.busy:
                self._heals.append((at + RECOVERED_S, lambda: self.busy.discard(done.target)))
        return done

    def heal(self) -> None:
        """End every fault that still lasts."""
        for _, heal in sorted(self._heals, key=lambda one: one[0]):
            heal()
        self._heals.clear()
        if not self.broker.running:
            self.broker.start()
        self.log("healed", "all", "nothing is wrong any more")

    def stored(self) -> int:
        """Reports in the monitor's store."""
        with self.engine.connect() as tx:
            return int(tx.scalar(select(func.count()).select_from(REPORT)) or 0)

    def deliver(self) -> float:
        """Wait until everything that was committed is stored, and end the agents in order; seconds that it took."""
        return deliver(self.engine, self.devices, self.pace.interval_s)

    def end(self) -> list[Account]:
        """End monitor and broker in order; the accounts of all devices."""
        for device in self.devices:
            device.stop()
        self.monitor.stop()
        self.broker.stop()
        return audit(self.devices, self.engine, self.pace.interval_s)

    def close(self) -> None:
        """End whatever still runs, and give back what was taken from the machine."""
        for device in self.devices:
            device.kill()
        self.monitor.kill()
        self.broker.kill()
        self.network.close()
        owned: list[Wire | Disk | Memory] = [*self.wires.values(), *self.disks.values(), *self.memories.values()]
        for one in owned:
            one.close()
