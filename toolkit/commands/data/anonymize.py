"""`lineside data anonymize`: a copy of the pictures without people, places and metadata."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from toolkit.data.anonymize import Anonymized


@click.command("anonymize")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--zones", type=click.Path(path_type=Path), help="TOML file of rectangles to blur, fill or crop to.")
@click.option(
    "--face-model",
    type=click.Path(path_type=Path),
    help="YuNet model file: blur the faces that it finds. Look the copies over: no detector finds every face.",
)
@click.option("--drop", metavar="COLUMN", multiple=True, help="Leave this column of the manifest out; can be repeated.")
@click.option(
    "--keep-days",
    type=click.IntRange(0, 36_525),
    help="Note in column expires that each picture goes so many days after its time, or from today.",
)
@json_option
def anonymize(
    folder: Path,
    out: Path,
    zones: Path | None,
    face_model: Path | None,
    drop: tuple[str, ...],
    keep_days: int | None,
    as_json: bool,
) -> None:
    """Copy the pictures of FOLDER to the new folder OUT, without metadata, with zones and faces hidden.

    Exif, GPS, comments, colour profiles, thumbnails and whatever else a file holds besides its pixels are gone; a
    picture that Exif turned is turned for good. FOLDER stays as it is. The manifest is kept; all other files stay
    behind.

    \b
    Example: lineside data anonymize data/raw data/clean --zones zones.toml --keep-days 365
    """
    from datetime import datetime, timezone

    from toolkit.data.anonymize import anonymize
    from toolkit.data.faces import open_detector
    from toolkit.data.zones import read_zones
    from toolkit.terminal import progress_bar

    rectangles = read_zones(zones) if zones is not None else []
    detector = open_detector(face_model) if face_model is not None else None
    with progress_bar("anonymizing") as progress:
        result = anonymize(
            folder,
            out,
            zones=rectangles,
            detector=detector,
            drop=drop,
            keep_days=keep_days,
            today=datetime.now(timezone.utc).date(),
            progress=progress,
        )
    if as_json:
        print_json(result)
    else:
        _print(result, searched=detector is not None)


def _print(result: Anonymized, *, searched: bool) -> None:
    click.echo(f"{result.path}: {result.images} images")
    click.echo(f"  {result.stripped} with their data as it was, {result.rewritten} rewritten without loss", nl=False)
    click.echo(f", {result.recompressed} compressed again at quality 95; {result.turned} turned upright")
    removed = ", ".join(f"{name} of {count}" for name, count in result.metadata.items())
    click.echo(f"  metadata removed: {removed or 'none was there'}")
    faces = f"{result.faces} faces in {result.with_faces} images" if searched else "faces were not looked for"
    click.echo(f"  zones in {result.with_zones} images; {faces}")
    if result.expires is not None:
        click.echo(f"  expires {result.expires[0]} to {result.expires[1]}")
    if result.left_out:
        click.echo(f"  left behind: {', '.join(f'{count} {place}' for place, count in result.left_out.items())}")
