"""A reconnect storm: agents that all lost their broker at once come back, a connection each, and are counted."""

from __future__ import annotations

import heapq
import resource
import selectors
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from device_agent.contract.broker import Broker
from device_agent.contract.codec import SCHEMA, encode
from device_agent.contract.errors import BadInput, Unreachable
from device_agent.contract.session import State
from fleet.simulation.plant import SimulatedFleet

FIRST_S, LOW_S, HIGH_S = 40.0, 1.0, 300.0
"""An agent waits uniformly between `LOW_S` and a limit that starts at `FIRST_S` and doubles with every failure."""
SPARE_FILES = 64


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, measured. `most_a_s`: connections in the busiest second; `retried`: attempts that failed."""

    agents: int
    connected: int
    retried: int
    most_a_s: int
    seconds: float


def wait_s(failures: int, rng: np.random.Generator) -> float:
    """Seconds that an agent waits after its failure number `failures`, from 1: full jitter.

    >>> wait_s(9, np.random.default_rng(1)) < 300
    True
    """
    return float(rng.uniform(LOW_S, min(HIGH_S, FIRST_S * 2 ** min(failures - 1, 10))))


def most_in_a_second(moments_s: list[float]) -> int:
    """Largest number of moments in any window of one second.

    >>> most_in_a_second([0.0, 0.5, 0.9, 1.2, 3.0])
    3
    """
    moments = np.sort(np.asarray(moments_s, np.float64))
    if not len(moments):
        return 0
    return int((np.searchsorted(moments, moments + 1.0, side="left") - np.arange(len(moments))).max())


def storm(
    broker: Broker,
    fleet: SimulatedFleet,
    *,
    rng: np.random.Generator,
    clock_s: Callable[[], float],
    tell: Callable[[str], None] = lambda _line: None,
    patience_s: float = 120.0,
) -> Storm:
    """Connect every device of the fleet by the agent's own law of waiting, as after a broker's restart.

    Each agent opens a connection, says that it is online and listens; all stay connected until the end, when the broker
    publishes their wills.

    Args:
        broker: where; it must allow as many connections.
        fleet: the agents.
        rng: of the waits.
        clock_s: monotonic.
        patience_s: how long nothing may happen beyond the longest wait.

    Raises:
        BadInput: this process may not open as many files.
        Unreachable: nobody could connect.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if fleet.devices + SPARE_FILES > allowed:
        raise BadInput(
            f"storm: {fleet.devices} connections need as many open files, {allowed} are allowed: raise `ulimit -n` or "
            "give fewer devices"
        )
    return _Storm(broker, fleet, rng, clock_s, tell).run(patience_s)


class _Storm:
    def __init__(
        self,
        broker: Broker,
        fleet: SimulatedFleet,
        rng: np.random.Generator,
        clock_s: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self._broker, self._fleet, self._rng, self._clock_s, self._tell = broker, fleet, rng, clock_s, tell
        self._poll = selectors.DefaultSelector()
        self._clients: dict[int, mqtt.Client] = {}
        self._taken: dict[int, float] = {}
        self._failures = [1] * fleet.devices
        self._due = [(self._clock_s() + wait_s(1, rng), device) for device in range(fleet.devices)]
        heapq.heapify(self._due)

    def run(self, patience_s: float) -> Storm:
        began_s = changed_s = told_s = self._clock_s()
        try:
            while len(self._taken) < self._fleet.devices:
                now_s, known = self._clock_s(), len(self._taken)
                while self._due and self._due[0][0] <= now_s:
                    self._connect(heapq.heappop(self._due)[1])
                self._serve(0.05)
                if len(self._taken) != known:
                    changed_s = self._clock_s()
                if self._clock_s() - changed_s > HIGH_S + patience_s or (
                    not self._taken and self._clock_s() - began_s > patience_s
                ):
                    break
                if now_s - told_s >= 5:
                    told_s = now_s
                    there, lost = len(self._taken), self._retried()
                    self._tell(f"{there} of {self._fleet.devices} connected, {lost} attempts failed")
            if not self._taken:
                raise Unreachable(f"{self._broker}: no agent could connect within {patience_s:g} s")
            return Storm(
                agents=self._fleet.devices,
                connected=len(self._taken),
                retried=self._retried(),
                most_a_s=most_in_a_second(list(self._taken.values())),
                seconds=round(self._clock_s() - began_s, 2),
            )
        finally:
            for client in self._clients.values():
                client.disconnect(reasoncode=ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
            self._poll.close()

    def _retried(self) -> int:
        return sum(self._failures) - self._fleet.devices

    def _connect(self, device: int) -> None:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._fleet.name(device),
            protocol=MQTTProtocolVersion.MQTTv5,
            userdata=device,
        )
        if self._broker.user is not None:
            client.username_pw_set(self._broker.user, self._broker.password)
        if self._broker.tls:
            client.tls_set_context(self._broker.credentials.context())
        topic = self._fleet.topic(device, "state")
        client.will_set(topic, encode(State(SCHEMA, 65_536, False, "lost")), qos=1, retain=True)
        client.on_connect = self._on_connect
        try:
            client.connect(self._broker.host, self._broker.port, keepalive=900)
        except OSError:
            self._fail(device)
            return
        if (plug := client.socket()) is None:
            self._fail(device)
            return
        self._clients[device] = client
        self._poll.register(plug, selectors.EVENT_READ, device)

    def _serve(self, timeout_s: float) -> None:
        for key, _events in self._poll.select(timeout_s):
            device = key.data
            client = self._clients[device]
            if client.loop_read() != mqtt.MQTT_ERR_SUCCESS or client.socket() is None:
                self._poll.unregister(key.fileobj)
                self._clients.pop(device, None)
                self._taken.pop(device, None)
                self._fail(device)
            elif client.want_write():
                client.loop_write()

    def _on_connect(self, client: mqtt.Client, device: int, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            return  # the broker closes the connection, which is then read
        self._taken[device] = self._clock_s()
        state = encode(State(SCHEMA, 65_537, True))
        client.publish(self._fleet.topic(device, "state"), state, qos=0, retain=True)

    def _fail(self, device: int) -> None:
        self._failures[device] += 1
        heapq.heappush(self._due, (self._clock_s() + wait_s(self._failures[device], self._rng), device))
