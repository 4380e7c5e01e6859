"""`lineside convert`: the trained model as files that devices can run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import ParityFailed
from toolkit.commands.placement_tables import print_report, refuse_what_fails
from toolkit.commands.profiles import profiles_option

if TYPE_CHECKING:
    from converters.artifact import ArtifactRecord
    from converters.int8_options import Ranges, Scheme
    from toolkit.conversion import Conversion
    from toolkit.placement import PlacementReport


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
@click.option(
    "--ranges",
    type=click.Choice(["minmax", "percentile", "mse"]),
    default="mse",
    show_default=True,
    help="int8: an activation's range is its extremes, all but the outermost 0.01 %, or what errs least squared.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    metavar="POINTS",
    help="int8: macro-F1 that may be lost, in points.  [default: 1.5]",
)
@click.option(
    "--calibration",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    metavar="N",
    help="int8: calibrate with so many training images, every class and slice in turn.",
)
@click.option(
    "--calibrate-by",
    default="",
    metavar="COLUMN",
    help="int8: the column of the manifest that makes the slices.  [default: those of site, line, device, camera and "
    "lighting that it has]",
)
@click.option(
    "--qat",
    type=click.IntRange(0),
    default=0,
    metavar="EPOCHS",
    help="int8: where nothing else passes, train so many epochs with rounding.  [default: 0, never]",
)
@click.option("--force", is_flag=True, help="Convert also what is up to date.")
@click.option("--check", is_flag=True, help="Then say where each operator of the artifacts runs; needs --for.")
@profiles_option
@json_option
def convert(
    run: Path,
    profile_ids: tuple[str, ...],
    only: tuple[str, ...],
    everything: bool,
    scheme: Scheme,
    ranges: Ranges,
    max_drop: float | None,
    calibration: int,
    calibrate_by: str,
    qat: int,
    force: bool,
    check: bool,
    profiles_dir: Path | None,
    as_json: bool,
) -> None:
    """Convert a trained run to TFLite, ONNX and OpenVINO files.

    Each artifact is run on the validation images by the runtime that the device will use, and is kept only if it
    agrees with Keras: macro-F1 within 0.3 points for fp32 and fp16, 1.5 points or --max-drop for int8, and recall of
    the rarest defect within 3 points, as far as the number of images can tell. One that does not is not kept, and the
    exit code is 4. With fewer than 200 validation images the logits are judged on training images too; a line with
    still fewer ends in "not proved". AGREES is the share of images that get the same class as from Keras, ERROR the
    mean and largest difference of the logits as a share of their spread; intervals below the table hold 90 %.

    An int8 artifact that fails is made otherwise: with other range estimators, by the runtime's own quantizer, with
    its kernels equalised across layers, with the most harmful layers in float (LiteRT), with --qat after
    quantization-aware training. The first that passes is kept; if the first step passes, nothing further is computed.

    With --scheme auto, the int8 files of ONNX Runtime and OpenVINO hold the integers of LiteRT's file if they answer
    as it does (0 steps of the logits apart in ONNX Runtime, at most 2 in OpenVINO) and take hardly longer than what
    the runtime's own quantizer makes; what was chosen and why is said below the table.

    With --check, every artifact of the run is held against the rules of the device's accelerators and runtimes, as by
    `lineside profiles check`; exit code 3 says that an accelerator takes none of them.

    \b
    Example: lineside convert runs/steel --for raspberry-pi-4 --for intel-n100
    """
    if check and not profile_ids:
        raise click.UsageError("--check needs --for PROFILE: where operators run depends on the device")
    names = _names(profile_ids, only, everything, profiles_dir)
    from converters.int8_options import Int8Options
    from toolkit.conversion import convert_run
    from toolkit.runs import open_run

    done = convert_run(
        open_run(run),
        names,
        asked=Int8Options(
            scheme=scheme,
            ranges=ranges,
            max_drop=None if max_drop is None else max_drop / 100,
            calibration=calibration,
            calibrate_by=calibrate_by,
            qat=qat,
        ),
        force=force,
        progress=lambda name: click.echo(f"converting {name}", err=True),
    )
    reports = _checked(run, profile_ids, profiles_dir) if check and any(each.artifact for each in done) else []
    if as_json:
        print_json({"conversions": done, "placements": reports} if check else done)
    else:
        _print_table(done)
        for report in reports:
            click.echo()
            print_report(report)
    failed = [each for each in done if each.outcome == "failed"]
    if failed:
        raise ParityFailed("; ".join(str(each.reason) for each in failed))
    refuse_what_fails(reports)


def _checked(run: Path, profile_ids: tuple[str, ...], folder: Path | None) -> list[PlacementReport]:
    from profiles.registry import load
    from toolkit.placement import check_run
    from toolkit.runs import open_run

    return [check_run(open_run(run), load(profile_id, folder)) for profile_id in profile_ids]


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
        for line in _said(each.artifact) if each.artifact is not None else []:
            click.echo(f"{each.name}: {line}")


def _said(artifact: ArtifactRecord) -> list[str]:
    """What there is to say of an artifact beside its figures in the table."""
    lines, parity = [], artifact.parity
    if parity.agreement_interval is not None and parity.rarest is not None and artifact.precision == "int8":
        low, high = parity.agreement_interval
        lines.append(f"agrees on {parity.agreement:.1%} ({low:.1%} to {high:.1%}), {parity.rarest}")
    if artifact.scheme is not None:
        lines.append(f"{artifact.scheme.chosen}, {artifact.scheme.reason}")
    failed = artifact.steps[:-1]
    if failed:
        from converters.ladder import others

        last = artifact.steps[-1]
        lines.append(f"int8 by {last.name} after {others(len(failed))} failed; cost: {last.costs}")
        lines += [f"{step.name} failed: {'; '.join(step.failures)}" for step in failed]
        if last.control is not None:
            found = "; ".join(last.control.failures) or "it passes too"
            lines.append(f"control, {last.control.name}: agrees on {last.control.agreement:.1%}; {found}")
    return lines
