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
@json_option
def verify(what: Path, written: Path | None, against: Path | None, names: tuple[str, ...], as_json: bool) -> None:
    """Check that artifacts are what was converted and compute what was trained.

    A run alone: file digests, then agreement with Keras on the validation images. With --certificate a run, a bundle or
    an artifact's folder is held against the answers in it, through the preprocessing and runtime of this machine: it is
    said whether the preprocessing or the model differs.

    Ends with exit code 4 when any artifact was changed, belongs to another model or fails, and with 6 when the
    certificate or the bundle was altered.

    \b
    Example: lineside verify runs/steel --write-certificate certificates/steel
             lineside verify runs/steel/steel-raspberry-pi-4.lineside --certificate certificates/steel
    """
    if written is not None and against is not None:
        raise click.UsageError("--write-certificate and --certificate exclude each other")
    if names and against is None:
        raise click.UsageError("--artifact goes with --certificate")
    if against is not None:
        _verify_against(what, against, names, as_json)
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


def _line(found: Conformity) -> str:
    if not found.frames:
        return f"{found.name:<14} FAILED"
    files = "the certified files" if found.same_files else "other files than the certified, judged by Keras"
    return (
        f"{found.name:<14} {'good' if found.passed else 'FAILED':<6} preprocessing within {found.preprocess_steps} of "
        f"255, logits within {found.model_error:.2g} of the spread ({found.allowed:.2g} allowed), "
        f"{found.frames} frames; {files}"
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
