"""How fast MobileNetV3 is in LiteRT: the stock float file, the stock int8 file, and the int8 file that lineside writes.

    python benchmarks/int8/speed.py --write

Networks of full width with drawn weights, whose answers are worth nothing and whose operators are those of trained
ones. One thread; the files take turns in one run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np

from converters import shared
from converters.console import held_back
from converters.instruction_set import instruction_set
from converters.keras_export import Export
from converters.race import race
from converters.tflite import write_float, write_quantized
from toolkit.models.architecture import Architecture
from toolkit.models.networks import build, normalizations, settle_statistics

SEED = 0
IMAGES = 16
AIMS = {96: 1.5, 224: 2.0}


@click.command()
@click.option("--write", is_flag=True, help="Write speed.md beside this file.")
def main(write: bool) -> None:
    """Print the table."""
    lines = [
        "# MobileNetV3 in LiteRT: measured",
        "",
        f"Machine: {instruction_set()}, shared with other work. One thread; ms: the fastest fifth of 320 runs.",
        "Drawn weights, seed 0. Stock: TensorFlow's converter on the network as it is, with hard_silu. relu: what is",
        "left where activations cost nothing: convolutions, gates and sums.",
        "",
        "| network | size | activation | stock fp32 | stock int8 | lineside int8 | faster than stock fp32 | aim |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for family in ("mobilenet-v3-small", "mobilenet-v3-large"):
        for size in AIMS:
            for activation in ("hard-silu", "silu", "relu"):
                lines.append(_row(family, size, activation))
                click.echo(lines[-1], err=True)
    click.echo("\n".join(lines))
    if write:
        Path(__file__).with_name("speed.md").write_text("\n".join(lines) + "\n")


def _row(family: str, size: int, activation: str) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stock, ours = (_export(family, size, each, folder / each) for each in ("hard-silu", activation))
        files = {each: folder / f"{each}.tflite" for each in ("float", "int8")}
        with held_back():
            write_float(stock, files["float"])
            write_quantized(stock, files["int8"])
            mine = shared.source(ours)
        image = ours.calibration[0]
        slow = race("litert", files["int8"], files["float"], ours.spec, image)
        fast = race("litert", mine, files["float"], ours.spec, image)
    gain = 1 / fast.ratio
    verdict = "not asked for" if activation == "relu" else "met" if gain >= AIMS[size] else "missed"
    return (
        f"| {family} | {size} | {activation} | {fast.other_ms:.3f} | {slow.one_ms:.3f} | {fast.one_ms:.3f} |"
        f" {gain:.2f} | {AIMS[size]}: {verdict} |"
    )


def _export(family: str, size: int, activation: str, folder: Path) -> Export:
    import keras

    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    architecture = Architecture(family=family, alpha=1.0, size=size, activation=activation)  # type: ignore[arg-type]
    model = build(architecture, 7)
    for layer in normalizations(model):  # drawn networks start their residual branches at zero
        layer.gamma.assign(np.abs(rng.normal(1, 0.1, layer.gamma.shape)))
    images = rng.integers(0, 256, (IMAGES, size, size, 3)).astype(np.uint8)
    settle_statistics(model, images, architecture.input_spec())
    folder.mkdir(exist_ok=True)
    return Export(model, architecture.input_spec(), images, folder)


if __name__ == "__main__":
    main()
