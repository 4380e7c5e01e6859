"""Verdicts as levels on pins: one for each decision, and one that says that there is no answer."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from msgspec import UNSET

from device_agent.contract.errors import LinesideError
from device_agent.contract.review import Verdict
from device_agent.gpio import open_pin
from device_agent.outputs import Fate, NotTaken, fate_of

GAP = 0.5  # of a pulse, low, before the next one begins


class GpioTransport:
    """Pins by their Broadcom numbers, high for yes, or low with `active_low`, as relay boards want it.

    The pin of a decision is active for `pulse_ms`, then at rest for at least half of that, so that a controller can
    count; with `pulse_ms` 0 it stays active until another decision comes. `fault`, which is always high for yes, is
    high from the start until the model has answered, after each verdict that is not the model's own (a late or a safe
    answer), and from the end on. With a pull-up resistor on it, it is high too while nobody drives it.

    Raises:
        MissingPackage, Unreachable: as for `open_pin`.
    """

    name = "gpio"

    def __init__(self, pins: dict[Fate, int], fault: int | None, pulse_ms: int, *, active_low: bool = False) -> None:
        self._pulse_s = pulse_ms / 1000
        self._ending = threading.Event()
        self._pins: dict[Fate, Any] = {}
        self._fault: Any = None
        try:
            for fate, pin in pins.items():
                self._pins[fate] = open_pin("DigitalOutputDevice", pin, active_high=not active_low, initial_value=False)
            if fault is not None:
                self._fault = open_pin("DigitalOutputDevice", fault, initial_value=True)
        except LinesideError:
            self.close()
            raise

    def send(self, verdict: Verdict) -> None:
        """Show the decision; returns after the pulse and the gap behind it.

        Raises:
            NotTaken: a pin cannot be set.
        """
        try:
            self._show(fate_of(verdict), no_answer=verdict.late or verdict.reason is not UNSET)
        except Exception as error:
            raise NotTaken(f"a pin cannot be set: {error}") from error

    def _show(self, fate: Fate | None, *, no_answer: bool) -> None:
        if self._fault is not None:
            self._fault.value = no_answer
        if not self._pulse_s:
            for other, pin in self._pins.items():
                if other != fate:
                    pin.off()
        chosen = self._pins.get(fate) if fate is not None else None
        if chosen is None:
            return
        chosen.on()
        if self._pulse_s:
            self._ending.wait(self._pulse_s)
            chosen.off()
            self._ending.wait(self._pulse_s * GAP)

    def blind(self) -> None:
        """No frame comes: fault is high, and no level says what the last part was; a pulse ends by itself."""
        with suppress(Exception):
            self._show(None, no_answer=True)

    def close(self) -> None:
        """Every decision at rest, fault high; then the pins are let go."""
        self._ending.set()
        for pin, level in [*((pin, False) for pin in self._pins.values()), (self._fault, True)]:
            if pin is not None:
                with suppress(Exception):
                    pin.value = level
                    pin.close()
