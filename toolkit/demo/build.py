"""The demo's first half: from images to a bundle with three artifacts, by the same functions as the commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from device_agent.contract.errors import ParityFailed
from toolkit.runs import Run

FAMILY = "mobilenet-v3-small"  # minimalistic at width 0.5 learns fastest on two cores, and quantizes well
EPOCHS = 14  # from scratch; from given weights the probe alone is made
CONTRAST = 2.0  # of the drawn defects: clear enough to be learnt in a minute
ARTIFACTS = ("litert-int8", "onnx-int8", "openvino-int8")
PROFILE = "generic-x86-64"
WEIGHTS = "keras/mobilenet_v2_1.0_224_tf2ptq_dequant_no_top.h5"
Say = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to build. `data` None draws `images` synthetic parts, 99 % good on the line; with a folder of one's own the
    shares of its classes are the line's. `weights` None trains from scratch. `fresh`
    draws, trains and converts anew what an earlier demo left."""

    folder: Path
    data: Path | None = None
    weights: Path | None = None
    images: int = 2000
    fresh: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the comparison: all figures are measured on this machine, through the device's runtimes, on the
    validation images. `agreement` is the share of images that Keras puts into the same class."""

    artifact: str
    accuracy: float
    macro_f1: float
    ece: float
    agreement: float
    p50_ms: float
    p99_ms: float
    rss_peak_mib: float | None
    size_mib: float


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle, the images that pass before the cameras, and the comparison of the artifacts."""

    run: Path
    bundle: Path
    data: Path
    synthetic: bool
    rows: list[Row]


class Stages:
    """Wall time of each stage in seconds, in the order in which they ran."""

    def __init__(self, say: Say) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block and say how long it took."""
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)
        self._say(f"{name}: {self.seconds[name]:.1f} s")


def build(plan: Plan, stages: Stages) -> Built:
    """Images, run, artifacts, figures and bundle below `plan.folder`; what an earlier demo finished there is kept.

    Raises:
        LinesideError: what the single steps raise.
    """
    data = plan.data or plan.folder / "data"
    if plan.data is None and (plan.fresh or not (data / "manifest.csv").exists()):
        with stages.stage("draw"):
            _draw(data, plan)
    with stages.stage("train"):
        run = _train(data, plan)
    with stages.stage("convert"):
        agreements = _convert(run)
    with stages.stage("measure"):
        rows = [_row(run, name, agreements[name]) for name in ARTIFACTS]
    with stages.stage("pack"):
        bundle = _pack(run)
    return Built(run=run.dir, bundle=bundle, data=data, synthetic=plan.data is None, rows=rows)


def _draw(data: Path, plan: Plan) -> None:
    from toolkit.data.synth import SynthRecipe, synthesize

    synthesize(data, SynthRecipe(images=plan.images, photos_per_part=2, contrast=CONTRAST), force=plan.fresh)


def _train(data: Path, plan: Plan) -> Run:
    from toolkit.data.images import open_dataset
    from toolkit.data.splits import split
    from toolkit.models.architecture import Architecture
    from toolkit.runs import open_run
    from toolkit.training.bar import TrainingBar
    from toolkit.training.recipe import make_recipe
    from toolkit.training.trainer import train

    dataset = open_dataset(data)
    weights = str(plan.weights) if plan.weights else None
    shape = Architecture(alpha=1.0, size=128) if weights else Architecture(family=FAMILY, alpha=0.5, minimalistic=True)
    recipe = make_recipe(shape, weights=weights, epochs=0 if weights else EPOCHS)
    with TrainingBar() as bar:
        train(
            dataset,
            split(dataset, 0),
            plan.folder / "run",
            recipe,
            weights=weights,
            prevalence=_prevalence(dataset.names, dataset.labels.tolist(), drawn=plan.data is None),
            fresh=plan.fresh,
            watch=bar,
        )
    return open_run(plan.folder / "run")


def _prevalence(names: list[str], labels: list[int], *, drawn: bool) -> list[float]:
    """The shares of the classes on the line: 99 % good where it is drawn, else those of the data set."""
    if drawn:
        return [0.99 if name == "good" else 0.01 / (len(names) - 1) for name in names]
    return [labels.count(k) / len(labels) for k in range(len(names))]


def _convert(run: Run) -> dict[str, float]:
    """The share of images on which each artifact agrees with Keras, from its parity gate."""
    from toolkit.conversion import convert_run

    agreements = {}
    for done in convert_run(run, list(ARTIFACTS)):
        if done.artifact is None:
            raise ParityFailed(f"{done.name}: {done.reason}")
        agreements[done.name] = done.artifact.parity.agreement
    return agreements


def _row(run: Run, name: str, agreement: float) -> Row:
    from toolkit.benchmark import bench_artifact
    from toolkit.evaluation.scores import ensure_evaluation

    found = ensure_evaluation(run, name)
    speed = bench_artifact(run, name, quick=True)
    return Row(
        artifact=name,
        accuracy=found.accuracy,
        macro_f1=found.macro_f1,
        ece=found.ece,
        agreement=agreement,
        p50_ms=speed.p50_ms,
        p99_ms=speed.p99_ms,
        rss_peak_mib=speed.rss_peak_mib,
        size_mib=speed.size_mib,
    )


def _pack(run: Run) -> Path:
    """The bundle for this machine, with the demo's three artifacts only."""
    from profiles.registry import load
    from toolkit.packing import pack_run

    profile = msgspec.structs.replace(load(PROFILE), artifacts=list(ARTIFACTS))
    return Path(pack_run(run, profile).path)
