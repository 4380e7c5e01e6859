"""Where the three programs begin: the rest is imported when Ctrl-C is already understood."""

from __future__ import annotations

import importlib
import os
import sys


def lineside() -> None:
    """The `lineside` program."""
    _start("toolkit.cli")


def agent() -> None:
    """The `lineside-agent` program."""
    _start("device_agent.cli")


def fleet() -> None:
    """The `lineside-fleet` program. Its arrays are small: threads of linear algebra would only wait for each other."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _start("fleet.cli")


def _start(module: str) -> None:
    try:
        importlib.import_module(module).main()
    except KeyboardInterrupt:
        sys.exit(130)
