"""What the configuration says of the line: the table [line]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from device_agent.contract.errors import BadInput
from device_agent.outputs import Fate

FILES = ("mqtt_ca", "mqtt_cert", "mqtt_key", "webhook_secret", "webhook_ca")
"""Fields that name files."""
EXPECTED = {
    "stdout": "true or false",
    "mqtt": "a topic like mqtt://localhost:1883/line/1/verdict",
    "webhook": "an address like http://localhost:8080/verdict",
    "webhook_timeout_ms": "milliseconds from 10 to 60000",
    "gpio_pass": "a pin by its Broadcom number, 0 to 53",
    "gpio_reject": "a pin by its Broadcom number, 0 to 53",
    "gpio_review": "a pin by its Broadcom number, 0 to 53",
    "gpio_fault": "a pin by its Broadcom number, 0 to 53",
    "gpio_active_low": "true or false",
    "pulse_ms": "milliseconds from 1 to 10000, or 0 for a level",
    "deadline_ms": "milliseconds from 1 to 60000",
    "late": '"pass", "reject" or "review"',
    "safe": '"pass", "reject", "review" or "none"',
}
"""What would work, for the sentence on a field that does not."""

_Text = Annotated[str, Meta(min_length=1, max_length=4096)]
_Pin = Annotated[int, Meta(ge=0, le=53)]


class LineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where verdicts go, and what the line is promised when there is none.

    Outputs: `stdout`, JSON lines; `mqtt`, a topic, with files for mqtts://; `webhook`, a URL, with a file that holds
    the key of the signature and one with authorities for https://; `gpio_...`, pins by their Broadcom numbers, high
    for `pulse_ms` (0: until the next decision), or low with `gpio_active_low`, but for the fault pin.

    `deadline_ms` after a frame was captured the line is told `late` if there is no answer. `safe` is what it is told
    while nothing can answer; with "none" it is told the reason and no decision.

    Raises:
        BadInput: fields that do not go together.
    """

    stdout: bool = False
    mqtt: _Text | None = None
    mqtt_ca: _Text | None = None
    mqtt_cert: _Text | None = None
    mqtt_key: _Text | None = None
    webhook: _Text | None = None
    webhook_secret: _Text | None = None
    webhook_ca: _Text | None = None
    webhook_timeout_ms: Annotated[int, Meta(ge=10, le=60_000)] = 2000
    gpio_pass: _Pin | None = None
    gpio_reject: _Pin | None = None
    gpio_review: _Pin | None = None
    gpio_fault: _Pin | None = None
    gpio_active_low: bool = False
    pulse_ms: Annotated[int, Meta(ge=0, le=10_000)] = 50
    deadline_ms: Annotated[int, Meta(ge=1, le=60_000)] | None = None
    late: Fate = "review"
    safe: Literal["pass", "review", "reject", "none"] = "review"

    def __post_init__(self) -> None:
        for name, ends in (
            ("mqtt", ("mqtt_ca", "mqtt_cert", "mqtt_key")),
            ("webhook", ("webhook_secret", "webhook_ca")),
        ):
            for end in ends:
                if getattr(self, end) and not getattr(self, name):
                    raise BadInput(f"{end} is for {name}, which is not there")
        names = [
            name for name in ("gpio_pass", "gpio_reject", "gpio_review", "gpio_fault") if self.pin(name) is not None
        ]
        for name in names:
            for other in names[names.index(name) + 1 :]:
                if self.pin(name) == self.pin(other):
                    raise BadInput(f"{name} and {other} are both pin {self.pin(name)}; each must have its own")
        if self.mqtt is not None:
            from device_agent.local_mqtt import parse_topic

            parse_topic(self.mqtt)
        if self.webhook is not None:
            from device_agent.outputs.webhook import parse_webhook

            parse_webhook(self.webhook)

    def pin(self, name: str) -> int | None:
        """The pin in a field, None where it has none."""
        number: int | None = getattr(self, name)
        return number

    def file(self, name: str) -> Path | None:
        """The file in a field, None where it has none."""
        text: str | None = getattr(self, name)
        return None if text is None else Path(text)
