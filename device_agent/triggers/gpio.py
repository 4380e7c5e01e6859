"""A light barrier or a controller's output on a pin."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta

from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput
from device_agent.gpio import open_pin
from device_agent.triggers import Fired, Options, TriggerAddress, options_of
from device_agent.triggers.firings import Firings

_PIN = re.compile(r"[0-9]{1,2}")
MOST_PIN = 53


class GpioOptions(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part is seen when the pin is pulled against its resistor: down with `pull` up, which is usual, up with `pull`
    down. A contact that has changed bounces for up to `bounce_ms`."""

    bounce_ms: Annotated[int, Meta(ge=0, le=1000)] = 5
    pull: Literal["up", "down"] = "up"


class GpioTrigger(Firings):
    """A part each time the pin becomes active.

    A contact bounces when it closes and when it opens, so an edge counts only if the pin was quiet for `bounce_ms`
    before it. The first edge counts at once: filtering costs no time.

    Raises:
        BadInput: no pin, or an option that is none.
        MissingPackage, Unreachable: as for `open_pin`.
    """

    def __init__(
        self,
        address: TriggerAddress,
        told: Callable[[Fired], None],
        _event: Callable[[str, str], None],
        _credentials: Credentials,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        options = self.read(address)
        super().__init__(told, options, clock=clock)
        self._bounce_ns, self._edge_ns = options.bounce_ms * 1_000_000, -(1 << 62)
        self._pin = open_pin("Button", int(address.target), pull_up=options.pull == "up")
        self._pin.when_pressed = lambda: self._edge(pressed=True)
        self._pin.when_released = lambda: self._edge(pressed=False)

    @staticmethod
    def read(address: TriggerAddress) -> GpioOptions:
        """The options of an address.

        Raises:
            BadInput: no pin, or an option that is none.
        """
        if not _PIN.fullmatch(address.target) or int(address.target) > MOST_PIN:
            raise BadInput(f"trigger {address}: must read like gpio:17, a pin by its Broadcom number, 0 to {MOST_PIN}")
        options: GpioOptions = options_of(address, GpioOptions)
        return options

    def _edge(self, *, pressed: bool) -> None:
        now_ns = self._clock()
        quiet = now_ns - self._edge_ns >= self._bounce_ns
        self._edge_ns = now_ns
        if pressed and quiet:
            self.fire()

    def close(self) -> None:
        """Let the pin go."""
        self._pin.close()
