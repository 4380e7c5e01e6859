"""What says that a part is before the camera: a pin, a topic, a clock, a simulated sensor.

gpio:17[:k=v,...]   mqtt://HOST[:PORT]/TOPIC[?k=v&...]   every:SECONDS[:k=v,...]   sensor[:k=v,...]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput
from device_agent.contract.plugins import Seam
from device_agent.frames import read_options

TRIGGERS = Seam(
    "triggers",
    {
        "gpio": "device_agent.triggers.gpio:GpioTrigger",
        "mqtt": "device_agent.triggers.mqtt:MqttTrigger",
        "every": "device_agent.triggers.sensor:EveryTrigger",
        "sensor": "device_agent.triggers.sensor:SensorTrigger",
    },
)
_OPTIONS = re.compile(r"[a-z_]+=[^:,]*(,[a-z_]+=[^:,]*)*")


class Fired(NamedTuple):
    """A part: when it was where its frame is to be taken, ns on the monotonic clock, and its number from 0 on."""

    at_ns: int
    number: int


class Trigger(Protocol):
    """Announces parts, in their order."""

    within_s: float
    """A frame that shows the part is captured at most so long after it fired."""

    def wait(self, timeout_s: float) -> Fired | None:
        """The next part; None when none came within the time."""
        ...

    def close(self) -> None:
        """Announce no further ones."""
        ...


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of every trigger: the part is before the camera `delay_ms` after it was seen, and its frame is captured at most
    `within_ms` after that."""

    delay_ms: Annotated[int, Meta(ge=0, le=10_000)] = 0
    within_ms: Annotated[int, Meta(ge=1, le=60_000)] = 1000


class TriggerAddress(NamedTuple):
    """A trigger as the configuration names it; `str()` of it shows no password."""

    kind: str
    target: str
    options: dict[str, str]

    def __str__(self) -> str:
        text = (
            self.target if self.target.startswith(("mqtt://", "mqtts://")) else f"{self.kind}:{self.target}".rstrip(":")
        )
        scheme, separator, rest = text.rpartition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def parse_trigger(text: str) -> TriggerAddress:
    """The parts of a trigger's address, every option looked at.

    >>> parse_trigger("gpio:17:bounce_ms=5")
    TriggerAddress(kind='gpio', target='17', options={'bounce_ms': '5'})
    >>> print(parse_trigger("mqtt://plc:secret@localhost/line/1/part?delay_ms=40"))
    mqtt://localhost/line/1/part

    Raises:
        BadInput: no trigger that exists, one without its target, or an option that is none.
    """
    address = _split(text)
    if address.kind not in TRIGGERS.names():
        raise BadInput(
            f"trigger {str(address)[:80]!r}: must begin with gpio:, mqtt://, every: or sensor, for example gpio:17 or "
            f"every:2"
        )
    TRIGGERS.load(address.kind).read(address)
    return address


def _split(text: str) -> TriggerAddress:
    scheme = text.partition("://")[0]
    if scheme in ("mqtt", "mqtts"):
        target, _, query = text.partition("?")
        return TriggerAddress("mqtt", target, _pairs(query, "&"))
    kind, _, rest = text.partition(":")
    head, _, tail = rest.rpartition(":")
    target, options = (head, tail) if _OPTIONS.fullmatch(tail) else (rest, "")
    return TriggerAddress(kind, target, _pairs(options, ","))


def _pairs(text: str, separator: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(separator) if pair]
    return {name: value for name, _, value in pairs}


def options_of(address: TriggerAddress, kind: type[Any]) -> Any:
    """The options of a trigger as a Struct of `kind`.

    Raises:
        BadInput: as for `read_options`.
    """
    return read_options(address.options, kind, where=f"trigger {address}")


def open_trigger(
    address: TriggerAddress,
    told: Callable[[Fired], None],
    event: Callable[[str, str], None],
    credentials: Credentials = Credentials(),  # noqa: B008
) -> Trigger:
    """The trigger at `address`, begun. `told` hears of each part at once, from the trigger's own thread, before `wait`
    returns it; it must return at once.

    Raises:
        BadInput: as for `parse_trigger`; a certificate that cannot be used.
        MissingPackage, Unreachable: a pin that cannot be used.
    """
    trigger: Trigger = TRIGGERS.load(address.kind)(address, told, event, credentials)
    return trigger
