"""`lineside-fleet silence` and `maintenance`: when nobody is to be told."""

from __future__ import annotations

import time

import click

from device_agent.console import json_option, print_json
from fleet.commands.options import store_option
from fleet.commands.times import Moment, Span, by_option

_MATCH = "site=hall-*, also device, device_type, product, model, stream, label; again for more."
reason_option = click.option("--reason", required=True, help="Why, for those who look later.")


@click.group("silence")
def silence() -> None:
    """Keep alerts from being told for a while. They are recorded and shown; what is still open afterwards is told then.

    \b
    Example: lineside-fleet silence add --match site=hall-2 --for 2h --reason "lamp is being changed"
    """


@silence.command("add")
@click.option("--match", "terms", multiple=True, required=True, metavar="FIELD=PATTERN", help=_MATCH)
@click.option("--for", "span_ms", type=Span(), required=True, metavar="SPAN", help="90m, 8h, 2d.")
@reason_option
@by_option
@store_option
def add(terms: tuple[str, ...], span_ms: int, reason: str, who: str, store: str) -> None:
    """Silence alerts from now on.

    \b
    Example: lineside-fleet silence add --match device=press-1 --match stream=low* --for 2h --reason "lens is ordered"
    """
    from fleet.matching import parse_matcher
    from fleet.silences import add_silence
    from fleet.store import open_store

    now_ms, matcher = _clock_ms(), parse_matcher(terms)
    with open_store(store).begin() as tx:
        made = add_silence(
            tx, "silence", matcher, from_ms=now_ms, until_ms=now_ms + span_ms, reason=reason, who=who, now_ms=now_ms
        )
    click.echo(made.id)


@silence.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that are over too.")
@store_option
@json_option
def list_silences(everything: bool, store: str, as_json: bool) -> None:
    """Silences, maintenance and change-over windows, by when they begin.

    \b
    Example: lineside-fleet silence list --all --json
    """
    from fleet.silences import read_silences
    from fleet.store import open_store
    from fleet.wording import printable, say_time

    now_ms = _clock_ms()
    with open_store(store).connect() as tx:
        found = [each for each in read_silences(tx) if everything or not each.over(now_ms)]
    if as_json:
        print_json(found)
        return
    for each in found:
        state = "over" if each.over(now_ms) else "now" if each.window(now_ms) else "planned"
        weekly = " every week" if each.weekly else ""
        span = f"{say_time(each.from_ms)} to {say_time(each.until_ms)}{weekly}"
        click.echo(f"{each.id} {each.kind:11} {state:7} {span} {printable(str(each.matcher))}")
        click.echo(f"    {printable(each.who)}: {printable(each.reason)}")


@silence.command("expire")
@click.argument("silence_id", metavar="ID")
@store_option
def expire(silence_id: str, store: str) -> None:
    """End a silence or a window now.

    \b
    Example: lineside-fleet silence expire 1f3a9c20
    """
    from fleet.silences import expire_silence
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        expire_silence(tx, silence_id, _clock_ms())
    click.echo(f"{silence_id}: ended; what is still open is told within 15 seconds", err=True)


@click.group("maintenance")
def maintenance() -> None:
    """Windows that are known ahead, in which nobody is told.

    \b
    Example: lineside-fleet maintenance add --site hall-2 --from 2026-11-24T06:00 --until 2026-11-24T08:00 --reason oil
    """


@maintenance.command("add")
@click.option("--site", "sites", multiple=True, metavar="SITE", help="A site or a pattern; may be repeated.")
@click.option("--match", "terms", multiple=True, metavar="FIELD=PATTERN", help=_MATCH)
@click.option("--from", "from_ms", type=Moment(), required=True, metavar="TIME", help="2026-11-24T06:00, UTC.")
@click.option("--until", "until_ms", type=Moment(), required=True, metavar="TIME", help="Exclusive.")
@click.option("--weekly", is_flag=True, help="And again in every week after.")
@click.option("--change-over", is_flag=True, help="Another product follows: the window ends with a new baseline.")
@reason_option
@by_option
@store_option
def plan(
    sites: tuple[str, ...],
    terms: tuple[str, ...],
    from_ms: int,
    until_ms: int,
    weekly: bool,
    change_over: bool,
    reason: str,
    who: str,
    store: str,
) -> None:
    """Plan a window. `silence list` shows it, `silence expire` ends it. At the end of a change-over the alerts of its
    devices close, and their detectors start from nothing.

    \b
    Example: lineside-fleet maintenance add --site hall-2 --from 2026-11-24T06:00 --until 2026-11-24T08:00 --weekly
        --reason "cleaning"
    """
    from fleet.matching import parse_matcher
    from fleet.silences import add_silence
    from fleet.store import open_store

    if not sites and not terms:
        raise click.UsageError("say where: --site or --match")
    if change_over and any(term.startswith(("stream=", "label=")) for term in terms):
        raise click.UsageError("a change-over is of sites, devices and products, not of a stream or label")
    matcher = parse_matcher((*(f"site={site}" for site in sites), *terms))
    with open_store(store).begin() as tx:
        made = add_silence(
            tx,
            "changeover" if change_over else "maintenance",
            matcher,
            from_ms=from_ms,
            until_ms=until_ms,
            weekly=weekly,
            reason=reason,
            who=who,
            now_ms=_clock_ms(),
        )
    click.echo(made.id)


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
