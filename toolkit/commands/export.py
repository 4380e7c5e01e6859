"""`lineside export`: the model for programs that are not lineside's: TensorRT on a Jetson, Triton on a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json

if TYPE_CHECKING:
    from toolkit.export import Exported


@click.command("export")
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--tensorrt",
    "tensorrt_dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write what a Jetson builds its TensorRT engine from.",
)
@click.option(
    "--triton",
    "triton_dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a model into this Triton model repository.",
)
@click.option(
    "--artifact",
    metavar="NAME",
    help="For Triton: an onnx or openvino artifact.  [default: onnx-int8, or onnx-fp32 where that is not converted]",
)
@click.option("--name", metavar="NAME", help="For Triton: what clients call the model.  [default: the run's name]")
@json_option
def export(
    run_dir: Path,
    tensorrt_dir: Path | None,
    triton_dir: Path | None,
    artifact: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Lay out a converted model of RUN for TensorRT or for the Triton Inference Server.

    --tensorrt writes the artifact onnx-fp32, a calibration cache (a scale for every tensor, measured on the run's
    calibration images) and build.sh, which calls trtexec on the board: an engine holds for the GPU and the TensorRT
    version that it was built with, so none is made here. --triton writes DIR/NAME with config.pbtxt, labels.txt and
    version 1 of the model.

    Only artifacts that passed their gate are exported; lineside.json names the sha256 of every file, the input
    settings, and what was measured. Neither TensorRT nor a Triton server was tried. A folder that holds anything else
    is refused.

    \b
    Example: lineside export runs/steel --tensorrt jetson/steel --triton models
    """
    if tensorrt_dir is None and triton_dir is None:
        raise click.UsageError("name where to: --tensorrt DIR, --triton DIR, or both")
    if triton_dir is None and (artifact is not None or name is not None):
        raise click.UsageError("--artifact and --name go with --triton DIR; TensorRT gets onnx-fp32")
    from toolkit.export import export_tensorrt, export_triton
    from toolkit.runs import open_run

    run, done = open_run(run_dir), []
    if tensorrt_dir is not None:
        done.append(export_tensorrt(run, tensorrt_dir, progress=lambda line: click.echo(line, err=True)))
    if triton_dir is not None:
        done.append(export_triton(run, triton_dir, artifact, name))
    if as_json:
        print_json(done)
        return
    for exported in done:
        _print(exported)


def _print(exported: Exported) -> None:
    record = exported.record
    target = "TensorRT, to be built on the board" if record.kind == "tensorrt" else "Triton"
    click.echo(f"{exported.folder}  {record.artifact} for {target}")
    for way, port in zip(("in", "out"), record.ports, strict=True):
        click.echo(f"  {way:<13} {port.name} {port.dtype} {' x '.join(map(str, port.dims))}")
    if record.kind == "tensorrt":
        click.echo(f"  {'scales':<13} {record.scales}, from {record.calibration_images} training images")
    for line in record.measured:
        click.echo(f"  {'measured':<13} {line}")
    for line in record.not_measured:
        click.echo(f"  {'not measured':<13} {line}")
