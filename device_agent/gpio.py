"""Pins of a board through gpiozero, which is installed where there are some."""

from __future__ import annotations

import warnings
from typing import Any

from device_agent.contract.errors import Unreachable
from device_agent.contract.optional import require


def open_pin(kind: str, pin: int, **how: Any) -> Any:
    """The device of gpiozero of this class, such as "Button", on a pin by its Broadcom number.

    Raises:
        MissingPackage: gpiozero is not installed.
        Unreachable: this machine has no such pin, or somebody else uses it.
    """
    gpiozero = require("gpiozero", extra="gpio")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a line for each pin driver that is not installed
            return getattr(gpiozero, kind)(pin, **how)
    except gpiozero.BadPinFactory:
        raise Unreachable(
            f"gpio pin {pin}: no driver for the pins of this machine; on a Raspberry Pi: pip install lgpio"
        ) from None
    except Exception as error:
        raise Unreachable(f"gpio pin {pin}: {str(error) or type(error).__name__}") from error
