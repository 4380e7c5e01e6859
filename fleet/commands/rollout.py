"""`lineside-fleet rollout`: a bundle that goes to a group of devices in waves, and back if they are worse for it."""

from __future__ import annotations

import fnmatch
import time
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput
from fleet.commands.options import Finite, store_option
from fleet.commands.times import by_option

if TYPE_CHECKING:
    from fleet.rollouts.plan import Rollout

why_option = click.option("--why", default="", help="In your own words; kept in the audit trail.")


@click.group("rollout")
def rollout() -> None:
    """Rollouts: 1, 10, 50 and 100 % of a group, each after enough independent frames and hours, and back by itself if
    devices with the new bundle are worse than their peers. What is decided is said, not delivered.

    \b
    Example: lineside-fleet rollout plan 3f9a0c1d2e4b 77aa01b2c3d4 --site "plant*" --by ann
    """


@rollout.command("plan")
@click.argument("bundle")
@click.argument("back")
@click.option("--site", default="*", show_default=True, metavar="PATTERN", help="Sites of the group.")
@click.option("--product", default="*", show_default=True, metavar="PATTERN", help="Products of the group.")
@click.option("--shares", default="1,10,50,100", show_default=True, metavar="PERCENT", help="Of the group, each wave.")
@click.option("--frames", type=click.IntRange(1, 10**9), default=5000, show_default=True,
              help="Independent frames that a wave takes.")  # fmt: skip
@click.option("--hours", type=click.IntRange(1, 8760), default=24, show_default=True, help="Hours that a wave takes.")
@click.option("--alpha", type=Finite(1e-6, 0.5), default=0.01, show_default=True,
              help="Probability of a false roll-back within 14 days.")  # fmt: skip
@click.option("--trigger", default="", metavar="ID", help="The trigger that it belongs to; it ends with the rollout.")
@why_option
@by_option
@store_option
def plan(
    bundle: str,
    back: str,
    site: str,
    product: str,
    shares: str,
    frames: int,
    hours: int,
    alpha: float,
    trigger: str,
    why: str,
    who: str,
    store: str,
) -> None:
    """Plan the rollout of BUNDLE, from the bundle BACK that serves (SHA-256 of imported ones, 8 digits at least); its
    id.

    \b
    Example: lineside-fleet rollout plan 3f9a0c1d2e4b 77aa01b2c3d4 --product bracket --hours 48
    """
    from fleet.registry import read_devices
    from fleet.rollouts.book import plan as write_plan
    from fleet.rollouts.plan import Terms
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        sites = {
            one.device: one.site
            for one in read_devices(tx)
            if fnmatch.fnmatchcase(one.site, site) and fnmatch.fnmatchcase(one.product, product)
        }
        made = write_plan(tx, bundle=bundle, back=back, sites=sites, who=who, now_ms=_clock_ms(), text=why,
                          terms=Terms(frames=frames, hours=hours, alpha=alpha), shares=_shares(shares),
                          trigger=trigger)  # fmt: skip
    click.echo(made.id)
    said = ", ".join(str(len(wave)) for wave in made.waves)
    click.echo(f"{made.id}: {made.state}, waves of {said} devices; lineside-fleet rollout start {made.id}", err=True)


@rollout.command("start")
@click.argument("rollout_id", metavar="ID")
@why_option
@by_option
@store_option
@json_option
def start(rollout_id: str, why: str, who: str, store: str, as_json: bool) -> None:
    """Begin with the first wave; the devices and the bundle that each is to have.

    \b
    Example: lineside-fleet rollout start r-3f9a0c1d2e4b55 --by bob
    """
    from fleet.rollouts.book import start as begin
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        found = begin(tx, rollout_id, who=who, why=why, now_ms=_clock_ms())
    _desired(found, as_json)


@rollout.command("step")
@click.argument("rollout_id", metavar="ID")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@store_option
@json_option
def step(rollout_id: str, dry_run: bool, store: str, as_json: bool) -> None:
    """Decide from what the store knows now, and do so; to be run every few minutes. Prints the devices and the bundle
    that each is to have, the decision on stderr.

    \b
    Example: lineside-fleet rollout step r-3f9a0c1d2e4b55 --json
    """
    from fleet.rollouts.book import step as decide
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        _, decision, evidence = decide(tx, rollout_id, now_ms=_clock_ms(), dry=dry_run)
    click.echo(f"{rollout_id}: {decision.action}: {'; '.join(decision.reasons)}", err=True)
    if as_json:
        print_json({"decision": decision, "evidence": evidence._asdict()})
        return
    for device, bundle in decision.desired:
        click.echo(f"{device} {bundle}")


@rollout.command("status")
@click.argument("rollout_id", metavar="[ID]", required=False)
@click.option("--all", "everything", is_flag=True, help="Those that have ended too.")
@store_option
@json_option
def status(rollout_id: str | None, everything: bool, store: str, as_json: bool) -> None:
    """Rollouts, or one with what is known of it and who did what.

    \b
    Example: lineside-fleet rollout status r-3f9a0c1d2e4b55
    """
    from fleet.rollouts.book import read_rollouts
    from fleet.rollouts.book import step as decide
    from fleet.store import open_store
    from fleet.triggers.trail import read_trail
    from fleet.wording import printable, say_time

    with open_store(store).connect() as tx:
        if rollout_id is None:
            found = read_rollouts(tx, ended=everything)
            if as_json:
                print_json(found)
            for one in () if as_json else found:
                _print(one)
            return
        one, decision, evidence = decide(tx, rollout_id, now_ms=_clock_ms(), dry=True)
        trail = read_trail(tx, one.id)
    if as_json:
        print_json({"rollout": one, "decision": decision, "evidence": evidence._asdict(), "trail": trail})
        return
    _print(one)
    click.echo(f"  {evidence.running} of {len(one.chosen)} devices report and run it; {evidence.independent:.0f} "
               f"independent frames in {evidence.hours} hours; log e {evidence.log_e:.1f}")  # fmt: skip
    click.echo(printable(f"  next: {decision.action}: {'; '.join(decision.reasons)}"))
    for entry in trail:
        move = f"{entry.before} -> {entry.after}" if entry.before else entry.after
        click.echo(printable(f"  {say_time(entry.at_ms)} {entry.who}: {entry.action}, {move}: {entry.why or '-'}"))


@rollout.command("halt")
@click.argument("rollout_id", metavar="ID")
@why_option
@by_option
@store_option
def halt(rollout_id: str, why: str, who: str, store: str) -> None:
    """Stay at the wave that is reached.

    \b
    Example: lineside-fleet rollout halt r-3f9a0c1d2e4b55 --why "audit week" --by ann
    """
    from fleet.rollouts.book import halt as stop
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        _say(stop(tx, rollout_id, who=who, why=why, now_ms=_clock_ms()))


@rollout.command("resume")
@click.argument("rollout_id", metavar="ID")
@why_option
@by_option
@store_option
def resume(rollout_id: str, why: str, who: str, store: str) -> None:
    """Go on from a halt.

    \b
    Example: lineside-fleet rollout resume r-3f9a0c1d2e4b55 --by ann
    """
    from fleet.rollouts.book import resume as go_on
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        _say(go_on(tx, rollout_id, who=who, why=why, now_ms=_clock_ms()))


@rollout.command("roll-back")
@click.argument("rollout_id", metavar="ID")
@why_option
@by_option
@store_option
@json_option
def roll_back(rollout_id: str, why: str, who: str, store: str, as_json: bool) -> None:
    """Back to the bundle of before, for good; the devices and the bundle that each is to have.

    \b
    Example: lineside-fleet rollout roll-back r-3f9a0c1d2e4b55 --why "operators complain" --by ann
    """
    from fleet.rollouts.book import roll_back as go_back
    from fleet.store import open_store

    with open_store(store).begin() as tx:
        found = go_back(tx, rollout_id, who=who, why=why, now_ms=_clock_ms())
    _desired(found, as_json)


def _desired(one: Rollout, as_json: bool) -> None:
    from fleet.rollouts.decision import desired_of

    _say(one)
    if as_json:
        print_json(desired_of(one))
        return
    for device, bundle in desired_of(one):
        click.echo(f"{device} {bundle}")


def _say(one: Rollout) -> None:
    click.echo(f"{one.id}: {one.state.replace('_', ' ')}, wave {one.stage + 1} of {len(one.waves)}", err=True)


def _print(one: Rollout) -> None:
    reached = f"{len(one.chosen)} of {len(one.devices)} devices, wave {one.stage + 1} of {len(one.waves)}"
    held = f" by {one.halted_by}" if one.halted_by else ""
    click.echo(f"{one.id} {one.state.replace('_', ' ')}{held}: {one.bundle[:12]} for {one.back[:12]}, {reached}")


def _shares(text: str) -> list[float]:
    try:
        return [float(part) / 100 for part in text.split(",")]
    except ValueError:
        raise BadInput(f"--shares {text[:40]}: must read like 1,10,50,100") from None


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
