"""`lineside data import`: images that come as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput

if TYPE_CHECKING:
    from toolkit.data.arrays import ImportResult


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--images", metavar="KEY", default="images", show_default=True, help="Array (n, h, w) or (n, h, w, c).")
@click.option("--labels", metavar="KEY|FILE.npy", default="labels", show_default=True, help="Array (n,).")
@click.option("--names", metavar="KEY|FILE", help="Class names, or a file with one a line; default names or classes.")
@click.option("--good", metavar="CLASS", help="The class of good parts, where it is not called good, ok or normal.")
@click.option("--group", metavar="KEY", help="Array (n,) that says which images show one part.")
@click.option("--time", metavar="KEY", help="Array (n,) of times.")
@click.option("--column", "columns", metavar="[NAME=]KEY", multiple=True, help="Another array (n,) for the manifest.")
@click.option("--range", "range_", metavar="LOW,HIGH", help="Values that become black and white; floats have 0,1.")
@click.option("--bgr", is_flag=True, help="Colours are in the order blue, green, red.")
@click.option(
    "--limit-gib", type=click.FloatRange(0), default=8.0, show_default=True, help="Refuse images that unpack into more."
)
@json_option
def import_(
    file: Path,
    out: Path,
    images: str,
    labels: str,
    names: str | None,
    good: str | None,
    group: str | None,
    time: str | None,
    columns: tuple[str, ...],
    range_: str | None,
    bgr: bool,
    limit_gib: float,
    as_json: bool,
) -> None:
    """Write the images of array FILE (.npz or .npy) as png files into the new folder OUT, with a manifest.

    Pickled objects in FILE are never loaded.

    \b
    Example: lineside data import ism_full.npz data/ism --good No-Anomaly --column ids
    """
    from toolkit.data.arrays import import_arrays
    from toolkit.terminal import progress_bar

    with progress_bar("writing") as progress:
        result = import_arrays(
            file,
            out,
            images=images,
            labels=labels,
            names=names,
            good=good,
            columns=_columns(group, time, columns),
            range=None if range_ is None else parse_range(range_),
            bgr=bgr,
            limit_gib=limit_gib,
            progress=progress,
        )
    if as_json:
        print_json(result)
    else:
        _print_import(result, grouped=group is not None)


def parse_range(text: str) -> tuple[float, float]:
    """Two numbers.

    >>> parse_range("0,4095")
    (0.0, 4095.0)

    Raises:
        BadInput: something else.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"range must be two numbers such as 0,4095, got {text!r}") from None
    return low, high


def _columns(group: str | None, time: str | None, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [(name, key) for name, key in (("group", group), ("time", time)) if key is not None]
    for text in given:
        name, equals, key = text.partition("=")
        pairs.append((name, key if equals else name))
    for name, key in pairs:
        taken = [each for each, _ in pairs].count(name) > 1 or name in ("file", "class", "index")
        if not name.strip() or not key or taken:
            raise BadInput(f"column {name!r} is empty, stands twice or is one of file, class and index; use NAME=KEY")
    return dict(pairs)


def _print_import(result: ImportResult, *, grouped: bool) -> None:
    size = f"{result.width} x {result.height} px, {'grey' if result.channels == 1 else 'colour'}"
    click.echo(f"{result.path}: {result.images} images, {size}; {', '.join(result.columns)} in manifest.csv")
    width = max(map(len, result.classes))
    for name, count in result.classes.items():
        click.echo(f"  {name:{width}} {count:8}")
    if not grouped:
        click.echo("  each image is a group of its own; --group KEY says which of them show one part")
