"""`lineside-fleet samples`: pictures that devices keep for review."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import click

from device_agent.console import json_option, print_json
from fleet.commands.options import Finite, store_option

_PATH = click.Path(path_type=Path)
_keys = click.option("--keys", type=_PATH, default=Path("lineside-keys"), show_default=True, help="Folder of the keys.")
_folder = click.option(
    "--into", "folder", type=_PATH, default=Path("lineside-samples"), show_default=True, help="Folder of sealed files."
)
_device = click.option("--device", metavar="NAME", help="Of this device only.")
_limit = click.option("--last", "limit", type=click.IntRange(1), default=1000, show_default=True, help="So many.")


@click.group("samples")
def samples() -> None:
    """Frames that devices were unsure of, sealed on the device: take them over HTTPS, list them, open them.

    \b
    lineside-fleet samples certificate --host monitor.example
    lineside-fleet samples serve --listen 0.0.0.0:8444
    lineside-fleet samples open pictures
    """


@samples.command("certificate")
@_keys
@click.option("--host", "hosts", multiple=True, required=True, metavar="NAME", help="As devices call it; or again.")
def certificate(keys: Path, hosts: tuple[str, ...]) -> None:
    """Give the monitor a certificate of the fleet's authority, with which it serves HTTPS.

    \b
    Example: lineside-fleet samples certificate --host monitor.example --host 10.0.0.5
    """
    from fleet.keys import certify_monitor, utc_now

    path = certify_monitor(keys, hosts, utc_now())
    click.echo(f"{path}.pem {path}.key {keys / 'authority.pem'} {keys / 'revoked.pem'}")


@samples.command("serve")
@_keys
@_folder
@store_option
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where devices reach it, such as 0.0.0.0:8444.")
@click.option(
    "--quota-mib", type=Finite(0.001, 1e6), default=64.0, show_default=True, help="Of one device within a day."
)
@click.option("--keep-days", type=Finite(0.01, 3650), default=90.0, show_default=True, help="Then they are removed.")
@click.option("--connections", type=click.IntRange(1, 4096), default=64, show_default=True, help="At one time.")
def serve(
    keys: Path, folder: Path, store: str, listen: str, quota_mib: float, keep_days: float, connections: int
) -> None:
    """Take samples from devices, each by its certificate, until it is ended. They stay sealed.

    Of --keys it reads authority.pem, revoked.pem, monitor.pem and monitor.key, and no other file: the key that opens
    samples is better kept elsewhere. A device that is taken back is refused as soon as revoked.pem says so.

    \b
    Example: lineside-fleet samples serve --keys lineside-keys --listen 0.0.0.0:8444 --store sqlite:///fleet.db
    """
    from fleet.samples.archive import Archive, open_samples
    from fleet.samples.door import Keys, Limits
    from fleet.samples.intake import Intake
    from fleet.samples.receiver import Receiver, expire

    def say(line: str) -> None:
        click.echo(f"lineside-fleet: {line}", err=True)

    host, port = _address(listen)
    secured = Keys(keys, say)
    archive = Archive(open_samples(store, create=True), folder)
    intake = Intake(archive, quota_bytes=int(quota_mib * 2**20), clock_ms=_clock_ms)
    limits = Limits(connections=connections)
    receiver = Receiver((host, port), secured, intake, say, limits)
    say(f"taking samples on https://{listen} into {folder}")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    receiver.run(stop, lambda: expire(archive, keep_days, _clock_ms(), say))
    say("ended in order")


def _address(listen: str) -> tuple[str, int]:
    from device_agent.contract.errors import BadInput

    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise BadInput(f"--listen {listen!r}: must read like 0.0.0.0:8444 or [::]:8444")
    return host.removeprefix("[").removesuffix("]"), int(port)


@samples.command("list")
@store_option
@_device
@_limit
@json_option
def list_samples(store: str, device: str | None, limit: int, as_json: bool) -> None:
    """Samples that arrived: device, time, predicted class and confidence, and why the frame was kept.

    \b
    Example: lineside-fleet samples list --device press-1
    """
    from fleet.models import read_models
    from fleet.samples.archive import open_samples, read_samples
    from fleet.samples.cells import say_cell
    from fleet.wording import printable, say_time

    with open_samples(store).connect() as tx:
        found, models = read_samples(tx, device=device, limit=limit), read_models(tx)
    if as_json:
        print_json([row._asdict() for row in found])
        return
    for row in found:
        where = say_cell(row.cell, models.get(row.model))
        drawn = "" if row.probability is None else f" (1 of {1 / row.probability:.0f})"
        click.echo(printable(f"{row.sha256[:12]} {say_time(row.at_ms)} {row.device:20} {where:32} {row.reason}{drawn}"))


@samples.command("open")
@click.argument("out", type=_PATH)
@click.option("--key", type=_PATH, default=Path("lineside-keys/samples.key"), show_default=True, help="That opens.")
@_folder
@store_option
@_device
@_limit
@json_option
def open_(out: Path, key: Path, folder: Path, store: str, device: str | None, limit: int, as_json: bool) -> None:
    """Open samples into PNG files in the folder OUT, which are then readable by everybody who can read the folder.

    Exit code 6 if one was changed, or is sealed to another key; the others are opened.

    \b
    Example: lineside-fleet samples open pictures --device press-1
    """
    from device_agent.contract.errors import TrustFailed
    from fleet.samples.archive import open_samples, read_samples
    from fleet.samples.opening import open_samples_into

    with open_samples(store).connect() as tx:
        rows = read_samples(tx, device=device, limit=limit)
    opened, failed = open_samples_into(out, rows, folder, key)
    if as_json:
        print_json(opened)
    for one in [] if as_json else opened:
        click.echo(one.file)
    if failed:
        raise TrustFailed(f"{len(failed)} of {len(rows)} samples cannot be opened; the first, {failed[0]}")


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
