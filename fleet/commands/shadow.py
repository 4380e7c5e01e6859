"""`lineside-fleet shadow`: a candidate beside the model that serves, and what the figures recommend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import NotFound
from fleet.commands.options import Finite, store_option
from fleet.commands.times import Moment

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from fleet.shadow.comparison import Comparison
    from fleet.shadow.tally import Hour


@click.command("shadow")
@click.argument("candidate", required=False)
@click.option("--labelled", type=click.Path(path_type=Path), metavar="CSV",
              help="Labelled disagreements, drawn by lot: item, label, serving and candidate, by names.")  # fmt: skip
@click.option("--expected", type=Finite(1e-6, 0.5), help="Share of disagreements that is normal; default: predicted "
              "from both validations, with mistakes that have nothing to do with one another.")  # fmt: skip
@click.option("--margin", type=Finite(1e-6, 0.5), default=0.002, show_default=True,
              help="Share of frames that the candidate may answer rightly less.")  # fmt: skip
@click.option("--least", type=Finite(1, 1e9), default=2000, show_default=True, help="Independent frames, at least.")
@click.option("--least-hours", type=click.IntRange(1, 8760), default=24, show_default=True, help="Hours, at least.")
@click.option("--since", "since_ms", type=Moment(), default=0, help="Only hours from this time on, such as 2026-11-24.")
@store_option
@json_option
def shadow(
    candidate: str | None,
    labelled: Path | None,
    expected: float | None,
    margin: float,
    least: float,
    least_hours: int,
    since_ms: int,
    store: str,
    as_json: bool,
) -> None:
    """Compare CANDIDATE (model id) with what served meanwhile: promote, reject or keep watching. Without CANDIDATE, all
    models that devices have beside the one that serves.

    One may look whenever one likes: promoting a candidate that is worse by the margin, or rejecting one that is not
    worse, happens with a probability of 5 % at most.

    \b
    Example: lineside-fleet shadow 00010203f0f1f2f3 --labelled disagreements.csv
    """
    from fleet.shadow.comparison import Terms, compare
    from fleet.shadow.labelled import Outcomes, read_labelled
    from fleet.shadow.tally import read_candidates, read_tally
    from fleet.store import open_store

    with open_store(store).connect() as tx:
        known = read_candidates(tx)
        if candidate is None:
            _list(known, as_json)
            return
        if candidate not in known:
            raise NotFound(f"no shadow {candidate!r}; known are: {', '.join(known[:20]) or 'none'}")
        hours = read_tally(tx, candidate, since_ms=since_ms)
        if not hours:
            raise NotFound(f"shadow {candidate}: no frames since then")
        labels, defects, predicted = _models(tx, candidate, hours)
    outcomes = read_labelled(labelled, labels, defects) if labelled else (Outcomes(), Outcomes())
    terms = Terms(expected if expected is not None else predicted, margin, least, least_hours)
    found = compare(candidate, hours, terms, *outcomes)
    if as_json:
        print_json(found)
    else:
        _print(found, labels, "stated" if expected is not None else "predicted by validation")


def _list(known: list[str], as_json: bool) -> None:
    if as_json:
        print_json(known)
        return
    for one in known:
        click.echo(one)


def _models(tx: Connection, candidate: str, hours: list[Hour]) -> tuple[list[str], set[str], float | None]:
    """Names of classes, those of defects, and the share of disagreements that validation predicts: the highest one."""
    from fleet.models import read_models
    from fleet.shadow.disagreement import predicted

    models = read_models(tx)
    named = [models[one] for one in (hours[-1].serving, candidate) if one in models]
    labels = named[0].labels if named else []
    new, shares = models.get(candidate), []
    for serving in sorted({hour.serving for hour in hours}):
        old = models.get(serving)
        if new and old and new.baseline and old.baseline:
            shares.append(predicted(old.baseline, new.baseline))
    told = [share for share in shares if share is not None]
    defects = {label.name for label in labels if label.role == "defect"}
    return [label.name for label in labels], defects, max(told) if told else None


def _print(found: Comparison, labels: list[str], source: str) -> None:
    from fleet.wording import printable, say_time

    click.echo(f"{found.candidate}: {found.recommendation}")
    for reason in found.reasons:
        click.echo(f"  {reason}")
    click.echo(f"measured on {found.frames} frames ({found.independent:.0f} independent), {found.devices} devices, "
               f"{found.hours} hours")  # fmt: skip
    told = f"{found.predicted:.2%} {source}" if found.predicted else "nobody has said what is normal"
    low, high = found.disagreement_low, found.disagreement_high
    click.echo(f"disagree on   {found.disagreement:.2%} ({low:.2%} to {high:.2%}); {told}")
    if found.alarm_ms is not None:
        click.echo(f"alarm since   {say_time(found.alarm_ms)}")
    click.echo(f"right answers {found.change_low:+.2%} to {found.change_high:+.2%} of frames")
    for name, outcomes in (("labelled", found.labelled), ("  defective", found.labelled_defects)):
        click.echo(f"{name:13} better {outcomes.better}, worse {outcomes.worse}, both wrong {outcomes.neither}")
    if found.labelled.total:
        click.echo(f"McNemar       p {found.mcnemar_p:.4f} (for one look)")
    for row, served in zip(found.matrix, labels, strict=False):
        for count, answered in zip(row, labels, strict=False):
            if count and served != answered:
                click.echo(printable(f"served {served}, candidate {answered}: {count}"))
