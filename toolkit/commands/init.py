"""`lineside init`: a project of one's own, whose pipeline is lineside's commands."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from device_agent.console import json_option, print_json
from toolkit.commands.profiles import profiles_option


@click.command("init")
@click.argument("folder", default=".", type=click.Path(path_type=Path, file_okay=False))
@click.option("--data", default="data", show_default=True, help="Folder of images inside the project.")
@click.option("--name", default="model", show_default=True, help="Of the run and the bundle.")
@click.option("--for", "profile_id", default="generic-x86-64", show_default=True, help="The kind of device.")
@click.option(
    "--prevalence", metavar="CLASS=SHARE,...", help="Shares on the line; with it the pipeline has an operating point."
)
@click.option("--ci", type=click.Choice(["github", "gitlab", "none"]), default="github", show_default=True)
@click.option("--force", is_flag=True, help="Replace the files that an earlier call wrote.")
@profiles_option
@json_option
def init(
    folder: Path,
    data: str,
    name: str,
    profile_id: str,
    prevalence: str | None,
    ci: Literal["github", "gitlab", "none"],
    force: bool,
    profiles_dir: Path | None,
    as_json: bool,
) -> None:
    """Write dvc.yaml, params.yaml and a recipe for CI into FOLDER.

    The stages are lineside's own commands: check, train, convert, evaluate, bench, operating-point, pack, report. `dvc
    repro` runs those whose images, options or earlier results changed, and only those.

    \b
    Example: lineside init steel --data data/steel --for raspberry-pi-4 --prevalence good=0.99
    """
    from profiles.registry import load
    from toolkit.project.files import lay_out

    profile = load(profile_id, profiles_dir)
    project = lay_out(folder, data=data, name=name, profile=profile.id, prevalence=prevalence, ci=ci, force=force)
    if as_json:
        print_json(project)
        return
    for place in project.written:
        click.echo(f"wrote {folder / place}")
    for place in project.kept:
        click.echo(f"kept  {folder / place}, which was there")
    click.echo("next:")
    for line in project.next:
        click.echo(f"  {line}")
