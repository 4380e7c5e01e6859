"""`lineside convert`: the trained model as files that devices can run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import ParityFailed
from toolkit.commands.profiles import profiles_option

if TYPE_CHECKING:
    from converters.scheme import Scheme
    from toolkit.conversion import Conversion


@click.command("convert")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--for", "profile_ids", multiple=True, metavar="PROFILE", help="Artifacts for this kind of device; again for more."
)
@click.option(
    "--only", "only", multiple=True, metavar="NAME", help="This artifact, such as litert-int8; again for more."
)
@click.option("--all", "everything", is_flag=True, help="Every artifact that there is a converter for.")
@click.option(
    "--scheme",
    type=click.Choice(["auto", "shared", "native"]),
    default="auto",
    show_default=True,
    help="int8: the same integers in every runtime (shared), each runtime's own quantizer (native), or what measures "
    "better.",
)
@click.option("--force", is_flag=True, help="Convert also what is up to date.")
@profiles_option
@json_option
def convert(
    run: Path,
    profile_ids: tuple[str, ...],
    only: tuple[str, ...],
    everything: bool,
    scheme: Scheme,
    force: bool,
    profiles_dir: Path | None,
    as_json: bool,
) -> None:
    """Convert a trained run to TFLite, ONNX and OpenVINO files.

    Each artifact is run on the validation images by the runtime that the device will use, and is kept only if it
    agrees with Keras: macro-F1 within 0.3 points for fp32 and fp16, 1.5 points for int8, as far as the number of
    images can tell. One that does not is not kept, and the exit code is 4. With fewer than 200 validation images the
    logits are judged on training images too; a line with still fewer ends in "not proved". AGREES is the share of
    images that get the same class as from Keras, ERROR the mean and largest difference of the logits as a share of
    their spread.

    With --scheme auto, the int8 files of ONNX Runtime and OpenVINO hold the integers of LiteRT's file if they answer
    as it does (0 steps of the logits apart in ONNX Runtime, at most 2 in OpenVINO) and take hardly longer than what
    the runtime's own quantizer makes; what was chosen and why is said below the table.

    \b
    Example: lineside convert runs/steel --for raspberry-pi-4 --for intel-n100
    """
    names = _names(profile_ids, only, everything, profiles_dir)
    from toolkit.conversion import convert_run
    from toolkit.runs import open_run

    done = convert_run(
        open_run(run),
        names,
        scheme=scheme,
        force=force,
        progress=lambda name: click.echo(f"converting {name}", err=True),
    )
    print_json(done) if as_json else _print_table(done)
    failed = [each for each in done if each.outcome == "failed"]
    if failed:
        raise ParityFailed("; ".join(str(each.reason) for each in failed))


def _names(profile_ids: tuple[str, ...], only: tuple[str, ...], everything: bool, folder: Path | None) -> list[str]:
    from converters import CONVERTERS
    from profiles.registry import load

    wanted = set(only)
    for profile_id in profile_ids:
        wanted |= set(load(profile_id, folder).artifacts)
    if everything:
        wanted |= set(CONVERTERS.names())
    if not wanted:
        raise click.UsageError(
            f"name what to convert: --for PROFILE, --all, or --only with {', '.join(CONVERTERS.names())}"
        )
    return sorted(wanted)


def _print_table(done: list[Conversion]) -> None:
    click.echo(
        f"{'ARTIFACT':<14} {'KIB':>7} {'AGREES':>8} {'ERROR':>8} {'LARGEST':>8}"
        f" {'MACRO-F1':>9} {'KERAS':>7} {'SECONDS':>8}"
    )
    for each in done:
        if each.artifact is None:
            click.echo(f"{each.name:<14} {each.outcome}")
            continue
        parity = each.artifact.parity
        seconds = f"{each.artifact.seconds:.1f}" if each.outcome == "converted" else each.outcome
        click.echo(
            f"{each.name:<14} {each.artifact.size_bytes / 1024:>7.0f} {parity.agreement:>8.1%}"
            f" {parity.mean_error:>8.1g} {parity.max_error:>8.1g}"
            f" {parity.macro_f1:>9.4f} {parity.keras_macro_f1:>7.4f} {seconds:>8}  {parity.doubt}".rstrip()
        )
    for each in done:
        chosen = each.artifact.scheme if each.artifact is not None else None
        if chosen is not None:
            click.echo(f"{each.name}: {chosen.chosen}, {chosen.reason}")
