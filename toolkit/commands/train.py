"""`lineside train`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput

if TYPE_CHECKING:
    from toolkit.training.trainer import TrainingResult

FAMILIES = ["mobilenet-v2", "mobilenet-v3-small", "mobilenet-v3-large"]


@click.command("train")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option("--model", type=click.Choice(FAMILIES), default=FAMILIES[0], show_default=True)
@click.option("--width", default=0.35, show_default=True, help="Width multiplier of the network.")
@click.option("--size", default=96, show_default=True, help="Side of the input in px.")
@click.option("--weights", metavar="PATH|imagenet", help="Pretrained backbone; without it, training is from scratch.")
@click.option("--epochs", type=int, help="Default 40 from scratch; with --weights 0: the probe alone.")
@click.option("--batch", default=32, show_default=True, help="Images in a step.")
@click.option("--lr", type=float, help="Peak learning rate; default 3e-3 from scratch, 3e-5 with --weights.")
@click.option("--patience", type=int, help="Stop after so many epochs without gain on validation; default 10.")
@click.option(
    "--flips",
    type=click.Choice(["none", "left-right", "up-down", "both"]),
    default="both",
    show_default=True,
    help="Mirror images in training. Turn off an axis along which a mirrored part would be another class: left and "
    "right parts, letters, a direction of grain.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the weights and the order.")
@click.option("--split-seed", type=click.IntRange(0, 2**31 - 1), help="Seed of the split; default that of --seed.")
@click.option(
    "--prevalence", metavar="CLASS=SHARE,...", help="Share of classes on the line; the rest is spread evenly."
)
@click.option("--minimalistic", is_flag=True, help="V3 without squeeze-and-excite and 5x5 kernels.")
@click.option("--activation", type=click.Choice(["hard-silu", "silu", "relu"]), help="V3: silu is faster in int8.")
@click.option("--fresh", is_flag=True, help="Start over, whatever the run folder holds of a run.")
@json_option
def train(
    data: Path,
    out: Path,
    model: str,
    width: float,
    size: int,
    weights: str | None,
    epochs: int | None,
    batch: int,
    lr: float | None,
    patience: int | None,
    flips: str,
    seed: int,
    split_seed: int | None,
    prevalence: str | None,
    minimalistic: bool,
    activation: str | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Train a MobileNet on the images in folder DATA.

    Images are split by group; those of the test split are not looked at. An interrupted training goes on after its last
    whole epoch when the same command is given again. With --weights the first model is a linear probe on the frozen
    network, and what is kept is never worse than it on validation.

    \b
    Example: lineside train data/steel --out runs/steel --width 0.5 --size 96
    """
    from toolkit.data.images import open_dataset
    from toolkit.data.splits import split
    from toolkit.models.networks import Architecture
    from toolkit.terminal import progress_bar
    from toolkit.training.bar import TrainingBar
    from toolkit.training.recipe import make_recipe
    from toolkit.training.trainer import train as run_training

    architecture = Architecture(
        family=model,
        alpha=width,
        size=size,
        minimalistic=minimalistic,
        activation=activation,  # type: ignore[arg-type]
    )
    recipe = make_recipe(
        architecture,
        weights=weights,
        epochs=epochs,
        batch=batch,
        lr=lr,
        patience=patience,
        flips=flips,  # type: ignore[arg-type]
        seed=seed,
    )
    with progress_bar("reading") as progress:
        dataset = open_dataset(data, progress=progress)
    shares = parse_prevalence(prevalence, dataset.names) if prevalence else None
    sides = split(dataset, seed if split_seed is None else split_seed)
    with TrainingBar() as bar:
        result = run_training(dataset, sides, out, recipe, weights=weights, prevalence=shares, fresh=fresh, watch=bar)
    if as_json:
        print_json(result)
    else:
        _print_result(result, dataset.names)


def parse_prevalence(text: str, names: list[str]) -> list[float]:
    """Share of each class on the line, in the order of `names`; what is left is spread over the classes not named.

    >>> parse_prevalence("good=0.98", ["good", "pit", "scratch"])
    [0.98, 0.01, 0.01]

    Raises:
        BadInput: not CLASS=SHARE, an unknown class, one given twice, or shares that do not add up to 1.
    """
    shares: dict[str, float] = {}
    for part in re.findall(r".+?=[^=,]*(?:,|$)|.+", text):
        name, equals, number = part.removesuffix(",").rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if name.strip() not in names or not equals or not 0 <= value <= 1:
            raise BadInput(f"prevalence must be like {names[0]}=0.9 with classes {', '.join(names)}, got {part!r}")
        if name.strip() in shares:
            raise BadInput(f"prevalence: class {name.strip()!r} is given twice; once is enough")
        shares[name.strip()] = value
    rest, open_names = 1 - sum(shares.values()), [name for name in names if name not in shares]
    if rest < -1e-9 or (not open_names and rest > 1e-9):
        raise BadInput(f"prevalence: the shares add up to {1 - rest:g}; they must add up to 1")
    return [shares.get(name, round(max(0.0, rest) / max(1, len(open_names)), 12)) for name in names]


def _print_result(result: TrainingResult, names: list[str]) -> None:
    metrics = result.metrics
    if result.already_trained:
        noted = "; the new prevalence is noted" if result.prevalence_changed else ""
        click.echo(f"{result.run}: already trained{noted}; --fresh starts over")
    kept = "the probe" if result.epoch == 0 else f"epoch {result.epoch}"
    click.echo(
        f"{result.run}: macro-F1 {metrics.macro_f1:.4f}, accuracy {metrics.accuracy:.4f}, ECE {metrics.ece:.3f} "
        f"on {metrics.images} validation images ({kept}, {result.seconds:.0f} s)"
    )
    width = max(map(len, names))
    for name, recall in zip(names, metrics.recall, strict=True):
        click.echo(f"  {name:{width}}  recall {'-' if recall is None else f'{recall:.3f}'}")
