"""`lineside pack`: a run becomes one file for a kind of device."""

from __future__ import annotations

from pathlib import Path

import click

from device_agent.console import json_option, print_json
from toolkit.commands.profiles import profiles_option


@click.command("pack")
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--for", "profile_id", metavar="PROFILE", required=True, help="The kind of device; lineside profiles list."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: RUN/<run>-PROFILE.lineside]")
@profiles_option
@json_option
def pack(run_dir: Path, profile_id: str, out: Path | None, profiles_dir: Path | None, as_json: bool) -> None:
    """Pack the converted artifacts of RUN, known answers, baseline and lineage into one file.

    Artifacts that were not evaluated yet are; from then on the same run gives the same bytes. One that is not the file
    that passed its gate is refused.

    \b
    Example: lineside pack runs/steel --for raspberry-pi-4
    """
    from profiles.registry import load
    from toolkit.packing import pack_run
    from toolkit.runs import open_run

    profile = load(profile_id, profiles_dir)
    packed = pack_run(open_run(run_dir), profile, out, progress=lambda line: click.echo(line, err=True))
    if as_json:
        print_json(packed)
        return
    click.echo(f"{packed.path}  {packed.size / 1024**2:.2f} MiB  sha256 {packed.sha256}")
    for name, model_id in zip(packed.artifacts, packed.model_ids, strict=True):
        click.echo(f"  {name}  model {model_id}")
