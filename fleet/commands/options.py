"""Options that several commands share."""

from __future__ import annotations

import click

store_option = click.option(
    "--store",
    "store",
    default="sqlite:///fleet.db",
    show_default=True,
    envvar="LINESIDE_STORE",
    metavar="URL",
    help="The store, an SQLAlchemy URL; also from LINESIDE_STORE.",
)

pages_option = click.option(
    "--pages-a-week",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="B",
    help="False pages a week that the whole fleet may raise; the one dial of the detector.",
)

interval_option = click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0, min_open=True),
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
