"""`lineside verify`: artifacts still compute what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import ParityFailed

if TYPE_CHECKING:
    from converters.certificate import Certificate
    from converters.conformity import Conformity
    from toolkit.file_check import FileCheck


@click.command("verify")
@click.argument("what", metavar="RUN|BUNDLE|ARTIFACT|FILE", type=click.Path(path_type=Path))
@click.option(
    "--write-certificate",
    "written",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Of a run that passes: write what it has to answer, with golden pictures, into this folder.",
)
@click.option(
    "--certificate",
    "against",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Hold it against this certificate; needs neither TensorFlow nor the data set.",
)
@click.option("--artifact", "names", multiple=True, help="With --certificate: only this one; can be repeated.")
@click.option(
    "--data",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Of a FILE: pictures to try it on, one folder a class or with a manifest.csv.",
)
@click.option(
    "--labels",
    "labels_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Of a FILE: its classes in the order of its outputs, one a line; default those of --data from A to Z.",
)
@click.option(
    "--range",
    "values",
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="Of a FILE: what 0 and 255 become at its input; default what the file tells, else -1 1.",
)
@click.option("--bgr", is_flag=True, help="Of a FILE: its colours stand in the order blue, green, red.")
@json_option
def verify(
    what: Path,
    written: Path | None,
    against: Path | None,
    names: tuple[str, ...],
    data: Path | None,
    labels_file: Path | None,
    values: tuple[float, float] | None,
    bgr: bool,
    as_json: bool,
) -> None:
    """Check that artifacts are what was converted and compute what was trained.

    A run alone: file digests, then agreement with Keras on the validation images. With --certificate a run, a bundle,
    an artifact's folder or a model file is held against the answers in it, through the preprocessing and runtime of
    this machine: it is said whether the preprocessing or the model differs. A .tflite, .onnx or OpenVINO .xml FILE from
    elsewhere is opened and tried on the pictures in --data.

    Ends with exit code 4 when any artifact was changed, belongs to another model or fails, and with 6 when the
    certificate or the bundle was altered.

    \b
    Example: lineside verify runs/steel --write-certificate certificates/steel
             lineside verify runs/steel/steel-raspberry-pi-4.lineside --certificate certificates/steel
             lineside verify model.tflite --data data/steel
    """
    if written is not None and against is not None:
        raise click.UsageError("--write-certificate and --certificate exclude each other")
    if names and against is None:
        raise click.UsageError("--artifact goes with --certificate")
    of_file = data is not None or labels_file is not None or values is not None or bgr
    if of_file and (written is not None or against is not None):
        raise click.UsageError("--data, --labels, --range and --bgr exclude a certificate")
    if values is not None and not -1e6 < values[0] < values[1] < 1e6:
        raise click.UsageError("--range must name the lower value first")
    if against is not None:
        _verify_against(what, against, names, as_json)
    elif of_file or (what.is_file() and written is None):
        _verify_file(what, data, labels_file, values, bgr, as_json)
    else:
        _verify_run(what, written, as_json)


def _verify_run(folder: Path, written: Path | None, as_json: bool) -> None:
    from toolkit.conversion import verify_run
    from toolkit.runs import open_run

    run = open_run(folder)
    found = verify_run(run, progress=_say)
    if as_json:
        print_json(found)
    else:
        for each in found:
            agrees = (
                f"agrees with Keras on {each.parity.agreement:.1%} of {each.parity.images} images"
                if each.parity
                else ""
            )
            doubt = f"; {each.parity.doubt}" if each.parity and each.parity.doubt else ""
            click.echo(f"{each.name:<14} {'good' if each.passed else 'FAILED':<6} {agrees}{doubt}".rstrip())
    failed = [str(each.reason) for each in found if not each.passed]
    if failed:
        raise ParityFailed("; ".join(failed))
    if written is not None:
        from toolkit.certification import certify

        _say_written(written, certify(run, written))


def _verify_against(what: Path, folder: Path, names: tuple[str, ...], as_json: bool) -> None:
    from toolkit.certification import verify_against

    found = verify_against(what, folder, names, progress=_say)
    if as_json:
        print_json(found)
    else:
        for each in found:
            click.echo(_line(each))
    failed = [each for each in found if not each.passed]
    for each in failed:
        for failure in each.failures:
            click.echo(f"{each.name}: {failure}", err=True)
    if failed:
        raise ParityFailed(f"{what}: {len(failed)} of {len(found)} do not do what {folder} certifies")


def _verify_file(
    path: Path,
    data: Path | None,
    labels_file: Path | None,
    values: tuple[float, float] | None,
    bgr: bool,
    as_json: bool,
) -> None:
    from toolkit.file_check import check_file, read_labels

    labels = read_labels(labels_file) if labels_file is not None else None
    found = check_file(path, data, labels=labels, values=values, bgr=bgr)
    if as_json:
        print_json(found)
    else:
        _print_file(found)
    if not found.passed:
        raise ParityFailed(f"{path}: {'; '.join(found.failures)}")


def _print_file(found: FileCheck) -> None:
    model, spec = found.model, found.input
    click.echo(f"{model.path}: {model.runtime} {found.runtime_version}, {model.precision}")
    high = spec.offset + 255 * spec.scale
    click.echo(
        f"  input      {model.height} x {model.width} x {model.channels} {model.dtype}, {spec.colour_order}, "
        f"{spec.offset:.3g} to {high:.3g} ({found.input_known})"
    )
    low, high = found.row_sums
    click.echo(f"  outputs    {model.classes} classes, {found.ends_in}; an answer adds up to {low:.3g} to {high:.3g}")
    kind = "drawn pictures" if found.drawn else f"of {found.there} pictures"
    click.echo(
        f"  measured   {found.images} {kind}: outputs spread by {found.spread:.3g}, {found.predicted} classes predicted"
    )
    if found.accuracy is not None and found.accuracy_interval is not None:
        low, high = found.accuracy_interval
        click.echo(
            f"  accuracy   {found.accuracy:.1%} ({low:.1%} to {high:.1%}, 95 %, as if no part was seen twice); too "
            "high if its training saw these pictures"
        )
    for note in found.notes:
        click.echo(f"  note       {note}")


def _line(found: Conformity) -> str:
    if not found.frames:
        return f"{found.name:<14} FAILED"
    files = "the certified files" if found.same_files else "other files than the certified, judged by Keras"
    return (
        f"{found.name:<14} {'good' if found.passed else 'FAILED':<6} preprocessing within {found.preprocess_steps} of "
        f"255, logits within {found.model_error:.2g} of the spread ({found.allowed:.2g} allowed), "
        f"{found.changed} of {found.frames} frames in another class than Keras; {files}"
    )


def _say_written(folder: Path, certificate: Certificate) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1024
    click.echo(
        f"{folder}: {len(certificate.shots)} frames, {len(certificate.answers)} artifacts, {size:.0f} KiB, "
        f"sha256 {certificate.sha256[:16]}",
        err=True,
    )


def _say(name: str) -> None:
    click.echo(f"verifying {name}", err=True)
