"""`lineside-fleet trigger`: who asks for a new model, who agrees, and how far it has come."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput
from fleet.commands.options import Finite, store_option
from fleet.commands.times import by_option

if TYPE_CHECKING:
    from device_agent.contract.alert import Trigger

why_option = click.option("--why", default="", help="In your own words; kept in the audit trail.")
folder = click.Path(path_type=Path)


@click.group("trigger")
def trigger() -> None:
    """Triggers of retraining. None is opened by a statistic alone: labels, golden parts, a person or a business rule.

    \b
    Example: lineside-fleet trigger create 00010203f0f1f2f3 --because "new supplier since Monday" --by ann
    """


@trigger.command("create")
@click.argument("model")
@click.option("--reason", type=click.Choice(["person", "labels", "golden"]), default="person", show_default=True)
@click.option("--because", "text", default="", help="Why, in your own words; a person has to say it.")
@click.option("--labelled", metavar="RIGHT/PARTS", help="Labelled parts that were answered rightly; with --expected.")
@click.option("--golden", metavar="WRONG/SHOWN", help="Golden parts that were answered wrongly.")
@click.option("--expected", type=Finite(0, 1), default=1.0, help="Share right before, or that golden parts claim.")
@click.option("--alert", "alerts", multiple=True, metavar="ID", help="An alert that it is about; again for more.")
@click.option("--suggest", multiple=True, metavar="OPTION=VALUE", help="Option of lineside train; again for more.")
@by_option
@store_option
def create(
    model: str,
    reason: str,
    text: str,
    labelled: str | None,
    golden: str | None,
    expected: float,
    alerts: tuple[str, ...],
    suggest: tuple[str, ...],
    who: str,
    store: str,
) -> None:
    """Ask for a retraining of MODEL; the trigger's id. Asked for twice, it is one trigger.

    \b
    Example: lineside-fleet trigger create 00010203f0f1f2f3 --reason labels --labelled 170/200 --expected 0.95
    """
    from fleet.store import open_store
    from fleet.triggers.book import Draft, open_trigger
    from fleet.triggers.evidence import golden_evidence, labelled_evidence
    from fleet.triggers.windows import window_of

    now_ms = _clock_ms()
    from_ms, to_ms = (0, 0) if reason == "person" else window_of(now_ms, 7)
    evidence = []
    if labelled:
        evidence.append(labelled_evidence(*_count("--labelled", labelled), expected, from_ms=from_ms, to_ms=to_ms))
    if golden:
        evidence.append(golden_evidence(*_count("--golden", golden), claim=expected, from_ms=from_ms, to_ms=to_ms))
    draft = Draft(model=model, reason=reason, text=text, alerts=list(alerts), evidence=evidence, from_ms=from_ms,
                  to_ms=to_ms, suggested=_options(suggest))  # fmt: skip
    with open_store(store).begin() as tx:
        opened = open_trigger(tx, draft, who=who, now_ms=now_ms)
    click.echo(opened.trigger.id)
    if not opened.new:
        click.echo(f"{opened.trigger.id}: was asked for already, and is {opened.trigger.state}", err=True)


@trigger.command("evaluate")
@click.argument("rules", type=folder)
@click.option("--facts", type=folder, help="JSON file of further figures, such as those of labels or of the business.")
@click.option("--dry-run", is_flag=True, help="Only say what each rule finds.")
@by_option
@store_option
@json_option
def evaluate_rules(rules: Path, facts: Path | None, dry_run: bool, who: str, store: str, as_json: bool) -> None:
    """Hold the business rules of a file against every model, and open the triggers of those that fire.

    \b
    Example: lineside-fleet trigger evaluate rules.toml --facts labels.json --dry-run
    """
    from fleet.store import open_store
    from fleet.triggers.book import open_trigger
    from fleet.triggers.facts import read_facts_file
    from fleet.triggers.rules import evaluate_all, read_rules
    from fleet.wording import printable

    now_ms, read = _clock_ms(), read_rules(rules)
    further = read_facts_file(facts) if facts else {}
    found = []
    with open_store(store).begin() as tx:
        for outcome, draft in evaluate_all(tx, read, further, now_ms):
            opened = open_trigger(tx, draft, who=who, now_ms=now_ms) if draft and not dry_run else None
            found.append((outcome, opened))
    if as_json:
        print_json([{"outcome": outcome, "trigger": opened and opened.trigger.id} for outcome, opened in found])
        return
    for outcome, opened in found:
        word = {True: "fires", False: "holds still", None: "not known"}[outcome.fires]
        tail = f" -> {opened.trigger.id} ({'new' if opened.new else opened.trigger.state})" if opened else ""
        click.echo(printable(f"{outcome.model} {outcome.rule}: {word}: {'; '.join(outcome.said)}{tail}"))


@trigger.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that have ended too.")
@store_option
@json_option
def list_triggers(everything: bool, store: str, as_json: bool) -> None:
    """Triggers, newest first.

    \b
    Example: lineside-fleet trigger list --all --json
    """
    from fleet.store import open_store
    from fleet.triggers.book import read_triggers

    with open_store(store).connect() as tx:
        found = read_triggers(tx, ended=everything)
    if as_json:
        print_json(found)
        return
    for one in found:
        _print(one)


@trigger.command("show")
@click.argument("trigger_id", metavar="ID")
@store_option
@json_option
def show(trigger_id: str, store: str, as_json: bool) -> None:
    """One trigger, with who did what to it.

    \b
    Example: lineside-fleet trigger show 3f9a0c1d2e4b5566
    """
    from fleet.store import open_store
    from fleet.triggers.book import read_held
    from fleet.triggers.trail import read_trail
    from fleet.wording import printable, say_time

    with open_store(store).connect() as tx:
        held = read_held(tx, trigger_id)
        trail = read_trail(tx, held.trigger.id)
    if as_json:
        shown = {"trigger": held.trigger, "needed": held.needed, "approved": held.approved}
        print_json({**shown, "candidate": held.candidate, "trail": trail})
        return
    _print(held.trigger)
    for one in held.trigger.evidence:
        click.echo(f"  evidence  {printable(one.text or f'{one.figure} {one.value:g}')} ({one.kind})")
    click.echo(f"  approved  {printable(', '.join(held.approved)) or '-'} ({held.needed} needed)")
    if held.candidate:
        click.echo(f"  candidate {held.candidate}")
    for entry in trail:
        move = f"{entry.before} -> {entry.after}" if entry.before else entry.after
        click.echo(printable(f"  {say_time(entry.at_ms)} {entry.who}: {entry.action}, {move}: {entry.why or '-'}"))


@trigger.command("approve")
@click.argument("trigger_id", metavar="ID")
@why_option
@by_option
@store_option
def approve(trigger_id: str, why: str, who: str, store: str) -> None:
    """Stand behind a trigger. With as many people as are needed it goes on to labelling.

    \b
    Example: lineside-fleet trigger approve 3f9a0c1d2e4b5566 --by bob
    """
    from fleet.store import open_store
    from fleet.triggers.book import approve as stand_behind

    with open_store(store).begin() as tx:
        held = stand_behind(tx, trigger_id, who=who, why=why, now_ms=_clock_ms())
    more = held.needed - len(held.approved)
    wanted = f"; {more} more to approve" if held.trigger.state == "open" else ""
    click.echo(f"{held.trigger.id}: approved by {', '.join(held.approved)}; is {held.trigger.state}{wanted}", err=True)


@trigger.command("reject")
@click.argument("trigger_id", metavar="ID")
@click.option("--why", required=True, help="In your own words; kept in the audit trail.")
@by_option
@store_option
def reject(trigger_id: str, why: str, who: str, store: str) -> None:
    """End a trigger; the same evidence does not open it again.

    \b
    Example: lineside-fleet trigger reject 3f9a0c1d2e4b5566 --why "the lamp was it" --by ann
    """
    _move(trigger_id, "rejected", who, why, "", store)


@trigger.command("advance")
@click.argument("trigger_id", metavar="[ID]", required=False)
@click.option("--to", type=click.Choice(["labelling", "training", "shadow", "canary", "done", "rolled_back"]))
@click.option("--from", "result", type=folder, help="trigger-result.json that lineside train wrote.")
@click.option("--candidate", default="", metavar="MODEL", help="Id of the new model.")
@why_option
@by_option
@store_option
def advance(
    trigger_id: str | None, to: str | None, result: Path | None, candidate: str, why: str, who: str, store: str
) -> None:
    """Move a trigger on to its next state, or to another with --to; or take what lineside train wrote, with --from.

    \b
    Example: lineside-fleet trigger advance 3f9a0c1d2e4b5566 --why "240 labels are there"
    Example: lineside-fleet trigger advance --from runs/steel-2/trigger-result.json
    """
    if (result is None) == (trigger_id is None):
        raise click.UsageError("give the ID of a trigger, or --from FILE")
    if result is not None:
        _take(result, who, store)
    else:
        _move(str(trigger_id), to, who, why, candidate, store)


def _move(trigger_id: str, to: str | None, who: str, why: str, candidate: str, store: str) -> None:
    from fleet.store import open_store
    from fleet.triggers.book import advance as move_on
    from fleet.triggers.book import read_held
    from fleet.triggers.states import MOVES

    if candidate and not re.fullmatch(r"[0-9a-f]{16}", candidate):
        raise BadInput(f"--candidate {candidate[:40]}: a model id of 16 hexadecimal digits is wanted")
    with open_store(store).begin() as tx:
        now = read_held(tx, trigger_id).trigger
        target = to or next(iter(MOVES[now.state]), now.state)
        held = move_on(tx, now.id, target, who=who, why=why, candidate=candidate, now_ms=_clock_ms())
    click.echo(f"{held.trigger.id}: {now.state} -> {held.trigger.state}", err=True)


def _take(path: Path, who: str, store: str) -> None:
    from fleet.store import open_store
    from fleet.triggers.book import take_result
    from fleet.triggers.letter import read_result

    read = read_result(path)
    with open_store(store).begin() as tx:
        held, new = take_result(tx, read, who=who, now_ms=_clock_ms())
    click.echo(f"{held.trigger.id}: {read.state}{'' if new else ' (taken before)'}; is {held.trigger.state}", err=True)


@trigger.command("export")
@click.argument("trigger_id", metavar="ID")
@click.option("--out", required=True, type=folder, help="File to write.")
@click.option("--samples", default=None, metavar="FOLDER", help="Where the labelled samples are, as training sees it.")
@click.option("--keys", type=folder, help="Folder of the fleet's keys: the file is signed.")
@store_option
def export(trigger_id: str, out: Path, samples: str | None, keys: Path | None, store: str) -> None:
    """Write the file that `lineside train --trigger` reads.

    \b
    Example: lineside-fleet trigger export 3f9a0c1d2e4b5566 --out trigger.json --samples labelled --keys lineside-keys
    """
    from fleet.store import open_store
    from fleet.triggers.book import read_held, set_samples
    from fleet.triggers.letter import write_trigger

    with open_store(store).begin() as tx:
        found = read_held(tx, trigger_id).trigger
        signed = write_trigger(out, set_samples(tx, found, samples, _clock_ms()) if samples else found, keys)
    click.echo(f"{out}: trigger {found.id}, {'signed' if signed else 'not signed'}", err=True)


@trigger.command("policy")
@click.option("--two-person/--one-person", "wanted", default=None, help="How many people stand behind a trigger.")
@why_option
@by_option
@store_option
def policy(wanted: bool | None, why: str, who: str, store: str) -> None:
    """Whether two different people have to agree to a trigger, and to the start of a rollout.

    Names are taken as they are given: whoever can write to the store can give any.

    \b
    Example: lineside-fleet trigger policy --two-person --by ann
    """
    from fleet.store import open_store
    from fleet.triggers.trail import people_needed, set_two_person

    with open_store(store).begin() as tx:
        if wanted is not None:
            set_two_person(tx, wanted, who=who, why=why, now_ms=_clock_ms())
        needed = people_needed(tx)
    click.echo(f"{needed} {'people' if needed > 1 else 'person'} needed")


def _print(one: Trigger) -> None:
    from fleet.wording import printable, say_time

    said = printable(one.text or "-")
    click.echo(f"{one.id} {one.state:11} {one.model} {one.reason:6} {say_time(one.created_ms)} {said}")


def _count(option: str, text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None:
        raise BadInput(f"{option} {text[:40]}: must read like 170/200")
    return int(found[1]), int(found[2])


def _options(pairs: tuple[str, ...]) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not re.fullmatch(r"[a-z][a-z-]{0,40}", name) or not value.isprintable():
            raise BadInput(f"--suggest {pair[:60]}: must read like epochs=8")
        found[name] = value
    return found


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
