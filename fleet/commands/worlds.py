"""The half of `lineside-fleet simulate` that simulates devices of a world."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_agent.console import print_json
from device_agent.contract.errors import BadInput
from fleet.commands.options import Finite

if TYPE_CHECKING:
    from fleet.simulation.direct import Kept, SiteRun, Summary
    from fleet.simulation.plant import SimulatedFleet

_UNITS = {"m": 1, "h": 60, "d": 1440}


class Moment(click.ParamType[int]):
    """Minutes from a text like 90m, 12h or 2d."""

    name = "time"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of minutes."""
        found = re.fullmatch(r"([0-9]{1,6})([mhd])", str(value))
        if not found:
            self.fail(f"{value!r} must read like 90m, 12h or 2d.", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


_OPTIONS = (
    click.option("--devices", type=click.IntRange(1, 1_000_000), help="Simulated devices, in sites of 20."),
    click.option("--days", type=click.IntRange(1, 366), default=1, show_default=True, help="Simulated days."),
    click.option("--world", default="plain", show_default=True, help="What moves without harm; `list` shows all."),
    click.option("--fault", default="none", show_default=True, help="What goes wrong; `--world list` shows all."),
    click.option("--onset", "onset_min", type=Moment(), default="12h", show_default=True, help="When: 90m, 12h, 2d."),
    click.option("--affected", type=Finite(0, 1), default=0.1, show_default=True, help="Share of a site that has it."),
    click.option("--direct", is_flag=True, help="Straight into the detector, after 3 days of reference."),
    click.option("--store", "store_url", metavar="URL", help="Into this store, as the monitor would."),
    click.option("--broker", "broker_url", metavar="URL", help="To this broker, as real reports."),
    click.option("--rate", type=Finite(0.01, 6000), default=1.0, show_default=True, help="Minutes a minute, --broker."),
    click.option("--minutes", type=click.IntRange(1), help="End after so many, --broker."),
    click.option("--connections", type=click.IntRange(1, 1000), default=8, show_default=True, help="--broker."),
    click.option("--storm", is_flag=True, help="All devices reconnect at once, a connection each, --broker."),
    click.option("--test", default="ours", show_default=True, help="Detector or textbook test, --direct."),
    click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes, --direct."),
    click.option("--no-peers", is_flag=True, help="Judge every device alone, --direct."),
)


def worlds_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of worlds, in their order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chooses_worlds(options: dict[str, Any]) -> bool:
    """Whether these options ask for a world and not for agents."""
    return bool(options["devices"] or options["world"] == "list" or options["storm"])


def run_worlds(out: Path | None, as_json: bool, options: dict[str, Any]) -> None:
    """Run one simulation and print what came of it.

    Raises:
        BadInput: options that do not go together, an unknown world, fault or test.
        Unreachable: the broker does not answer or refuses.
    """
    from fleet.worlds import FAULTS, world_named

    if options["world"] == "list":
        _list_worlds()
        return
    targets = [name for name in ("direct", "store_url", "broker_url") if options[name]]
    if len(targets) > 1:
        raise BadInput("--direct, --store and --broker: give one of them")
    if options["devices"] is None:
        raise BadInput("--storm needs --devices N, how many agents reconnect")
    if options["storm"] and not options["broker_url"]:
        raise BadInput("--storm needs --broker URL, where the agents reconnect")
    if options["fault"] not in FAULTS:
        raise BadInput(f"--fault {options['fault']!r}: must be one of {', '.join(FAULTS)}")
    world_named(options["world"])
    if out is not None and targets not in ([], ["direct"]):
        raise BadInput("--out is for --direct: a store keeps its own, and a broker nothing")
    if options["broker_url"]:
        (_storm if options["storm"] else _carry)(as_json, options)
    elif options["store_url"]:
        _store(as_json, options)
    else:
        _direct(out, as_json, options)


def _list_worlds() -> None:
    from dataclasses import fields

    from fleet.worlds import MEANING, WORLDS, World

    plain = World()
    click.echo("worlds:")
    for name, world in WORLDS.items():
        apart = [f for f in fields(World) if getattr(world, f.name) != getattr(plain, f.name)]
        text = ", ".join(f"{f.name} {getattr(world, f.name)}" for f in apart)
        click.echo(f"  {name:12} {text or '600 frames a minute, parts 2 s in view'}")
    click.echo("faults:")
    for fault, meaning in MEANING.items():
        click.echo(f"  {fault:12} {meaning}")


def _fleet(options: dict[str, Any], interval_ms: int = 60_000) -> SimulatedFleet:
    from fleet.simulation.plant import SimulatedFleet
    from fleet.worlds import world_named

    return SimulatedFleet(
        world_named(options["world"]),
        options["devices"],
        options["seed"],
        fault=options["fault"],
        onset_min=options["onset_min"],
        affected=options["affected"],
        interval_ms=interval_ms,
    )


def _direct(out: Path | None, as_json: bool, options: dict[str, Any]) -> None:
    from fleet.simulation.direct import Kept, Plan, run_site, summarise
    from fleet.worlds import world_named

    names = ("world", "devices", "days", "seed", "fault", "onset_min", "affected", "test")
    plan = Plan(**{name: options[name] for name in names}, peers=not options["no_peers"])
    world = world_named(plan.world, devices=plan.devices)
    kept = Kept(out, plan)
    todo = [site for site in range(world.sites) if site not in kept.runs]
    if len(todo) < world.sites:
        _say(f"{world.sites - len(todo)} of {world.sites} sites are in {out} already")
    if options["jobs"] == 1:
        for site in todo:
            _keep(kept, run_site(plan, world, site), world.sites)
    elif todo:
        with ProcessPoolExecutor(options["jobs"]) as pool:
            for done in as_completed([pool.submit(run_site, plan, world, site) for site in todo]):
                _keep(kept, done.result(), world.sites)
    runs = [kept.runs[site] for site in range(world.sites)]
    summary = summarise(plan, runs)
    if as_json:
        print_json({"summary": summary, "sites": runs})
    else:
        _show_direct(summary, runs, world.devices)


def _keep(kept: Kept, run: SiteRun, sites: int) -> None:
    kept.add(run)
    _say(f"site {run.site}: {len(run.alarms)} alarms; {len(kept.runs)} of {sites} sites done")


def _show_direct(summary: Summary, runs: list[SiteRun], site_size: int, most: int = 40) -> None:
    lines = [(run.site, alarm) for run in runs for alarm in run.alarms]
    if lines:
        click.echo("device      minute  level   delay  stream            score  ratio")
    for site, alarm in lines[:most]:
        delay = "false" if alarm.delay_min is None else str(alarm.delay_min)
        ratio = "-" if alarm.ratio is None else f"{alarm.ratio:.2f}"
        name = f"sim-{site * site_size + alarm.device:06d}"
        click.echo(f"{name} {alarm.minute:7} {alarm.level:>6} {delay:>7}  {alarm.stream:16} {alarm.score:6} {ratio:>6}")
    if len(lines) > most:
        click.echo(f"... and {len(lines) - most} more, see --json")
    click.echo(f"measured on simulated lines, world {summary.plan.world}, seed {summary.plan.seed}:")
    for level in ("page", "warn", "frozen"):
        upper = summary.false_upper_95.get(level)
        bound = "" if upper is None else f", under {upper:g} a month at 95 %"
        false = f"{summary.false_alarms[level]} false in {summary.healthy_months:g} healthy device-months{bound}"
        median = summary.median_min.get(level)
        delay = "" if median is None else f", median delay {median:.0f} min"
        found = f"; found {summary.found[level]:.0%} of {summary.sick}{delay}" if summary.sick else ""
        click.echo(f"  {level:6} {false}{found}")


def _store(as_json: bool, options: dict[str, Any]) -> None:
    from fleet.detector_fleet import Settings
    from fleet.simulation.stored import store_fleet
    from fleet.store import open_store

    engine = open_store(options["store_url"], create=True)
    end_ms = time.time_ns() // 1_000_000
    found = store_fleet(engine, _fleet(options), options["days"], Settings(), end_ms=end_ms, tell=_say)
    engine.dispose()
    if as_json:
        print_json(found)
        return
    opened = ", ".join(f"{count} {severity}" for severity, count in sorted(found.alerts.items())) or "none"
    cost = "" if found.us_a_report is None else f", {found.us_a_report:.0f} us a report (measured)"
    skipped = f" ({found.skipped_minutes} minutes were there)" if found.skipped_minutes else ""
    click.echo(f"{found.stored} reports of {found.devices} devices stored{skipped}{cost}; alerts opened: {opened}")


def _carry(as_json: bool, options: dict[str, Any]) -> None:
    from device_agent.contract.broker import parse_broker
    from fleet.simulation.carriers import carry

    fleet = _fleet(options, interval_ms=max(1, round(60_000 / options["rate"])))
    found = carry(
        parse_broker(options["broker_url"]),
        fleet,
        options["days"],
        connections=options["connections"],
        start_ms=time.time_ns() // 1_000_000,
        clock_s=time.monotonic,
        pause=time.sleep,
        minutes=options["minutes"],
        tell=_say,
    )
    if as_json:
        print_json(found)
        return
    lag = "" if found.lag_s is None else f", acknowledged after {found.lag_s[0]:g} s (99 %: {found.lag_s[1]:g} s)"
    click.echo(
        f"{found.sent} reports of {found.devices} devices over {found.connections} connections in {found.seconds:g} s, "
        f"{found.reports_a_s:g} a second (measured){lag}; {found.held} not acknowledged, {found.sent_again} backfills, "
        f"at most {found.behind_s:g} s behind the pace"
    )


def _storm(as_json: bool, options: dict[str, Any]) -> None:
    import numpy as np

    from device_agent.contract.broker import parse_broker
    from fleet.simulation.storm import storm

    found = storm(
        parse_broker(options["broker_url"]),
        _fleet(options),
        rng=np.random.default_rng(options["seed"]),
        clock_s=time.monotonic,
        tell=_say,
    )
    if as_json:
        print_json(found)
        return
    click.echo(
        f"{found.connected} of {found.agents} agents connected in {found.seconds:g} s, at most {found.most_a_s} in a "
        f"second (measured), {found.retried} attempts failed"
    )


def _say(line: str) -> None:
    click.echo(f"lineside-fleet: {line}", err=True)
