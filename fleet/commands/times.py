"""Options of commands that take times and say who asks."""

from __future__ import annotations

import getpass
import os
import re
from datetime import datetime, timezone
from typing import Any

import click

_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A time such as 2026-11-24T06:00, UTC unless it says otherwise ("+01:00"); wall-clock ms."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds since 1970."""
        if isinstance(value, int):
            return value
        try:
            at = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
            at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
            return round(at.timestamp() * 1000)
        except (ValueError, OverflowError):
            return self.fail(f"{value!r} must read like 2026-11-24T06:00 (UTC) or 2026-11-24T06:00+01:00", param, ctx)


class Span(click.ParamType):  # type: ignore[type-arg]
    """A length of time such as 90m, 8h, 2d or 1w; ms."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds."""
        found = re.fullmatch(r"(\d{1,5})([mhdw])", str(value))
        if isinstance(value, int) or not found or not int(found[1]):
            return value if isinstance(value, int) else self.fail(f"{value!r} must read like 90m, 8h or 2d", param, ctx)
        return int(found[1]) * _UNITS_MS[found[2]]


def _user() -> str:
    try:
        return getpass.getuser()[:64] or "unknown"
    except (KeyError, OSError):
        return os.environ.get("USER", "")[:64] or "unknown"


by_option = click.option(
    "--by", "who", default=_user, envvar="LINESIDE_USER", metavar="NAME", help="Who says so; default: this user."
)
