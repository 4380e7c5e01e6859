"""From MQTT messages to a batch of checked Structs. What cannot be read is set aside with the reason, never dropped."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeVar

import msgspec

from device_agent.contract.codec import SCHEMA, decode
from device_agent.contract.errors import BadInput, UnknownSchema
from device_agent.contract.report import BACKFILL, U32, U63, DeviceReport, open_backfill, read_report
from device_agent.contract.session import Birth, Event, State
from device_agent.contract.topics import parse_up, up
from fleet.soundness import sound

Said = TypeVar("Said", bound=msgspec.Struct)


class Message(NamedTuple):
    """As it came: `received_ms` is the monitor's wall clock."""

    topic: str
    payload: bytes
    received_ms: int


class Arrival(NamedTuple):
    """A readable report; `live` when it was taken in the interval before it came."""

    device: str
    report: DeviceReport
    payload: bytes
    received_ms: int
    live: bool


class Reject(NamedTuple):
    """A message set aside. `device`, `epoch` and `sequence` are known when at least the head of a report could be read.
    `newer`: of a schema that a later version of the monitor will read."""

    topic: str
    payload: bytes
    received_ms: int
    reason: str
    device: str | None = None
    epoch: int | None = None
    sequence: int | None = None
    newer: bool = False


class Batch(msgspec.Struct):
    """What came since the last batch, in order of arrival."""

    reports: list[Arrival] = []
    births: list[tuple[str, Birth, int]] = []
    states: list[tuple[str, State, int]] = []
    events: list[tuple[str, Event, int]] = []
    rejects: list[Reject] = []

    def join(self, later: Batch) -> Batch:
        """What came in both."""
        return Batch(*(getattr(self, name) + getattr(later, name) for name in self.__struct_fields__))

    def only(self, mine: Callable[[str], bool]) -> Batch:
        """What is of devices that are `mine`, and what is of nobody."""
        return Batch(
            [one for one in self.reports if mine(one.device)],
            [one for one in self.births if mine(one[0])],
            [one for one in self.states if mine(one[0])],
            [one for one in self.events if mine(one[0])],
            [one for one in self.rejects if not one.device or mine(one.device)],
        )


class _Key(msgspec.Struct, array_like=True):
    schema: int
    epoch: U32
    sequence: U63


def read_batch(messages: list[Message]) -> Batch:
    """The messages as one batch; nothing in a payload can make this raise."""
    batch = Batch()
    plain: list[Arrival] = []
    for message in messages:
        try:
            device, kind = _address(message.topic)
            if kind == "report" and (report := _decode_plain(message.payload)) is not None:
                live = not report.flags & BACKFILL
                plain.append(Arrival(device, report, message.payload, message.received_ms, live))
            else:
                _read(batch, device, kind, message)
        except BadInput as error:
            batch.rejects.append(_reject(message, error))
    for arrival, good in zip(plain, sound([arrival.report for arrival in plain]).tolist(), strict=True):
        if good:
            batch.reports.append(arrival)
        else:
            message = Message(up(arrival.device, "report"), arrival.payload, arrival.received_ms)
            _read_report(batch, arrival.device, message, live=True)
    return batch


@lru_cache(maxsize=1 << 18)
def _address(topic: str) -> tuple[str, str]:
    """`parse_up`, which costs as much as the rest of a message."""
    return parse_up(topic)


_DECODER = msgspec.msgpack.Decoder(DeviceReport)


def _decode_plain(payload: bytes) -> DeviceReport | None:
    """The report in a payload of MessagePack, not checked beyond the types of its fields; None for anything else."""
    try:
        report = _DECODER.decode(payload)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None
    return report if report.schema // 16 == SCHEMA // 16 else None


def apart(messages: list[Message]) -> list[Message]:
    """The same messages with every report in one of its own, so that one of them can be set aside alone."""
    single = []
    for message in messages:
        try:
            device, kind = parse_up(message.topic)
            reports = open_backfill(message.payload) if kind == "backfill" else []
        except BadInput:
            reports = []
        single += [Message(up(device, "report"), report, message.received_ms) for report in reports] or [message]
    return single


def set_aside(message: Message, reason: str) -> Batch:
    """A batch that holds one message only as a reject."""
    return Batch(rejects=[_reject(message, BadInput(reason))])


def _read(batch: Batch, device: str, kind: str, message: Message) -> None:
    if kind == "report":
        _read_report(batch, device, message, live=True)
    elif kind == "backfill":
        for payload in open_backfill(message.payload):
            _read_report(batch, device, message._replace(payload=payload), live=False)
    elif kind == "birth":
        batch.births.append((device, storable(decode(message.payload, Birth)), message.received_ms))
    elif kind == "state":
        batch.states.append((device, storable(decode(message.payload, State)), message.received_ms))
    elif kind == "event":
        batch.events.append((device, storable(decode(message.payload, Event)), message.received_ms))


def storable(message: Said) -> Said:
    """The same with texts that any database takes: PostgreSQL has no character NUL.

    >>> storable(State(16, 1, True, "a\\0b")).reason
    'a\ufffdb'
    """
    changed: dict[str, object] = {}
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, str) and "\0" in value:
            changed[name] = value.replace("\0", "\ufffd")
        elif isinstance(value, list) and any(isinstance(one, str) and "\0" in one for one in value):
            changed[name] = [one.replace("\0", "\ufffd") if isinstance(one, str) else one for one in value]
    return msgspec.structs.replace(message, **changed) if changed else message


def _read_report(batch: Batch, device: str, message: Message, *, live: bool) -> None:
    try:
        report = read_report(message.payload)
    except BadInput as error:
        batch.rejects.append(_reject(message, error))
        return
    live = live and not report.flags & BACKFILL
    batch.reports.append(Arrival(device, report, message.payload, message.received_ms, live))


def _reject(message: Message, error: BadInput) -> Reject:
    try:
        device, kind = parse_up(message.topic)
    except BadInput:
        return Reject(*message, reason=str(error))
    epoch, sequence = _key(message.payload) if kind in ("report", "backfill") else (None, None)
    return Reject(*message, str(error), device, epoch, sequence, newer=isinstance(error, UnknownSchema))


def _key(payload: bytes) -> tuple[int | None, int | None]:
    try:
        read = msgspec.json.decode if payload[:1] == b"[" else msgspec.msgpack.decode
        key = read(payload, type=_Key)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return None, None
    return key.epoch, key.sequence
