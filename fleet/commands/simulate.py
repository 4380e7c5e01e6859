"""`lineside-fleet simulate`: a fleet of simulated devices, or of real agents on this machine under faults."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput, LinesideError
from fleet.commands.options import Finite
from fleet.commands.worlds import chooses_worlds, run_worlds, worlds_options

if TYPE_CHECKING:
    from fleet.chaos.audit import Account
    from fleet.chaos.rehearsal import Rehearsal

_PATH = click.Path(path_type=Path)


class FramesLost(LinesideError):
    """The account of frames does not add up (exit 1)."""


@click.command("simulate")
@click.option("--agents", type=click.IntRange(1, 64), default=4, show_default=True, help="Agents, a process each.")
@click.option("--chaos", is_flag=True, help="Kill, cut, fill, damage and set wrong at random, then prove every frame.")
@click.option("--kills", type=click.IntRange(1, 100_000), help="Processes to kill before the end.  [default: 40]")
@click.option("--hours", type=Finite(0.001, 1000), help="How long; with --kills, whichever comes first.")
@click.option("--pause", "pause_s", type=Finite(0.05, 3600), default=1.0, show_default=True, help="Mean s to a fault.")
@click.option(
    "--interval", "interval_s", type=Finite(0.2, 60), default=0.5, show_default=True, help="Seconds a report."
)
@click.option("--fps", type=Finite(0.1, 200), default=20.0, show_default=True, help="Frames per second of each agent.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the faults and their victims.")
@click.option(
    "--bundle",
    type=click.Path(exists=True, path_type=Path),
    help="What the agents serve; default: a bundle for the fake runtime.",
)
@click.option("--broker-program", default="mosquitto", show_default=True, help="Mosquitto, by name or path.")
@click.option("--out", type=_PATH, help="Agents: a folder, new or empty. --direct: a file of JSON lines to go on in.")
@worlds_options
@json_option
def simulate(agents: int, chaos: bool, out: Path | None, as_json: bool, **options: Any) -> None:
    """Simulate a fleet: with --devices the devices of a world, without it real agents on this machine.

    With --devices N the counts of N devices are drawn from a world, healthy or with a fault, and go straight into the
    detector (--direct, the default), into a store (--store URL) or to a broker as real reports (--broker URL).

    \b
    Examples:
      lineside-fleet simulate --devices 100 --days 7 --fault ood5
      lineside-fleet simulate --devices 40 --days 3 --fault dirt --store sqlite:///demo.db
      lineside-fleet simulate --devices 5000 --days 1 --rate 10 --broker mqtt://localhost
      lineside-fleet simulate --devices 10000 --storm --broker mqtt://localhost

    What a whole site shows its peers excuse: --affected 1 is told from a change-over with --no-peers only. Results of
    --direct go on in --out FILE where they were.

    Without --devices a broker, a monitor and N agents run on this machine; with --chaos they are put through faults.

    The frames are counted by four hands: the source, the agent's answers, its spool, and the store. In the end all is
    healed, delivered and compared: exit code 0 if every frame is stored once, or lost in an interval that was open at
    a kill and told of by a gap; 1 if not. Without --chaos they run until --hours or Ctrl-C. Faults that need root
    (partition, full disk, memory) are left out by name where they cannot be had.

    \b
    Example: lineside-fleet simulate --agents 6 --chaos --kills 100 --seed 7 --out rehearsal
    """
    if chooses_worlds(options):
        if chaos or options["kills"]:
            raise BadInput("--chaos and --kills are for agents, --devices and its options for worlds: give one of them")
        run_worlds(out, as_json, options)
        return
    from fleet.chaos.device import Pace
    from fleet.chaos.programs import find_broker
    from fleet.chaos.rehearsal import Rehearsal

    if out is None:
        raise BadInput("--out FOLDER is missing: agents leave their logs there; or give --devices N for a world")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: must be a new or an empty folder")
    if any(sign in str(out.resolve()) for sign in ",:"):
        raise BadInput(f"{out}: its path must be without ',' and ':'")
    if options["kills"] and not chaos:
        raise BadInput("--kills is for --chaos")
    pace, broker = Pace(options["interval_s"], options["fps"]), find_broker(options["broker_program"])
    bundle = options["bundle"].resolve() if options["bundle"] else None
    rehearsal = Rehearsal(out.resolve(), agents, broker, pace, seed=options["seed"], say=_say, bundle=bundle)
    try:
        rehearsal.start()
        accounts, delivered_s = _run(rehearsal, chaos, options)
    finally:
        rehearsal.close()
    _report(rehearsal, accounts, delivered_s, {"seed": options["seed"], "agents": agents}, as_json)


def _run(rehearsal: Rehearsal, chaos: bool, options: dict[str, Any]) -> tuple[list[Account], float]:
    kills, seconds = options["kills"], options["hours"] and options["hours"] * 3600
    if chaos:
        for fault, why in sorted(rehearsal.absent.items()):
            _say(f"left out: {fault}: {why}")
        rehearsal.run_for(3.0)
        rehearsal.torment(kills=kills or (None if seconds else 40), seconds=seconds, pause_s=options["pause_s"])
        rehearsal.heal()
        _say("healed; waiting until everything is stored")
    else:
        try:
            while seconds is None:
                rehearsal.run_for(60.0)
            rehearsal.run_for(seconds)
        except KeyboardInterrupt:
            _say("ending in order")
    delivered_s = rehearsal.deliver()
    return rehearsal.end(), delivered_s


def _report(
    rehearsal: Rehearsal, accounts: list[Account], delivered_s: float, about: dict[str, Any], as_json: bool
) -> None:
    import msgspec

    from fleet.chaos.audit import table

    faults = [f"{account.device}: {fault}" for account in accounts for fault in account.faults]
    ledger = {
        **about,
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kills": dict(rehearsal.kills),
        "actions": dict(rehearsal.counts),
        "left_out": rehearsal.absent,
        "delivered_s": round(delivered_s, 1),
        "sound": not faults,
        "faults": faults,
        "accounts": accounts,
    }
    (rehearsal.folder / "ledger.json").write_bytes(msgspec.json.format(msgspec.json.encode(ledger), indent=2))
    if as_json:
        print_json(ledger)
    else:
        click.echo(table(accounts))
    if faults:
        raise FramesLost(f"{len(faults)} things do not add up, see {rehearsal.folder / 'ledger.json'}: {faults[0]}")
    _say(
        f"sound: {rehearsal.kills.total()} kills, {rehearsal.counts.total()} actions; every committed report is stored "
        f"once, every loss is told of by a gap; delivered {delivered_s:.1f} s after the healing"
    )


def _say(line: str) -> None:
    click.echo(f"lineside-fleet: {line}", err=True)
