"""`lineside operating-point`: when a part passes, is rejected, or goes to a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from toolkit.operating_point.bounds import Share
    from toolkit.operating_point.point import OperatingPoint


@click.command("operating-point")
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--escape-cost", type=float, required=True, help="Of a defect that passes as good.")
@click.option("--overkill-cost", type=float, required=True, help="Of a good part that is rejected.")
@click.option("--review-cost", type=float, help="Of a part that a person looks at; without it no part goes to one.")
@click.option(
    "--prevalence",
    "shares",
    multiple=True,
    metavar="CLASS=SHARE",
    help="Share of a class on the line, such as good=0.99; can be repeated. Default: what the run states.",
)
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of each bound.")
@click.option("--max-escape", type=float, help="What the bound of the escape rate may be, such as 0.005.")
@click.option(
    "--calibration",
    type=click.Choice(["auto", "temperature", "vector"]),
    default="auto",
    show_default=True,
    help="auto: vector scaling where images of other groups say that it is better.",
)
@click.option("--artifact", "names", multiple=True, help="Only this one, such as litert-int8; can be repeated.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@json_option
def operating_point(
    run_dir: Path,
    escape_cost: float,
    overkill_cost: float,
    review_cost: float | None,
    shares: tuple[str, ...],
    confidence: float,
    max_escape: float | None,
    calibration: Literal["auto", "temperature", "vector"],
    names: tuple[str, ...],
    threads: int,
    as_json: bool,
) -> None:
    """Choose when a part passes, is rejected or goes to a person, for each artifact of RUN, and bound what escapes.

    Saves RUN/operating_point/ARTIFACT.json and a plot; `lineside pack` puts it into the bundle. Ends with exit code 3
    where --max-escape could not be shown.

    \b
    Example: lineside operating-point runs/steel --escape-cost 500 --overkill-cost 2 --prevalence good=0.99
    """
    from device_agent.contract.errors import BudgetMissed
    from toolkit.artifacts import open_artifact, open_artifacts
    from toolkit.operating_point.costs import Costs, read_prevalence
    from toolkit.operating_point.finding import Wanted, find_operating_point
    from toolkit.operating_point.plot import plot_operating_point
    from toolkit.operating_point.point import save_operating_point
    from toolkit.runs import open_run
    from toolkit.terminal import progress_bar

    run = open_run(run_dir)
    wanted = Wanted(
        Costs(escape=escape_cost, overkill=overkill_cost, review=review_cost),
        read_prevalence(shares),
        confidence,
        max_escape,
        None if calibration == "auto" else calibration,
    )
    chosen = list(dict.fromkeys(names)) or [artifact.name for artifact in open_artifacts(run)]
    points = []
    for name in chosen:
        open_artifact(run, name)
        with progress_bar(f"{name}: validation images") as bar:
            point, judged = find_operating_point(run, name, wanted, threads=threads, progress=bar)
        path = save_operating_point(run, point)
        plot_operating_point(path.with_suffix(".png"), point, judged)
        points.append(point)
        if not as_json:
            _print(point, path)
    if as_json:
        print_json(points)
    missed = [point for point in points if max_escape is not None and not point.claim_shown]
    if missed:
        raise BudgetMissed(
            f"{', '.join(point.artifact for point in missed)}: an escape rate of {_percent(missed[0].needed.claim)} is "
            f"not shown; {_more(missed[0])}"
        )


def _print(point: OperatingPoint, path: Path) -> None:
    from rich.table import Table

    from toolkit.terminal import print_tables

    click.echo(f"{point.artifact}: {_band(point)}")
    made = ", ".join(f"{label} {_percent(share)}" for label, share in zip(point.labels, point.prevalence, strict=True))
    click.echo(f"  line        {made}")
    click.echo(f"  calibrated  by {point.scaling.kind}; held-out ECE {_calibrations(point)}")
    one_sided = f"{100 * point.confidence:g} % bounds, one-sided, measured on {point.images} validation images"
    table = Table(title=f"{one_sided}, band chosen on other groups", title_justify="left")
    for column in ("", "rate", "at least", "at most", "images", "groups", "design effect", "per million parts"):
        table.add_column(column, justify="left" if not column else "right")
    rates, upper = point.rates, point.escapes_upper_per_million
    table.add_row(*_row("escape", point.escape), f"{rates.escapes_per_million:,.0f} (at most {upper:,.0f})")
    for one in point.by_class:
        per_million = 1e6 * one.prevalence * one.escape.rate
        table.add_row(*_row(f"  of {one.label}", one.escape), f"{per_million:,.0f}")
    table.add_row(*_row("overkill", point.overkill), f"{rates.overkill_per_million:,.0f}")
    table.add_row(*_row("review", point.review), f"{rates.reviews_per_million:,.0f}")
    print_tables(table)
    click.echo(
        f"  cost        {rates.cost_per_1000:,.2f} per 1,000 parts; without review "
        f"{point.unreviewed.cost_per_1000:,.2f}, passing all {point.accept_all:,.2f}, "
        f"rejecting all {point.reject_all:,.2f}"
    )
    worst = next(one for one in point.by_class if one.label == point.worst_class)
    click.echo(
        f"  worst class {worst.label}: at most {_percent(worst.together.upper)} escape, all classes bounded at once"
    )
    shown = "shown" if point.claim_shown else f"not shown: {_more(point)}"
    click.echo(f"  claim       at most {_percent(point.needed.claim)} of the defects escape: {shown}")
    click.echo(f"  saved       {path}, {path.with_suffix('.png').name}")


def _band(point: OperatingPoint) -> str:
    low, high = f"{point.low_score:.3g}", f"{point.high_score:.3g}"
    if point.low == point.high:
        return f"reject from a defect probability of {low} (log-odds {point.low:.3f})"
    return (
        f"pass below a defect probability of {low}, reject from {high}, review between "
        f"(log-odds {point.low:.3f} and {point.high:.3f})"
    )


def _calibrations(point: OperatingPoint) -> str:
    scaling = point.scaling
    found = ", ".join(f"{kind} {100 * ece:.2f} %" for kind, ece in scaling.ece.items())
    return f"{found}; vector scaling changes the top class of {_percent(scaling.top_changed)}"


def _more(point: OperatingPoint) -> str:
    needed = point.needed
    least = f"{needed.images_at_least:,} more defect images (of {needed.groups_at_least:,} parts)"
    if needed.images is None:
        return (
            f"{_percent(point.escape.rate)} escaped, so more images alone do not show it; with {least} it would be "
            "if none of them escaped; state --max-escape for a lower threshold, or train a better model"
        )
    if needed.images == needed.images_at_least:
        return f"{least} are needed to claim it (predicted)"
    return (
        f"{needed.images:,} more defect images (of {needed.groups:,} parts) are needed to claim it at this rate, "
        f"{needed.images_at_least:,} if none of them escapes (predicted)"
    )


def _row(name: str, share: Share) -> list[str]:
    bounds = [_percent(share.rate), _percent(share.lower), _percent(share.upper)]
    return [name, *bounds, f"{share.events} of {share.images}", str(share.groups), f"{share.design_effect:.2f}"]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
