"""Options that several commands share."""

from __future__ import annotations

import math

import click


class Finite(click.FloatRange):
    """A number between two bounds; a range alone lets "nan" pass."""

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, refused where it is none."""
        number: float = super().convert(value, param, ctx)  # type: ignore[arg-type]
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


store_option = click.option(
    "--store",
    "store",
    default="sqlite:///fleet.db",
    show_default=True,
    envvar="LINESIDE_STORE",
    metavar="URL",
    help="The store, sqlite:///FILE or postgresql://USER@HOST/DATABASE; also from LINESIDE_STORE.",
)

pages_option = click.option(
    "--pages-a-week",
    type=Finite(1e-6, 1e6),
    default=1.0,
    show_default=True,
    metavar="B",
    help="False pages a week that the whole fleet may raise; the one dial of the detector.",
)

interval_option = click.option(
    "--interval",
    "interval_s",
    type=Finite(0.001, 86_400),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Between reports, for devices whose birth message was not heard.",
)

hold_option = click.option(
    "--hold-windows",
    type=click.IntRange(0, 60),
    default=3,
    show_default=True,
    help="Reports for which an alert of a device waits while a peer rises too.",
)
