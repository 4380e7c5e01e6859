"""`lineside-fleet golden`: parts of known class that go through the line."""

from __future__ import annotations

import time
from pathlib import Path

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput
from fleet.commands.options import Finite, store_option


@click.group("golden")
def golden() -> None:
    """Parts whose class is known, run through the line a few times a day: the one sure way to recall.

    \b
    lineside-fleet golden add plate-07 --label scratch --claim 0.95
    lineside-fleet golden record plate-07 --device press-1 --predicted scratch
    lineside-fleet golden status
    """


@golden.command("add")
@click.argument("part")
@click.option("--label", required=True, metavar="CLASS", help="What the part is.")
@click.option("--claim", type=Finite(0.01, 0.9999), default=0.95, show_default=True, help="Answered rightly, at least.")
@click.option("--note", default="", help="For people.")
@store_option
def add(part: str, label: str, claim: float, note: str, store: str) -> None:
    """Name a part of known class. --claim is how often a healthy line answers this part rightly, at least.

    \b
    Example: lineside-fleet golden add plate-07 --label scratch --claim 0.95
    """
    from fleet.accuracy.golden import GoldenPart, add_part
    from fleet.models import read_models
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        add_part(tx, GoldenPart(part, label, claim, time.time_ns() // 1_000_000, note[:500]), read_models(tx))
    click.echo(f"{part}: {label}, at least {claim:.1%} of the times", err=True)


@golden.command("record")
@click.argument("part", required=False)
@click.option("--device", metavar="NAME", help="The line that it went through.")
@click.option("--at", metavar="TIME", help="When, such as 2026-03-01T12:00:00Z; now by default.")
@click.option("--predicted", default="", metavar="CLASS", help="The line's answer; else of the sample kept then.")
@click.option("--from", "file", type=click.Path(path_type=Path), help="CSV with device,time,part and predicted.")
@click.option("--skip-wrong", is_flag=True, help="Record the other lines where some are wrong.")
@store_option
def record(
    part: str | None,
    device: str | None,
    at: str | None,
    predicted: str,
    file: Path | None,
    skip_wrong: bool,
    store: str,
) -> None:
    """Say that a part went through a line, and what the line answered; or many, from a file.

    \b
    Example: lineside-fleet golden record plate-07 --device press-1 --predicted scratch
    """
    from fleet.accuracy.golden import make_run, read_parts, read_runs_file, record_runs
    from fleet.accuracy.labels_file import say_wrong
    from fleet.models import read_models
    from fleet.store import open_store

    if (file is None) == (part is None) or (part is not None and device is None):
        raise BadInput("name a PART and its --device, or a file with --from")
    now_ms = time.time_ns() // 1_000_000
    with open_store(store).begin() as tx:
        models, parts = read_models(tx), read_parts(tx)
        wrong: list[str] = []
        if file is not None:
            runs, wrong = read_runs_file(tx, file, models, parts, now_ms)
            if wrong and not skip_wrong:
                raise BadInput(f"{say_wrong(file, wrong)}; nothing was recorded")
        else:
            row = {"device": device or "", "time": at or str(now_ms), "part": part or "", "predicted": predicted}
            runs = [make_run(tx, row, models, parts, now_ms)]
        new = record_runs(tx, runs)
    if file is not None and wrong:
        click.echo(f"{say_wrong(file, wrong)}: left out", err=True)
    click.echo(f"{new} new runs, {len(runs) - new} known already", err=True)


@golden.command("status")
@click.option("--device", metavar="NAME", help="Of this line only.")
@click.option("--false-alarms-a-year", type=Finite(0.001, 100), default=1.0, show_default=True, help="Of one line.")
@click.option("--a-day", type=Finite(0.1, 10_000), default=12.0, show_default=True, help="Runs of one line.")
@store_option
@json_option
def status(device: str | None, false_alarms_a_year: float, a_day: float, store: str, as_json: bool) -> None:
    """How each line does with its golden parts, and whether it fell. Measured.

    A line whose claims hold raises at most --false-alarms-a-year on average, whenever one looks.

    \b
    Example: lineside-fleet golden status --false-alarms-a-year 0.5
    """
    from fleet.accuracy.golden_states import read_states
    from fleet.accuracy.page import say_share
    from fleet.models import read_models
    from fleet.store import open_store
    from fleet.wording import say_time

    names = None if device is None else {device}
    with open_store(store).connect() as tx:
        found = read_states(tx, read_models(tx), devices=names, false_alarms_a_year=false_alarms_a_year, a_day=a_day)
    if as_json:
        print_json(found)
        return
    for state in found:
        word = "FELL" if state.finding else "holds"
        click.echo(
            f"{state.device:20} {word:6} defects found {say_share(state.recall)}, good parts passed "
            f"{say_share(state.passed)}, {state.outcome.runs} runs since {say_time(state.since_ms)}"
        )
        if state.finding:
            click.echo(f"    {state.finding.severity}: {state.finding.text}")


@golden.command("list")
@store_option
@json_option
def list_parts(store: str, as_json: bool) -> None:
    """The parts that are known.

    \b
    Example: lineside-fleet golden list
    """
    from fleet.accuracy.golden import read_parts
    from fleet.store import open_store
    from fleet.wording import printable

    with open_store(store).connect() as tx:
        found = list(read_parts(tx).values())
    if as_json:
        print_json([part._asdict() for part in found])
        return
    for part in found:
        click.echo(printable(f"{part.part:24} {part.label:20} {part.claim:.1%} {part.note}".rstrip()))


@golden.command("reset")
@click.argument("device")
@click.option("--reason", required=True, help="What was put right.")
@store_option
def reset_line(device: str, reason: str, store: str) -> None:
    """Say that a line was put right: what it answered before counts no more.

    \b
    Example: lineside-fleet golden reset press-1 --reason "lens cleaned"
    """
    from fleet.accuracy.golden import reset
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        reset(tx, device, reason[:500], time.time_ns() // 1_000_000)
    click.echo(f"{device}: golden parts count from now on", err=True)


@golden.command("compare")
@click.argument("a")
@click.argument("b")
@store_option
@json_option
def compare(a: str, b: str, store: str, as_json: bool) -> None:
    """Compare two models, by their ids, on the golden parts that both answered (McNemar's exact test). Measured.

    \b
    Example: lineside-fleet golden compare 0123456789abcdef fedcba9876543210
    """
    from fleet.accuracy.golden_states import compare_models
    from fleet.models import read_models
    from fleet.store import open_store

    with open_store(store).connect() as tx:
        found = compare_models(tx, a, b, read_models(tx))
    if as_json:
        print_json(found)
        return
    click.echo(
        f"{found.parts} parts: only {a} right {found.only_a}, only {b} right {found.only_b}, p {found.p:.4f}; "
        f"difference {found.difference:+.1%} ({found.low:+.1%} to {found.high:+.1%})"
    )
