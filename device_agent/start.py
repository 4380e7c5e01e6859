"""Where the three programs begin: the rest is imported when Ctrl-C is already understood."""

from __future__ import annotations

import importlib
import sys


def lineside() -> None:
    """The `lineside` program."""
    _start("toolkit.cli")


def agent() -> None:
    """The `lineside-agent` program."""
    _start("device_agent.cli")


def fleet() -> None:
    """The `lineside-fleet` program."""
    _start("fleet.cli")


def _start(module: str) -> None:
    try:
        importlib.import_module(module).main()
    except KeyboardInterrupt:
        sys.exit(130)
