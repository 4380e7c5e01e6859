"""`lineside-fleet keys`: who may speak on the broker, and what configuration is signed with."""

from __future__ import annotations

from pathlib import Path

import click

from device_agent.console import json_option, print_json

_folder = click.option(
    "--keys",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("lineside-keys"),
    show_default=True,
    help="Of the keys.",
)


@click.group("keys")
def keys() -> None:
    """An authority of the fleet's own, certificates for broker, monitor and devices, and keys to sign and seal with.

    \b
    Example: lineside-fleet keys init --host broker.example
    """


@keys.command("init")
@_folder
@click.option("--host", "hosts", multiple=True, required=True, metavar="NAME", help="Of the broker; again for more.")
def init(folder: Path, hosts: tuple[str, ...]) -> None:
    """Make the authority, the keys of broker and monitor, and what Mosquitto needs to tell devices apart.

    \b
    Example: lineside-fleet keys init --host broker.example --host 10.0.0.5
    """
    from fleet.keys import create, utc_now

    create(folder, hosts, utc_now())
    click.echo(f"{folder}: keep it where neither broker nor devices can read it; see mosquitto.conf there", err=True)


@keys.command("device")
@click.argument("devices", nargs=-1, required=True, metavar="NAME...")
@_folder
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="That it is to hold.")
def device(devices: tuple[str, ...], folder: Path, days: int) -> None:
    """Give devices a certificate each; one that a device had before is taken back.

    \b
    Example: lineside-fleet keys device press-1 press-2
    """
    from fleet.keys import certify_device, utc_now

    for name in devices:
        path = certify_device(folder, name, utc_now(), days=days)
        click.echo(f"{path}.pem {path}.key {folder / 'authority.pem'}")


@keys.command("worker")
@click.argument("workers", nargs=-1, required=True, metavar="NAME...")
@_folder
def worker(workers: tuple[str, ...], folder: Path) -> None:
    """Give further workers of the monitor a certificate each, and the rights of the monitor in `acl`.

    \b
    Example: lineside-fleet keys worker lineside-fleet-2 lineside-fleet-3
    """
    from fleet.keys import certify_worker, utc_now

    for name in workers:
        path = certify_worker(folder, name, utc_now())
        click.echo(f"{path}.pem {path}.key {folder / 'authority.pem'}")
    click.echo(f"copy {folder / 'acl'} to the broker and have it read it again (SIGHUP)", err=True)


@keys.command("revoke")
@click.argument("device")
@_folder
def revoke(device: str, folder: Path) -> None:
    """Take the certificate of a device back. The broker has to read revoked.pem again: restart it.

    \b
    Example: lineside-fleet keys revoke press-1
    """
    from fleet.keys import revoke as take_back
    from fleet.keys import utc_now

    take_back(folder, device, utc_now())
    click.echo(f"{device}: revoked; copy {folder / 'revoked.pem'} to the broker and restart it", err=True)


@keys.command("list")
@_folder
@json_option
def list_keys(folder: Path, as_json: bool) -> None:
    """Certificates of devices, and until when they hold.

    \b
    Example: lineside-fleet keys list
    """
    from fleet.keys import issued, utc_now

    found, now = issued(folder), utc_now()
    if as_json:
        print_json(
            [
                {
                    "device": each.name,
                    "ends": each.ends.isoformat(),
                    "revoked": each.revoked and each.revoked.isoformat(),
                }
                for each in found
            ]
        )
        return
    for each in found:
        state = f"revoked {each.revoked:%Y-%m-%d}" if each.revoked else "expired" if each.ends < now else "holds"
        click.echo(f"{each.name:32} {state:18} until {each.ends:%Y-%m-%d}")
