"""`lineside-fleet export`: what the store holds, as files for analysis."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput
from fleet.commands.options import store_option
from fleet.commands.times import Moment, Span

WHAT = ("reports", "hours", "days", "alerts", "gaps", "events", "labels", "devices", "models")
FORMATS = ("parquet", "csv", "jsonl")


class Since(click.ParamType):  # type: ignore[type-arg]
    """A time, or how long ago it was: 2026-11-24T06:00 or 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Wall-clock ms."""
        if isinstance(value, int):
            return value
        for kind in (Span(), Moment()):
            try:
                at_ms = kind.convert(value, param, ctx)
                return at_ms if isinstance(kind, Moment) else round(time.time() * 1000) - at_ms
            except click.BadParameter:
                continue
        return self.fail(f"{value!r} must read like 2026-11-24T06:00 (UTC), or 7d, 8h or 90m ago", param, ctx)


@click.command("export")
@click.option("--what", type=click.Choice(WHAT), default="reports", show_default=True, help="What is exported.")
@click.option("--from", "from_ms", type=Since(), help="Earliest, such as 2026-11-24T06:00 (UTC) or 7d ago.")
@click.option("--to", "until_ms", type=Since(), help="Up to there, not included; in the same forms.")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="Of this device only; may be repeated.")
@click.option("--site", "sites", multiple=True, metavar="NAME", help="Of devices of this site; may be repeated.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Of the files.  [default: as FILE ends, or parquet]")
@click.option("--tidy", is_flag=True, help="A row for each class and confidence bin that was seen.")
@click.option("--compact", is_flag=True, help="A file a month, not a day; of everything but reports.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER|FILE", help="Where to.")
@click.option("--describe", is_flag=True, help="Print the columns and their meaning, and export nothing.")
@store_option
@json_option
def export(
    what: str,
    from_ms: int | None,
    until_ms: int | None,
    devices: tuple[str, ...],
    sites: tuple[str, ...],
    kind: str | None,
    tidy: bool,
    compact: bool,
    out: Path | None,
    describe: bool,
    store: str,
    as_json: bool,
) -> None:
    """Write reports, hours and days of them, alerts and more as Parquet, CSV or JSON lines, at any time.

    Into a FOLDER go whole days of UTC, day=2026-11-24/part-0.parquet each. The same command brings it up to date: a day
    that has not changed is left alone, one of which the store has forgotten some is kept. A FILE that ends in .parquet,
    .csv or .jsonl gets the exact time.

    \b
    Example: lineside-fleet export --what reports --from 7d --out archive/reports --store sqlite:///fleet.db
    """
    if describe:
        _describe(what, tidy=tidy, as_json=as_json)
        return
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    if from_ms is not None and until_ms is not None and until_ms <= from_ms:
        raise BadInput("--to: must be later than --from")
    from fleet.export.folder import export_file, export_folder
    from fleet.export.manifest import Request, check
    from fleet.export.tables import Chosen
    from fleet.export.walk import MOST_MS, check_chosen
    from fleet.store import open_store

    ending = out.suffix[1:].lower() if not out.is_dir() else ""
    if ending in FORMATS and kind not in (None, ending):
        raise BadInput(f"{out}: ends in .{ending}, but --format is {kind}")
    if ending in FORMATS and compact:
        raise BadInput(f"{out}: is one file; --compact is for a folder")
    chosen = Chosen(devices=tuple(sorted(devices)), sites=tuple(sorted(sites)))
    form = kind or (ending if ending in FORMATS else "parquet")
    request = Request(what=what, format=form, tidy=tidy, months=compact, chosen=chosen)
    check(request)
    times = {"from_ms": max(from_ms or 0, 0), "until_ms": MOST_MS if until_ms is None else until_ms}
    engine = open_store(store)
    with engine.connect() as tx:
        check_chosen(tx, chosen)
    done = (
        export_file(engine, out, request, **times)
        if ending in FORMATS
        else export_folder(engine, out, request, **times, tell=_tell)
    )
    if as_json:
        print_json(done)
        return
    others = (("unchanged", done.unchanged), ("kept", done.kept), ("removed", done.removed))
    left = "".join(f", {len(names)} {word}" for word, names in others if names)
    files = f"{len(done.written)} file{'s' * (len(done.written) != 1)} written"
    click.echo(f"{out}: {done.rows:,} rows, {done.bytes / 2**20:.1f} MiB; {files}{left}", err=True)


def _describe(what: str, *, tidy: bool, as_json: bool) -> None:
    from fleet.export.columns import TIDY, about

    if tidy and what not in TIDY:
        raise BadInput(f"{what}: have no histogram, so no tidy form; reports, hours and days have one")
    said = about(what, tidy=tidy)
    if as_json:
        print_json(said)
        return
    for column in said.columns:
        click.echo(f"{column.name:20} {column.kind:7} {column.text}")


def _tell(name: str, outcome: str, rows: int) -> None:
    """A line each part that was not as it is already."""
    if outcome == "kept":
        click.echo(f"{name or 'all'}: kept, the store holds less than the file by now", err=True)
    elif outcome != "unchanged":
        click.echo(f"{name or 'all'}: {outcome}, {rows:,} rows", err=True)
