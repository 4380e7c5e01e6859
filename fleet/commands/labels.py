"""`lineside-fleet labels`: what people say of parts, and which parts to ask them about."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput, NotFound
from fleet.commands.options import Finite, store_option

if TYPE_CHECKING:
    from fleet.accuracy.label_requests import LabelRequest

DAY_MS = 86_400_000
_PATH = click.Path(path_type=Path)


@click.group("labels")
def labels() -> None:
    """True classes of parts: import them, see them, and have the samples drawn that are worth one.

    \b
    Example: lineside-fleet labels request --budget 200 --out to-label.csv
    """


@labels.command("import")
@click.argument("file", type=_PATH)
@click.option("--annotator", metavar="NAME", help="Who labelled, where the file does not say; you by default.")
@click.option("--within-ms", type=click.IntRange(0, 60_000), default=1000, show_default=True, help="Time to sample.")
@click.option("--skip-wrong", is_flag=True, help="Import the other lines where some are wrong.")
@store_option
@json_option
def import_file(file: Path, annotator: str | None, within_ms: int, skip_wrong: bool, store: str, as_json: bool) -> None:
    """Take labels from a CSV file with the columns sample,label or device,time,label; further ones: annotator,
    labelled (when), and predicted,model for parts of which no sample was kept.

    Importing twice changes nothing. Several people may label one part: all is kept, and what more than half of them
    say counts. Where a line is wrong nothing is imported, unless --skip-wrong is given.

    \b
    Example: lineside-fleet labels import labels.csv --annotator ann
    """
    from fleet.accuracy.labels import write_labels
    from fleet.accuracy.labels_file import read_labels_file, say_wrong
    from fleet.models import read_models
    from fleet.store import open_store

    now_ms = time.time_ns() // 1_000_000
    with open_store(store).begin() as tx:
        who = annotator or getpass.getuser()
        found = read_labels_file(tx, file, read_models(tx), annotator=who, now_ms=now_ms, within_ms=within_ms)
        if found.wrong and not skip_wrong:
            raise BadInput(f"{say_wrong(file, found.wrong)}; nothing was imported")
        written = write_labels(tx, found.labels)
    if found.wrong:
        click.echo(f"{say_wrong(file, found.wrong)}: left out", err=True)
    if as_json:
        print_json({**written._asdict(), "wrong": found.wrong})
    else:
        click.echo(f"{written.new} new, {written.changed} changed, {written.known} known already", err=True)


@labels.command("list")
@click.option("--model", metavar="ID", help="Of this model only.")
@click.option("--disputed", is_flag=True, help="Only parts on which people disagree.")
@click.option("--adjudicator", metavar="NAME", help="Whose word settles a part.")
@store_option
@json_option
def list_labels(model: str | None, disputed: bool, adjudicator: str | None, store: str, as_json: bool) -> None:
    """Labelled parts, each with what counts as its class.

    \b
    Example: lineside-fleet labels list --disputed
    """
    from fleet.accuracy.labels import adjudicate, read_labels
    from fleet.store import open_store
    from fleet.wording import printable, say_time

    with open_store(store).connect() as tx:
        truths = adjudicate(read_labels(tx, model=model), adjudicator=adjudicator)
    truths = [truth for truth in truths if not (disputed and truth.label)]
    if as_json:
        print_json([truth._asdict() for truth in truths])
        return
    for truth in truths:
        word = truth.label or "(disputed)"
        click.echo(printable(f"{truth.item[:44]:44} {say_time(truth.at_ms)} {truth.device:20} {word}"))


@labels.command("request")
@click.option("--budget", type=click.IntRange(1, 100_000), default=200, show_default=True, help="Labels to ask for.")
@click.option("--model", metavar="ID", help="Needed where several models run.")
@click.option("--device", metavar="NAME", help="Of this device only.")
@click.option("--site", metavar="NAME", help="Of this site only.")
@click.option("--days", type=Finite(0.01, 3650), default=7.0, show_default=True, help="Back from now.")
@click.option("--for", "aim", type=click.Choice(["recall", "accuracy"]), default="recall", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw.")
@click.option("--out", type=_PATH, help="Write a CSV file to fill in and import.")
@store_option
@json_option
def request(
    budget: int,
    model: str | None,
    device: str | None,
    site: str | None,
    days: float,
    aim: str,
    seed: int,
    out: Path | None,
    store: str,
    as_json: bool,
) -> None:
    """Draw the samples whose labels say most: by predicted class and band of confidence, as much as each band is of the
    line and as little as its answers are sure (Neyman). The chance of each is printed and kept.

    \b
    Example: lineside-fleet labels request --budget 200 --out to-label.csv
    """
    import numpy as np

    from device_agent.contract.files import write_whole
    from fleet.accuracy.account import Scope, choose
    from fleet.accuracy.label_requests import draw_request, keep_request
    from fleet.accuracy.observed import read_days, total
    from fleet.accuracy.validation import Validation
    from fleet.models import read_models
    from fleet.registry import read_devices
    from fleet.store import open_store

    now_ms = time.time_ns() // 1_000_000
    since_ms = now_ms - int(days * DAY_MS)
    with open_store(store).begin() as tx:
        chosen = choose(read_devices(tx), Scope(device=device, site=site))
        names = {one.device for one in chosen} if device or site else None
        known = read_models(tx)
        baselines = {key: one.baseline for key, one in known.items() if one.baseline is not None}
        wanted = model or _only({one.model for one in chosen if one.model in baselines})
        if wanted not in baselines:
            raise NotFound(f"no imported model {wanted!r}; imported are {', '.join(sorted(baselines)) or 'none'}")
        count = len(known[wanted].labels)
        parts = read_days(tx, wanted, count, since_ms=since_ms, until_ms=now_ms + 1, devices=names)
        drawn = draw_request(
            tx,
            Validation.of(known[wanted].labels, baselines[wanted]),
            wanted,
            total(parts.values(), count)[0],
            np.random.default_rng(seed),
            budget=budget,
            aim="recall" if aim == "recall" else "accuracy",
            since_ms=since_ms,
            devices=names,
        )
        keep_request(tx, drawn, now_ms)
    lines = [f"{one.sample},{one.device},{one.at_ms},,{one.probability:.6g},{one.weight:.6g}" for one in drawn.samples]
    if out is not None:
        write_whole(out, "\n".join(["sample,device,time,label,probability,weight", *lines]) + "\n")
    if as_json:
        print_json(drawn)
    elif out is None:
        for line in lines:
            click.echo(line)
    _tell(drawn)


def _tell(drawn: LabelRequest) -> None:
    for one in drawn.strata:
        if one.drawn or one.weight > 0.001:
            where = f"{one.predicted}, log-odds {one.log_odds}"
            click.echo(f"{where:32} {one.weight:8.3%} of frames, {one.available} samples, {one.drawn} drawn", err=True)
    if drawn.unreachable > 0:
        click.echo(f"{drawn.unreachable:.2%} of the frames are in bands without a sample", err=True)
    click.echo(
        f"request {drawn.request}: {len(drawn.samples)} samples; see them with `lineside-fleet samples open`", err=True
    )


def _only(models: set[str]) -> str:
    if len(models) != 1:
        raise BadInput(f"name one with --model: {', '.join(sorted(models)) or 'no device runs an imported one'}")
    return models.pop()


@labels.command("requests")
@store_option
@json_option
def list_requests(store: str, as_json: bool) -> None:
    """What was asked for, and how much of it was answered.

    \b
    Example: lineside-fleet labels requests
    """
    from fleet.accuracy.label_requests import read_requests
    from fleet.store import open_store
    from fleet.wording import say_time

    with open_store(store).connect() as tx:
        found = read_requests(tx)
    if as_json:
        print_json(found)
        return
    for one in found:
        click.echo(f"{one.request} {say_time(one.asked_ms)} {one.model} {one.labelled} of {one.samples} labelled")
