"""`lineside data purge`: images whose time is up."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from toolkit.data.retention import PurgeResult


@click.command("purge")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--today", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="Judge as on this day; default today.")
@click.option("--by-days", type=click.IntRange(0), metavar="N", help="Remove what was taken more than N days ago.")
@click.option("--column", help="Column of the dates; default expires, with --by-days time.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@json_option
def purge(
    folder: Path, today: datetime | None, by_days: int | None, column: str | None, dry_run: bool, as_json: bool
) -> None:
    """Remove the images of FOLDER whose date in the manifest has passed, and their rows in the manifest, its split file
    and annotations.csv.

    An image is kept up to and including the day in its column expires, and for ever where that is empty. A purge that
    was interrupted is finished by the next one.

    \b
    Example: lineside data purge data/steel --dry-run
    """
    from toolkit.data.retention import purge as remove
    from toolkit.terminal import progress_bar

    day = (today or datetime.now().astimezone()).date()
    with progress_bar("removing") as progress:
        result = remove(folder, day, days=by_days, column=column, dry_run=dry_run, progress=progress)
    if as_json:
        print_json(result)
    else:
        _print_purge(result)


def _print_purge(result: PurgeResult) -> None:
    for file in [*result.removed, *result.finished]:
        click.echo(file)
    verb = "would be removed" if result.dry_run else "removed"
    late = f", {len(result.finished)} of an earlier purge" if result.finished else ""
    click.echo(f"{result.path}: {len(result.removed)} images {verb}{late}, {result.kept} kept ({result.rule})")
    if result.classes_gone:
        click.echo(f"  without any image now: {', '.join(result.classes_gone)}")
    if result.linked:
        click.echo(f"  {len(result.linked)} of the files have another name on this disk, where their pixels stay")
