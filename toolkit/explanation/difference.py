"""What is different between two models: weights, quantization, size, latency, accuracy, and decisions that flip."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.graph_diff import LayerDiff, Size, compare_graphs, size_of
from converters.tflite_file import read_graph
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import open_runtime
from toolkit.data.images import Dataset, load, open_dataset
from toolkit.evaluation.answers import Split, check_logits, collect, infer
from toolkit.evaluation.comparison import Comparison, Side, compare_answers, compare_models
from toolkit.evaluation.figures import Judged
from toolkit.explanation.sides import ModelSide
from toolkit.explanation.stopwatch import Timed, time_together

Progress = Callable[[str], None]


class ModelDifference(msgspec.Struct, frozen=True, kw_only=True):
    """B against A. `layers` are those of two .tflite files, `sizes` and `latency` of A and of B, the latter measured in
    turn in one process; `decisions` are those on held-out images of both runs or on a folder of images. `left_out` says
    what could not be compared and why."""

    a: str
    b: str
    sizes: tuple[Size, Size]
    layers: list[LayerDiff] = []
    latency: tuple[Timed, Timed] | None = None
    decisions: Comparison | None = None
    pictures: str = ""
    left_out: list[str] = []

    @property
    def changed(self) -> list[LayerDiff]:
        """The layers in which anything differs."""
        return [each for each in self.layers if not each.same]


def find_difference(
    a: ModelSide,
    b: ModelSide,
    *,
    data: Path | None = None,
    split: Split = "val",
    seconds: float = 1.5,
    progress: Progress | None = None,
) -> ModelDifference:
    """Everything that differs between two models.

    Args:
        data: a folder of images that both are asked about, in the place of the held-out images of two runs.
        seconds: how long each is timed; 0 leaves latency out.

    Raises:
        BadInput: other classes than the images have; a file that its runtime cannot run.
        NotFound: no such folder.
    """
    tell = progress or (lambda _: None)
    specs = a.spec or b.spec, b.spec or a.spec
    left_out, layers = [], []
    if a.is_tflite and b.is_tflite:
        layers = compare_graphs(read_graph(a.files[0]), read_graph(b.files[0]))
    else:
        left_out.append("weights and quantization: they are read from .tflite files only")
    latency, decisions, pictures = None, None, ""
    if seconds <= 0:
        left_out.append("latency: was not asked for")
    elif specs[0] is None or specs[1] is None:
        left_out.append("latency: neither side tells the size of its images; name a run or a .tflite file on one")
    else:
        tell("measuring latency")
        latency = _latency(a, b, (specs[0], specs[1]), seconds)
    if data is not None and specs[0] is not None and specs[1] is not None:
        tell(f"asking both about {data}")
        dataset = open_dataset(data)
        decisions, pictures = _decide_on(dataset, (a, b), (specs[0], specs[1])), str(dataset.dir)
    elif a.run is not None and b.run is not None and data is None:
        tell(f"asking both about the {split} images")
        sides = Side(a.run, a.name), Side(b.run, b.name)
        decisions, pictures = compare_models(*sides, split=split, common=True), str(a.run.dataset().dir)
    else:
        left_out.append("accuracy and decisions: name a folder of images with --data, or two runs")
    return ModelDifference(
        a=a.title,
        b=b.title,
        sizes=(_size(a), _size(b)),
        layers=layers,
        latency=latency,
        decisions=decisions,
        pictures=pictures,
        left_out=left_out,
    )


def _size(side: ModelSide) -> Size:
    return size_of(side.files[0]) if side.is_tflite else Size(files=sum(path.stat().st_size for path in side.files))


def _latency(a: ModelSide, b: ModelSide, specs: tuple[InputSpec, InputSpec], seconds: float) -> tuple[Timed, Timed]:
    with ExitStack() as opened:
        models = {}
        for name, side, spec in zip("AB", (a, b), specs, strict=True):
            model = open_runtime(side.runtime, side.files[0], spec)
            opened.callback(model.close)
            models[name] = (model, spec)
        times = time_together(models, seconds=seconds)
    return times["A"], times["B"]


def _decide_on(dataset: Dataset, sides: tuple[ModelSide, ModelSide], specs: tuple[InputSpec, InputSpec]) -> Comparison:
    """Both models' answers to every image of a folder, whose classes are theirs in alphabetical order."""
    if dataset.marks is not None:
        raise BadInput(f"{dataset.dir}: images have several marks; two models of one class an image can be compared")
    rows, judged, logits = np.arange(len(dataset)), [], np.empty((0, 0), np.float32)
    for side, spec in zip(sides, specs, strict=True):
        names = dataset.names if side.run is None else [label.name for label in side.run.labels]
        if names != dataset.names:
            raise BadInput(f"{side.title} has the classes {', '.join(names)}, {dataset.dir} {', '.join(dataset.names)}")
        model = open_runtime(side.runtime, side.files[0], spec)
        try:
            logits = infer(model, load(dataset, spec, rows))
        finally:
            model.close()
        if logits.shape[1] != len(dataset.names):
            raise BadInput(
                f"{side.title} gives {logits.shape[1]} answers, {dataset.dir} has {len(dataset.names)} classes"
            )
        check_logits(logits, len(dataset.names), where=side.title)
        judged.append(_judged(dataset, logits))
    answers = collect(dataset, rows, logits, "")
    return compare_answers(answers, *judged, titles=(sides[0].title, sides[1].title), split="given")


def _judged(dataset: Dataset, logits: NDArray[np.float32]) -> Judged:
    """Probabilities are those of the softmax as it comes, for a file says nothing of a temperature; or the answers
    themselves where the file ends in a softmax."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    if logits.min() >= 0 and np.allclose(logits.sum(axis=1), 1, atol=0.02):
        powers = logits
    return Judged(
        logits=logits,
        probabilities=powers / powers.sum(axis=1, keepdims=True),
        labels=np.asarray(dataset.labels, np.int64),
        groups=dataset.groups,
        names=list(dataset.names),
        roles=["good" if role == "good" else "defect" for role in dataset.roles],
    )
