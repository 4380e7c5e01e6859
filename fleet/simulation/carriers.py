"""A simulated fleet over MQTT: thousands of devices on a few connections, each with its own sequence and acks.

A device keeps every report until an acknowledgement covers it, and sends what is left again after `RESEND` intervals
without progress and after every reconnect, as an agent does. The monitor cannot tell that connections are shared; a
broker whose access list binds a device to its user can, and refuses.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from device_agent.contract import topics
from device_agent.contract.broker import Broker
from device_agent.contract.codec import SCHEMA, decode, encode
from device_agent.contract.errors import BadInput, Unreachable
from device_agent.contract.report import write_backfill
from device_agent.contract.session import Ack, State
from fleet.simulation.plant import Said, SimulatedFleet, phases_s

RESEND, MOST_AT_ONCE, SUBSCRIBED_AT_ONCE = 6, 60, 200
SLICES = 20
GOODBYE_S = 10.0
"""Parts of an interval in which the devices of that phase send together."""


class Outbox:
    """What one device has sent and nobody has acknowledged.

    >>> outbox = Outbox(epoch=7)
    >>> for sequence in (1, 2, 3): outbox.put(sequence, b"", 10.0 * sequence)
    >>> outbox.acknowledge(Ack(16, 7, 2), 25.0), outbox.held, outbox.acknowledge(Ack(16, 8, 3), 26.0)
    ([15.0, 5.0], 1, [])
    """

    def __init__(self, epoch: int) -> None:
        self.epoch, self.progress_s = epoch, 0.0
        self._sent: deque[tuple[int, bytes, float]] = deque()

    @property
    def held(self) -> int:
        """Reports that wait for an acknowledgement."""
        return len(self._sent)

    def put(self, sequence: int, payload: bytes, now_s: float) -> None:
        """Keep a report that is sent now."""
        if not self._sent:
            self.progress_s = now_s
        self._sent.append((sequence, payload, now_s))

    def acknowledge(self, ack: Ack, now_s: float) -> list[float]:
        """Forget what the ack covers; seconds that each of these reports waited. One of another epoch says nothing."""
        waited: list[float] = []
        while ack.epoch == self.epoch and self._sent and self._sent[0][0] <= ack.sequence:
            waited.append(now_s - self._sent.popleft()[2])
            self.progress_s = now_s
        return waited

    def again(self, now_s: float) -> bytes | None:
        """The oldest up to 60 reports as a backfill; None where nothing is held."""
        self.progress_s = now_s
        oldest = [payload for _, payload, _ in list(self._sent)[:MOST_AT_ONCE]]
        return write_backfill(oldest) if oldest else None


class CarriedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What went over the broker, measured. `lag_s`: from sending to the ack of a report, its median and 99th
    percentile; `behind_s`: how late the slowest slice was sent, which tells whether this program kept the pace."""

    devices: int
    connections: int
    minutes: int
    sent: int
    acknowledged: int
    sent_again: int
    held: int
    seconds: float
    reports_a_s: float
    lag_s: tuple[float, float] | None
    behind_s: float


class Carrier:
    """One connection that speaks for some devices.

    Args:
        broker: where.
        name: client id.
        fleet: the devices.
        members: their numbers.
        clock_s: monotonic.
    """

    def __init__(
        self, broker: Broker, name: str, fleet: SimulatedFleet, members: Iterable[int], clock_s: Callable[[], float]
    ) -> None:
        self._fleet, self._clock_s = fleet, clock_s
        self.outboxes = {member: Outbox(fleet.epoch(member)) for member in members}
        self._numbers = {fleet.name(member): member for member in self.outboxes}
        self.waited: list[float] = []
        self.sent_again, self.refused = 0, ""
        self.ready = threading.Event()
        self._lock, self._left, self._sessions = threading.Lock(), 0, 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.max_queued_messages_set(0)
        if broker.user is not None:
            self._client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            self._client.tls_set_context(broker.credentials.context())
        self._client.reconnect_delay_set(1, 30)
        self._client.on_connect, self._client.on_message = self._on_connect, self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.connect_async(broker.host, broker.port, broker.keepalive_s or 60)
        self._client.loop_start()

    def send(self, said: Said) -> None:
        """Publish a report, and keep it until it is acknowledged."""
        with self._lock:
            self.outboxes[said.device].put(said.sequence, said.payload, self._clock_s())
        self._client.publish(self._fleet.topic(said.device, "report"), said.payload, qos=0)

    def send_stale(self, after_s: float) -> None:
        """Send again what waits in devices that had no ack for `after_s`."""
        now_s = self._clock_s()
        with self._lock:
            due = [k for k, outbox in self.outboxes.items() if outbox.held and now_s - outbox.progress_s > after_s]
            payloads = [(k, self.outboxes[k].again(now_s)) for k in due]
        for device, payload in payloads:
            if payload is not None:
                self.sent_again += 1
                self._client.publish(self._fleet.topic(device, "backfill"), payload, qos=0)

    @property
    def held(self) -> int:
        """Reports of all its devices that nobody has acknowledged."""
        with self._lock:
            return sum(outbox.held for outbox in self.outboxes.values())

    def stop(self) -> None:
        """Say goodbye for every device."""
        told = self._tell_states(online=False)
        end_s = self._clock_s() + GOODBYE_S
        for one in told:  # a broker takes some at a time
            if self._client.is_connected():
                one.wait_for_publish(max(0.0, end_s - self._clock_s()))
        self._client.disconnect()
        self._client.loop_stop()

    def _tell_states(self, *, online: bool) -> list[mqtt.MQTTMessageInfo]:
        state = encode(State(SCHEMA, 65_536 + self._sessions, online, "" if online else "stopped"))
        places = [self._fleet.topic(device, "state") for device in self.outboxes]
        return [self._client.publish(topic, state, qos=1, retain=True) for topic in places]

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self.refused = str(code).lower()
            return
        self._sessions += 1
        names = [(topics.down(name, "ack"), 0) for name in self._numbers]
        parts = [names[at : at + SUBSCRIBED_AT_ONCE] for at in range(0, len(names), SUBSCRIBED_AT_ONCE)]
        self._left = len(parts)
        for part in parts:
            client.subscribe(part)

    def _on_subscribe(self, client: mqtt.Client, _data: Any, _id: int, codes: Any, _properties: Any) -> None:
        """With the last subscription the devices are there: births, then what was not acknowledged."""
        if any(code.is_failure for code in codes):
            self.refused = str(next(code for code in codes if code.is_failure)).lower()
        self._left -= 1
        if self._left:
            return
        self._tell_states(online=True)
        for device in self.outboxes:
            client.publish(self._fleet.topic(device, "birth"), encode(self._fleet.birth(device)), qos=1, retain=True)
        self.ready.set()
        if self._sessions > 1:
            self.send_stale(-1.0)

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        device = self._numbers.get(message.topic.split("/")[3])
        try:
            ack = decode(bytes(message.payload), Ack)
        except BadInput:
            return
        if device is not None:
            with self._lock:
                self.waited += self.outboxes[device].acknowledge(ack, self._clock_s())


def carry(
    broker: Broker,
    fleet: SimulatedFleet,
    days: int,
    *,
    connections: int,
    start_ms: int,
    clock_s: Callable[[], float],
    pause: Callable[[float], object],
    minutes: int | None = None,
    patience_s: float = 60.0,
    tell: Callable[[str], None] = lambda _line: None,
) -> CarriedRun:
    """Send the reports of a fleet in their pace, each device in its own phase, and wait until all are acknowledged.

    Args:
        broker: where.
        fleet: the devices; one simulated minute takes `interval_ms`.
        days: of reports.
        connections: at least 1; each speaks for as many devices.
        start_ms: wall clock now.
        clock_s, pause: monotonic clock, and a wait in seconds.
        minutes: end earlier, after so many.
        patience_s: how long to wait in the end without any progress.
        tell: called with a line of progress a minute.

    Raises:
        Unreachable: the broker does not answer within `patience_s`, or refuses.
    """
    interval_s, phase = fleet.interval_ms / 1000, phases_s(fleet)
    carriers = [
        Carrier(broker, f"lineside-sim-{fleet.seed}-{k}", fleet, range(k, fleet.devices, connections), clock_s)
        for k in range(min(connections, fleet.devices))
    ]
    sent, number, behind_s = 0, 0, 0.0
    try:
        _wait_ready(carriers, broker, patience_s, clock_s, pause)
        drawn = fleet.minutes(days, start_ms=start_ms)
        first = next(drawn)  # a whole day is drawn at a time, which would delay the first minute
        began_s = clock_s()
        for number, said in enumerate(chain([first], drawn), start=1):
            slot = [min(SLICES - 1, int(phase[one.device] / interval_s * SLICES)) for one in said]
            for part in range(SLICES):
                due_s = began_s + (number - 1 + (part + 1) / SLICES) * interval_s
                pause(max(0.0, due_s - clock_s()))
                behind_s = max(behind_s, clock_s() - due_s)
                for one, where in zip(said, slot, strict=True):
                    if where == part:
                        carriers[one.device % len(carriers)].send(one)
            sent += len(said)
            for carrier in carriers:
                carrier.send_stale(RESEND * interval_s)
            tell(f"minute {number}: {sent} sent, {sum(carrier.held for carrier in carriers)} not acknowledged")
            if minutes is not None and number >= minutes:
                break
        spent_s = clock_s() - began_s
        _wait_acks(carriers, patience_s, RESEND * interval_s, clock_s, pause)
        held, waited = sum(carrier.held for carrier in carriers), [s for carrier in carriers for s in carrier.waited]
    finally:
        for carrier in carriers:
            carrier.stop()
    lag = np.quantile(waited, [0.5, 0.99]).round(3).tolist() if waited else None
    return CarriedRun(
        devices=fleet.devices,
        connections=len(carriers),
        minutes=number,
        sent=sent,
        acknowledged=sent - held,
        sent_again=sum(carrier.sent_again for carrier in carriers),
        held=held,
        seconds=round(spent_s, 2),
        reports_a_s=round(sent / max(spent_s, 1e-9), 1),
        lag_s=(lag[0], lag[1]) if lag else None,
        behind_s=round(behind_s, 3),
    )


def _wait_ready(
    carriers: list[Carrier],
    broker: Broker,
    patience_s: float,
    clock_s: Callable[[], float],
    pause: Callable[[float], object],
) -> None:
    end_s = clock_s() + patience_s
    while not all(carrier.ready.is_set() for carrier in carriers):
        refused = next((carrier.refused for carrier in carriers if carrier.refused), "")
        if refused or clock_s() > end_s:
            why = f"the broker refuses: {refused}" if refused else f"no answer within {patience_s:g} s"
            raise Unreachable(f"{broker}: {why}")
        pause(0.02)


def _wait_acks(
    carriers: list[Carrier],
    patience_s: float,
    resend_s: float,
    clock_s: Callable[[], float],
    pause: Callable[[float], object],
) -> None:
    held, since_s = -1, clock_s()
    while (now := sum(carrier.held for carrier in carriers)) and clock_s() - since_s < patience_s:
        if now != held:
            held, since_s = now, clock_s()
        for carrier in carriers:
            carrier.send_stale(resend_s)
        pause(0.1)
