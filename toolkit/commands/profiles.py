"""`lineside profiles`: kinds of devices that lineside knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from profiles.schema import DeviceProfile

profiles_option = click.option(
    "--profiles",
    "profiles_dir",
    type=click.Path(path_type=Path),
    help="Folder with more profiles, above ./profiles.d and those of the user.",
)


@click.group("profiles")
def profiles() -> None:
    """Kinds of devices: what each can run, and where each figure is from.

    \b
    Built-in profiles are below those in ./profiles.d, these below ~/.config/lineside/profiles.
    Example: lineside profiles show raspberry-pi-4
    """


@profiles.command("list")
@profiles_option
@json_option
def list_profiles(profiles_dir: Path | None, as_json: bool) -> None:
    """List every profile.

    \b
    Example: lineside profiles list
    """
    from profiles.registry import catalogue

    listed = catalogue(profiles_dir)
    if as_json:
        print_json(listed)
        return
    width = max(len(one.id) for one in listed)
    for one in listed:
        click.echo(f"{one.id:<{width}}  {one.name}")


@profiles.command("show")
@click.argument("profile_id", metavar="ID")
@profiles_option
@json_option
def show_profile(profile_id: str, profiles_dir: Path | None, as_json: bool) -> None:
    """Show one profile with the source of each figure.

    \b
    Example: lineside profiles show raspberry-pi-4 --json
    """
    from profiles.registry import load

    profile = load(profile_id, profiles_dir)
    if as_json:
        print_json(profile)
    else:
        _print(profile)


def _print(profile: DeviceProfile) -> None:
    import msgspec

    text = {
        "id": profile.id,
        "soc": f"{profile.soc}, {profile.core}, {profile.arch}",
        "isa": profile.isa,
        "accelerator": profile.accelerator,
        "system": profile.system,
        "python": ", ".join(profile.python) + (f" ({profile.python_note})" if profile.python_note else ""),
        "artifacts": " -> ".join(profile.artifacts),
        "threads": f"{profile.threads}" + (f" on cores {profile.affinity}" if profile.affinity else ""),
    }
    click.echo(profile.name)
    for name, value in text.items():
        click.echo(f"  {name:<12} {value}")
    for title, group in (("hardware", profile.hardware), ("budgets", profile.budgets)):
        click.echo(f"{title}")
        for name, figure in msgspec.structs.asdict(group).items():
            click.echo(f"  {name:<16} {_figure(figure)}")
    for one in profile.latency:
        threads = f", {one.threads} threads" if one.threads else ""
        click.echo(f"published  {one.model} {one.width} @{one.input_px} {one.precision}, {one.runtime}{threads}: ")
        click.echo(f"  {one.ms:g} ms  [{one.kind}] {one.source}")
    for note in profile.notes:
        click.echo(f"note  {note}")


def _figure(figure: Any) -> str:
    return "unknown" if figure is None else f"{figure.value:>8g}  [{figure.kind}] {figure.source}"
