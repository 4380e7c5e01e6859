"""`lineside-fleet accuracy`: how right the answers are, as far as anybody knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from fleet.commands.options import Finite, store_option

if TYPE_CHECKING:
    from fleet.accuracy.report import AccuracyReport, ModelAccuracy

DAY_MS = 86_400_000


@click.command("accuracy")
@click.option("--device", metavar="NAME", help="Of this device only.")
@click.option("--site", metavar="NAME", help="Of this site only.")
@click.option("--model", metavar="ID", help="Of this model only, 16 hexadecimal digits.")
@click.option("--days", type=Finite(0.01, 3650), default=7.0, show_default=True, help="Back from now.")
@click.option("--shifts", default="06:00,14:00,22:00", show_default=True, help="When shifts begin, for the slices.")
@click.option("--utc-offset-min", "offset_min", type=click.IntRange(-840, 840), default=0, help="Of the shifts' clock.")
@click.option("--adjudicator", metavar="NAME", help="Whose word settles a part on which people disagree.")
@click.option("--golden-alarms-a-year", type=Finite(0.001, 100), default=1.0, show_default=True, help="False, a line.")
@click.option("--out", type=click.Path(path_type=Path), help="Write an HTML page.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resampling.")
@store_option
@json_option
def accuracy(
    device: str | None,
    site: str | None,
    model: str | None,
    days: float,
    shifts: str,
    offset_min: int,
    adjudicator: str | None,
    golden_alarms_a_year: float,
    out: Path | None,
    seed: int,
    store: str,
    as_json: bool,
) -> None:
    """Accuracy and recall from counts (predicted), labels and golden parts (measured), and what is not known.

    \b
    Example: lineside-fleet accuracy --site hall-2 --days 7 --out accuracy.html
    """
    import numpy as np

    from device_agent.contract.files import write_whole
    from fleet.accuracy.account import Scope
    from fleet.accuracy.page import render_page
    from fleet.accuracy.report import read_accuracy
    from fleet.store import open_store

    now_ms = time.time_ns() // 1_000_000
    scope = Scope(device, site, model, shifts.split(","), offset_min, adjudicator, golden_alarms_a_year)
    with open_store(store).connect() as tx:
        since_ms = now_ms - int(days * DAY_MS)
        report = read_accuracy(tx, scope, since_ms=since_ms, until_ms=now_ms + 1, rng=np.random.default_rng(seed))
    if out is not None:
        write_whole(out, render_page(report))
        click.echo(str(out), err=as_json)
    if as_json:
        print_json(report)
    elif out is None:
        _show(report)


def _show(report: AccuracyReport) -> None:
    from fleet.accuracy.page import say_share
    from fleet.wording import printable

    def say(line: str) -> None:
        click.echo(printable(line))

    say(f"accuracy of {report.scope}; from counts: predicted; from labels and golden parts: measured; limits of 95 %")
    for finding in report.findings:
        say(f"{finding.severity}: {finding.text}")
    for model in report.models:
        say(f"{model.name} ({model.model}), {model.devices} devices")
        _show_model(model, say_share, say)
    for state in report.golden:
        outcome = state.outcome
        say(
            f"golden parts on {state.device}: {outcome.runs} runs, defects found {say_share(state.recall)}, good parts "
            f"passed {say_share(state.passed)}; evidence of a fall {outcome.log_e:.1f} of {outcome.bound:.1f}"
        )
    for why in report.unknown:
        say(f"not known: {why}")


def _show_model(model: ModelAccuracy, say_share: Callable[..., str], say: Callable[[str], None]) -> None:
    if model.unlabelled is not None:
        for one in model.unlabelled.judgements:
            name = f"{one.figure} {one.of}".strip()
            say(f"  {name:24} {say_share(one.interval):26} from counts: {one.badge}: {one.why}")
    if model.labelled is not None:
        for figure in ("accuracy", "recall", "escape", "overkill"):
            say(f"  {figure:24} {say_share(getattr(model.labelled, figure)):26} from {model.labelled.labels} labels")
    if model.calibration is not None:
        say(
            f"  calibration {model.calibration.verdict}: error {model.calibration.ece.value:.3f}, "
            f"{model.calibration.chance:.3f} by chance, p {model.calibration.p:.4f}"
        )
    for slice_ in model.slices:
        if slice_.verdict in ("worse", "better"):
            say(f"  {slice_.by} {slice_.name}: {slice_.verdict}: wrong {say_share(slice_.wrong)} of {slice_.labels}")
    for why in model.unknown:
        say(f"  not known: {why}")
