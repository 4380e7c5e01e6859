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


@profiles.command("check")
@click.argument("model", required=False, metavar="[FILE|RUN]", type=click.Path(path_type=Path))
@click.option("--for", "profile_id", required=True, metavar="PROFILE", help="The kind of device.")
@click.option("--model", "family", metavar="FAMILY", help="Instead of a file: an untrained network of this family.")
@click.option("--width", type=float, help="Its width multiplier; default 0.35.")
@click.option("--size", metavar="PX|HxW", help="Its input; default 96.")
@click.option("--head", type=click.Choice(["pooled", "bilinear", "attention", "parts"]), help="Its head.")
@click.option("--minimalistic", is_flag=True, help="V3 without squeeze-and-excite and 5x5 kernels.")
@click.option("--activation", type=click.Choice(["hard-silu", "silu", "relu"]), help="Of V3; default hard-silu.")
@click.option(
    "--rules", "rules_dir", type=click.Path(path_type=Path), help="Folder with more rules, above those built in."
)
@click.option(
    "--ask/--no-ask", default=True, help="Also load the file into the runtime, if it is installed; default on."
)
@click.option("--ops", "each", is_flag=True, help="Print every operator on a line of its own.")
@profiles_option
@json_option
def check_profile(
    model: Path | None,
    profile_id: str,
    family: str | None,
    width: float | None,
    size: str | None,
    head: str | None,
    minimalistic: bool,
    activation: str | None,
    rules_dir: Path | None,
    ask: bool,
    each: bool,
    profiles_dir: Path | None,
    as_json: bool,
) -> None:
    """Check before training where each operator would run on a kind of device.

    Give a .tflite, .onnx or .xml file, a run with its artifacts, or the options of a network, which is then built with
    drawn weights and converted as the profile's artifacts are: that needs no images. Where the runtime is installed,
    the prediction is held against what it does. Exit code 3: an accelerator of the device takes none of the files;
    4: the runtime does otherwise than predicted.

    \b
    Example: lineside profiles check --model mobilenet-v3-small --size 96 --for raspberry-pi-4
    Example: lineside profiles check model.tflite --for coral-usb
    """
    from profiles.registry import load
    from toolkit.commands.placement_tables import print_report, refuse_what_fails
    from toolkit.models.architecture import Architecture, parse_size
    from toolkit.placement import check_architecture, check_files, check_run, find_rules, is_model_file
    from toolkit.runs import open_run

    profile = load(profile_id, profiles_dir)
    options = {"family": family, "alpha": width, "head": head, "minimalistic": minimalistic, "activation": activation}
    given = {name: value for name, value in options.items() if value}
    if (model is None) == (not given and size is None):
        raise click.UsageError("give a model file or a run, or the options of a network such as --model mobilenet-v2")
    if model is None:
        height, other = parse_size(size or "96")
        architecture = Architecture(size=height, size_width=other, **given)  # type: ignore[arg-type]
        architecture.check()
        report = check_architecture(
            architecture,
            profile,
            folder=rules_dir,
            ask=ask,
            progress=lambda name: click.echo(f"converting {name}", err=True),
        )
    elif is_model_file(model):
        report = check_files({model.name: model}, profile.id, find_rules(profile, rules_dir), ask=ask)
    else:
        report = check_run(open_run(model), profile, folder=rules_dir, ask=ask)
    print_json(report) if as_json else print_report(report, each=each)
    refuse_what_fails([report])


def _print(profile: DeviceProfile) -> None:
    import msgspec

    text = {
        "id": profile.id,
        "soc": f"{profile.soc}, {profile.core}, {profile.arch}",
        "isa": profile.isa,
        "accelerator": profile.accelerator,
        "rules": ", ".join(profile.accelerators) or "those of its runtimes",
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
