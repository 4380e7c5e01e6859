"""The line: every output of a device, its deadline, and its safe answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import cast

import msgspec

from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput
from device_agent.contract.review import Verdict
from device_agent.outputs import Fate, LineOutput
from device_agent.outputs.deadline import Deadline, no_answer
from device_agent.outputs.sender import Sender, Transport
from device_agent.outputs.settings import LineSettings

Event = Callable[[str, str], None]


class Line:
    """Hands each verdict to every output. With a deadline each frame gets exactly one, see `Deadline`.

    One verdict for each frame: a controller that sees several frames of a part takes the worst, or has a trigger make
    one frame of each part. `device` is told with each, if it is given.
    """

    def __init__(
        self,
        outputs: list[LineOutput],
        settings: LineSettings,
        event: Event,
        *,
        device: str = "",
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._device = device
        self._outputs, self._safe = outputs, settings.safe
        self._deadline: Deadline | None = None
        if settings.deadline_ms is not None:
            self._deadline = Deadline(self._send, settings.deadline_ms, settings.late, event=event, clock=clock)
            self._deadline.start()

    def _send(self, verdict: Verdict) -> None:
        if self._device:
            verdict = msgspec.structs.replace(verdict, device=self._device)
        for output in self._outputs:
            output.put(verdict)

    def expect(self, frame: int, captured_ns: int, part: int | None = None) -> None:
        """A frame is about to be answered: its deadline runs from `captured_ns`, monotonic."""
        if self._deadline is not None:
            self._deadline.expect(frame, captured_ns, part)

    def put(self, verdict: Verdict) -> None:
        """The model's answer; returns at once."""
        (self._deadline.put if self._deadline is not None else self._send)(verdict)

    def no_verdict(self, frame: int, captured_ns: int, part: int | None, reason: str) -> None:
        """Nothing can answer this frame: the line is told so, with its safe decision; returns at once."""
        self.put(no_answer(frame, captured_ns, part, reason, self._safe, late=False))

    def missed(self, part: int, fired_ns: int, reason: str) -> None:
        """A part that a trigger announced was not seen: the late answer comes at its deadline, or, without one, the
        safe answer now."""
        if self._deadline is None:
            self.no_verdict(part, fired_ns, part, reason)

    def blind(self) -> None:
        """The camera is lost: an output that holds a state, such as a level on a pin, must not go on saying what the
        last part was."""
        for output in self._outputs:
            if isinstance(output, Sender):
                output.blind()

    def close(self, timeout_s: float = 2.0) -> None:
        """Answer what is expected, deliver what waits as far as it is taken within the time, and leave the line in its
        safe state."""
        if self._deadline is not None:
            self._deadline.close()
        end_s = time.monotonic() + timeout_s
        for output in self._outputs:
            output.close(max(0.1, end_s - time.monotonic()))


def open_line(settings: LineSettings, event: Event, *, device: str = "") -> Line:
    """The outputs of the settings, each begun.

    Raises:
        BadInput, NotFound: a URL, file or stdout that cannot be used.
        MissingPackage, Unreachable: pins that cannot be used.
    """
    outputs: list[LineOutput] = []
    try:
        if settings.stdout:
            outputs.append(_printer(event))
        if settings.mqtt is not None:
            outputs.append(Sender(_mqtt(settings), event))
        if settings.webhook is not None:
            outputs.append(Sender(_webhook(settings), event))
        pins = {fate: pin for fate in ("pass", "review", "reject") if (pin := settings.pin(f"gpio_{fate}")) is not None}
        if pins or settings.gpio_fault is not None:
            from device_agent.outputs.gpio import GpioTransport

            transport = GpioTransport(
                cast(dict[Fate, int], pins),
                settings.gpio_fault,
                settings.pulse_ms,
                active_low=settings.gpio_active_low,
            )
            outputs.append(Sender(transport, event, most=1))  # a pulse that comes late would hit another part
        return Line(outputs, settings, event, device=device)
    except BaseException:
        for output in outputs:
            output.close(0.1)
        raise


def _printer(event: Event) -> LineOutput:
    from device_agent.outputs.printer import Printer

    if sys.stdout is None:
        raise BadInput("verdicts to stdout need one that is open")
    return Printer(sys.stdout.fileno(), event)


def _mqtt(settings: LineSettings) -> Transport:
    from device_agent.local_mqtt import parse_topic
    from device_agent.outputs.mqtt import MqttTransport

    credentials = Credentials(*(settings.file(name) for name in ("mqtt_ca", "mqtt_cert", "mqtt_key")))
    return MqttTransport(parse_topic(settings.mqtt or "", credentials))


def _webhook(settings: LineSettings) -> Transport:
    from device_agent.outputs.webhook import WebhookTransport, parse_webhook, read_secret

    secret = settings.file("webhook_secret")
    return WebhookTransport(
        parse_webhook(settings.webhook or ""),
        secret=None if secret is None else read_secret(secret),
        credentials=Credentials(ca=settings.file("webhook_ca")),
        timeout_s=settings.webhook_timeout_ms / 1000,
    )
