"""`lineside train`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput, LinesideError
from toolkit.commands.option_groups import GroupedCommand, headed
from toolkit.commands.train_options import MODEL, RECIPE, RUN, STEPS, TASK, TEACHING, VARIATION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from toolkit.data.images import Dataset
    from toolkit.training.extra import Make
    from toolkit.training.recipe import Recipe
    from toolkit.training.results import TrainingResult
    from toolkit.training.trigger import Asked
    from toolkit.training.watch import Watch

ARCHITECTURE = {"model": "family", "width": "alpha"}  # options that are called otherwise in a recipe
AUTO = "auto"


@click.command("train", cls=GroupedCommand)
@click.argument("data", required=False, type=click.Path(path_type=Path))
@headed("The run", [*RUN, *RECIPE])
@headed("The network", MODEL)
@headed("Task and imbalance", TASK)
@headed("Steps", STEPS)
@headed("Variations", VARIATION)
@headed("Teachers", TEACHING)
@json_option
def train(
    data: Path | None,
    out: Path,
    fresh: bool,
    replace: bool,
    split_seed: int | None,
    split_file: Path | None,
    fold: int | None,
    trigger: Path | None,
    trigger_key: Path | None,
    prevalence: str | None,
    distribute: str,
    mlflow: str | None,
    recipe: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a classifier on the images in folder DATA.

    Images are split by group, as a split file or the manifest says, else by seed; those of the test split are not
    looked at. An interrupted training goes on after its last whole epoch when the same command is given again. With
    --weights the first model is a linear probe on the frozen network, and what is kept is never worse than it on
    validation. With --trigger, DATA may be left out where the trigger names its labelled samples; one that was trained
    to the end is not trained again, and trigger-result.json is the answer to the fleet.

    \b
    Example: lineside train data/steel --out runs/steel --width 0.5 --size 96
    Example: lineside train data/steel --out runs/steel --weights imagenet --recipe auto
    Example: lineside train data/steel-2 --out runs/steel-2 --trigger trigger.json --trigger-key signing.pub
    """
    from toolkit.data.images import open_dataset
    from toolkit.terminal import progress_bar
    from toolkit.training.bar import TrainingBar
    from toolkit.training.recipe_file import read_overrides
    from toolkit.training.trainer import train as run_training

    asked = _asked(trigger, trigger_key)
    if asked is not None and _trained(asked, out, fresh=fresh, as_json=as_json):
        return
    data = _data(data, asked)
    teaching = {name: given.pop(name) for name in ("teacher", "temperature", "teacher_weight", "feature_weight")}
    cache = given.pop("teacher_cache") or out.parent / "teaching"
    if out.resolve() in [teacher.resolve() for teacher in teaching["teacher"] or ()]:
        raise BadInput(f"{out}: is the teacher; the student needs another folder")
    stated = {name: value for name, value in given.items() if value is not None}
    wanted = ({} if recipe in (None, AUTO) else read_overrides(Path(str(recipe)))) | _named(stated)
    chosen = _recipe(wanted)
    with progress_bar("reading") as progress:
        dataset = open_dataset(data, progress=progress)
    shares = parse_prevalence(prevalence, dataset.names) if prevalence else None
    sides = _sides(dataset, chosen.seed, split_seed, split_file, fold)
    reasons: list[str] = []
    if recipe == AUTO:
        chosen, reasons = _chosen_by_the_data(dataset, sides, wanted)
    bar = TrainingBar()
    chosen, extra = _taught(chosen, dataset, sides, cache, teaching, bar)
    with bar, _answering(asked, out):
        result = run_training(
            dataset,
            sides,
            out,
            chosen,
            weights=wanted.get("weights"),
            prevalence=shares,
            fresh=fresh,
            replace=replace,
            watch=bar,
            extra=extra,
            distribute=distribute,  # type: ignore[arg-type]
            mlflow=mlflow,
            reasons=reasons,
            trigger=asked.trigger.id if asked else "",
        )
    if as_json:
        print_json(result)
    else:
        _print_result(result, dataset.names)


def _asked(path: Path | None, key: Path | None) -> Asked | None:
    """The trigger of a file, with what a person should know of it on stderr."""
    from toolkit.training.trigger import printable, read_asked

    if path is None:
        if key is not None:
            raise BadInput("--trigger-key is for a training with --trigger")
        return None
    asked = read_asked(path, key)
    one = asked.trigger
    doubt = "" if asked.verified else "; who wrote it is not checked, --trigger-key signing.pub does"
    click.echo(f"trigger {one.id} for model {one.model}: {printable(one.text or one.reason)}{doubt}", err=True)
    if one.suggested:
        said = " ".join(f"--{name} {value}" for name, value in sorted(one.suggested.items()))
        click.echo(f"it suggests, and nothing follows unless you do: {printable(said)}", err=True)
    return asked


def _trained(asked: Asked, out: Path, *, fresh: bool, as_json: bool) -> bool:
    """Whether the trigger has been trained to the end already: then that is said, and its result is there."""
    from toolkit.training.trigger import place, write_result

    folder = place(asked.trigger, out, fresh=fresh)
    if folder is None:
        return False
    result = write_result(folder, asked.trigger, _clock_ms())
    click.echo(f"{folder}: trigger {asked.trigger.id} is trained already; --fresh trains it again", err=True)
    if as_json:
        print_json(result)
    return True


def _data(data: Path | None, asked: Asked | None) -> Path:
    """The folder of images: as given, else that of the trigger's labelled samples."""
    samples = asked.samples if asked else None
    if data is not None:
        if samples is not None:
            click.echo(f"labelled samples of the trigger: {samples}; {data} is trained on as it is", err=True)
        return data
    if samples is None:
        raise click.UsageError("Missing argument 'DATA'.")
    click.echo(f"trained on the trigger's labelled samples: {samples}", err=True)
    return samples


@contextmanager
def _answering(asked: Asked | None, out: Path) -> Iterator[None]:
    """A block at whose end the fleet's trigger is answered, when it failed too."""
    try:
        yield
    except LinesideError as error:
        _answer(asked, out, str(error))
        raise
    _answer(asked, out)


def _answer(asked: Asked | None, out: Path, failure: str = "") -> None:
    from toolkit.training.trigger import RESULT, write_result

    if asked is not None and write_result(out, asked.trigger, _clock_ms(), failure=failure) is not None:
        click.echo(f"{out / RESULT}: for lineside-fleet trigger advance --from", err=True)


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _sides(
    dataset: Dataset, seed: int, split_seed: int | None, split_file: Path | None, fold: int | None
) -> NDArray[np.str_]:
    """The split of each image."""
    from toolkit.data.split_file import choose_split
    from toolkit.terminal import progress_bar

    with progress_bar("digests") as progress:
        drawn = seed if split_seed is None else split_seed
        sides, by = choose_split(dataset, drawn, path=split_file, fold=fold, progress=progress)
    if split_seed is not None and by not in (f"by seed {split_seed}", "by the manifest"):
        raise BadInput(f"{dataset.dir}: the images are split {by}, and --split-seed would draw another; leave it out")
    if split_seed is not None and by == "by the manifest":
        click.echo(f"{dataset.dir}: the images are split by the manifest; --split-seed plays no part", err=True)
    return sides


def _named(stated: dict[str, Any]) -> dict[str, Any]:
    """Options by the names that they have in a recipe."""
    from toolkit.models.architecture import parse_size

    found = {ARCHITECTURE.get(name, name): value for name, value in stated.items()}
    if "size" in found:
        found["size"], found["size_width"] = parse_size(found["size"])
    return found


def _recipe(wanted: dict[str, Any]) -> Recipe:
    """The recipe of what was asked for, the defaults for the rest."""
    from toolkit.models.architecture import Architecture
    from toolkit.models.own import with_source
    from toolkit.training.recipe import make_recipe

    names = set(Architecture.__struct_fields__)
    architecture = Architecture(**{name: value for name, value in wanted.items() if name in names})
    architecture.check()
    rest = {name: value for name, value in wanted.items() if name not in names}
    return make_recipe(with_source(architecture), **rest)


def _chosen_by_the_data(dataset: Dataset, sides: NDArray[np.str_], wanted: dict[str, Any]) -> tuple[Recipe, list[str]]:
    """The recipe that suits the training images, and why; what was asked for stays as it is."""
    import numpy as np

    from toolkit.training.auto import choose, facts_of

    choice = choose(facts_of(dataset, np.flatnonzero(sides == "train"), _recipe(wanted)))
    kept = [f"{name} stays at {wanted[name]}, as given" for name in choice.overrides if name in wanted]
    reasons = [*choice.reasons, *kept]
    for reason in reasons:
        click.echo(f"recipe: {reason}", err=True)
    return _recipe(choice.overrides | wanted), reasons


def _taught(
    recipe: Recipe, dataset: Dataset, sides: NDArray[np.str_], cache: Path, teaching: dict[str, Any], bar: Watch
) -> tuple[Recipe, Make | None]:
    """The recipe with its teachers, and what makes their answers."""
    import numpy as np

    asked = [name for name in ("temperature", "teacher_weight", "feature_weight") if teaching[name] is not None]
    if not teaching["teacher"]:
        if asked:
            raise BadInput(f"--{asked[0].replace('_', '-')} is for a training with --teacher")
        return recipe, None
    from toolkit.training.distillation import open_distillation, taught_by
    from toolkit.training.examples import policy_of
    from toolkit.training.teachers import open_teachers

    teachers = open_teachers(teaching["teacher"], dataset, sides, task=recipe.task)
    for note in (note for teacher in teachers for note in teacher.notes):
        click.echo(note, err=True)
    named = {"weight" if name == "teacher_weight" else name: teaching[name] for name in asked}
    recipe, distil = taught_by(recipe, teachers, **named)

    def make(model: Any, data_sha256: str) -> Any:
        pooled = [layer.output.shape[-1] for layer in model.layers if layer.name == "pooled"]
        return open_distillation(
            teachers,
            distil,
            dataset,
            np.flatnonzero(sides == "train"),
            cache=cache,
            data_sha256=data_sha256,
            policy=policy_of(recipe),
            seed=recipe.seed,
            task=recipe.task,
            features=int(pooled[0]) if pooled else None,
            progress=lambda done, total: bar.stage(f"asking the teacher: {done} of {total} images"),
        )

    return recipe, make


def parse_prevalence(text: str, names: list[str]) -> list[float]:
    """Share of each class on the line, in the order of `names`; what is left is spread over the classes not named.

    >>> parse_prevalence("good=0.98", ["good", "pit", "scratch"])
    [0.98, 0.01, 0.01]

    Raises:
        BadInput: not CLASS=SHARE, an unknown class, one given twice, or shares that do not add up to 1.
    """
    from toolkit.operating_point.costs import read_prevalence

    shares = read_prevalence((text,))
    if unknown := [name for name in shares if name not in names]:
        raise BadInput(f"prevalence: {unknown[0]!r} is none of the classes {', '.join(names)}")
    rest, open_names = 1 - sum(shares.values()), [name for name in names if name not in shares]
    if rest < -1e-9 or (not open_names and rest > 1e-9):
        raise BadInput(f"prevalence: the shares add up to {1 - rest:g}; they must add up to 1")
    return [shares.get(name, round(max(0.0, rest) / max(1, len(open_names)), 12)) for name in names]


def _print_result(result: TrainingResult, names: list[str]) -> None:
    from toolkit.training.checkpoint import place

    metrics = result.metrics
    if result.already_trained:
        noted = "; the new prevalence is noted" if result.prevalence_changed else ""
        click.echo(f"{result.run}: already trained{noted}; --fresh starts over")
    kept = place(result.epoch, result.blend)
    click.echo(
        f"{result.run}: macro-F1 {metrics.macro_f1:.4f}, accuracy {metrics.accuracy:.4f}, ECE {metrics.ece:.3f} "
        f"on {metrics.images} validation images ({kept}, {result.seconds:.0f} s)"
    )
    width = max(map(len, names))
    for name, recall in zip(names, metrics.recall, strict=True):
        click.echo(f"  {name:{width}}  recall {'-' if recall is None else f'{recall:.3f}'}")
    for warning in result.warnings[-3:]:
        click.echo(f"  warning: {warning}")
    if len(result.warnings) > 3:
        click.echo(f"  and {len(result.warnings) - 3} earlier warnings: {result.run}/health.csv")
