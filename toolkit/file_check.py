"""A model file from elsewhere, tried out: does it open, does it answer, and are its answers right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.model_file import Ending, ModelFile, likely_values, read_model_file
from device_agent import preprocess
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.frames.folder import Item, list_images
from device_agent.frames.picture import read_picture
from device_agent.runtimes import logits, open_runtime
from toolkit.evaluation.intervals import Interval, share_interval
from toolkit.paths import reading

DRAWN = 16
MOST = 1000
Values = tuple[float, float]


class FileCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on `images` of `there` pictures with the runtime of that version; `drawn` ones where no folder
    was named.

    `input` is how they became its input and `input_known` how that is known. `spread` is the mean standard deviation of
    an output over the pictures, `row_sums` the smallest and largest sum of an answer, `predicted` how many classes were
    predicted at all. With labels: `accuracy` in [0, 1], its 95 % interval, and the share of the largest class.
    `failures` is empty for a pass; `notes` say what to know before it is used.
    """

    model: ModelFile
    runtime_version: str
    input: InputSpec
    input_known: str
    images: int
    there: int
    drawn: bool
    ends_in: Ending
    spread: float
    row_sums: tuple[float, float]
    predicted: int
    accuracy: float | None = None
    accuracy_interval: Interval | None = None
    largest_class: float | None = None
    failures: list[str] = []
    notes: list[str] = []

    @property
    def passed(self) -> bool:
        """Whether a device can use it."""
        return not self.failures


def check_file(
    path: Path,
    data: Path | None = None,
    *,
    labels: Sequence[str] | None = None,
    values: Values | None = None,
    bgr: bool = False,
) -> FileCheck:
    """Run a .tflite, .onnx or OpenVINO file through the device's own preprocessing and runtime.

    Args:
        data: a folder of pictures, or of one folder a class, or with a manifest.csv; of more than 1,000 pictures 1,000
            are taken, evenly. Without it, 16 pictures are drawn.
        labels: names of the classes in the order of the outputs; by default the folder's in alphabetical order.
        values: what 0 and 255 become at the input; by default what the file tells.
        bgr: colours in the order blue, green, red.

    Raises:
        NotFound: no such file or folder.
        BadInput: no classifier of one image, another number of classes than the folder has or than `labels` names, or a
            picture that cannot be decoded.
        MissingPackage: its runtime is not installed.
    """
    model = read_model_file(path)
    spec = model.input_spec(values, bgr=bgr)
    listed = list_images(data) if data is not None else []
    items = listed if len(listed) <= MOST else [listed[number * len(listed) // MOST] for number in range(MOST)]
    truth = _truth(model, items, data, labels) if data is not None else None
    pictures = (read_picture(item.path) for item in items) if items else iter(draw_pictures(spec))
    runtime = open_runtime(model.runtime, path, spec)
    try:
        answers = np.array([logits(runtime, preprocess.fit(picture, spec)) for picture in pictures], np.float64)
    finally:
        runtime.close()
    known = "given" if values else likely_values(model.values)[1]
    found = FileCheck(
        model=model,
        runtime_version=runtime.version,
        input=spec,
        input_known=known,
        images=len(answers),
        there=len(listed) or len(answers),
        drawn=data is None,
        ends_in=model.ending,
        spread=_finite(answers.std(axis=0).mean()),
        row_sums=(_finite(answers.sum(axis=1).min()), _finite(answers.sum(axis=1).max())),
        predicted=len(np.unique(answers.argmax(axis=1))),
    )
    if truth is not None:
        right = answers.argmax(axis=1) == truth
        found = msgspec.structs.replace(
            found,
            accuracy=float(right.mean()),
            accuracy_interval=share_interval(right, np.arange(len(right))),
            largest_class=float(np.bincount(truth).max() / len(truth)),
        )
    return msgspec.structs.replace(found, failures=_failures(found, answers), notes=_notes(found))


def draw_pictures(spec: InputSpec, count: int = DRAWN) -> list[NDArray[np.uint8]]:
    """Pictures (height, width, 3) uint8 that differ in light, colour, edges and noise, the same ones every time."""
    rng, size = np.random.default_rng(0), (spec.height, spec.width)
    y, x = np.mgrid[: size[0], : size[1]]
    pictures = []
    for number in range(count):
        wave = np.sin(x * rng.uniform(0.02, 0.5) + y * rng.uniform(0, 0.5)) * rng.uniform(0, 90)
        block = np.zeros(size)
        block[: size[0] * number // count] = rng.uniform(-90, 90)
        picture = rng.uniform(0, 255, 3) + (wave + block)[:, :, None] + rng.normal(0, rng.uniform(0, 40), (*size, 3))
        pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
    return pictures


def read_labels(path: Path) -> list[str]:
    """The names in a file, one a line, in the order of the model's outputs.

    Raises:
        BadInput: it cannot be read, or names a class twice.
    """
    with reading(path):
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise BadInput(f"{path}: must be names of classes in UTF-8, one a line") from None
    names = [line.strip() for line in lines if line.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"{path}: names {twice[0]!r} twice")
    return names


def _truth(model: ModelFile, items: list[Item], data: Path, labels: Sequence[str] | None) -> NDArray[np.int64] | None:
    """The class of each picture by the number of its output; None for pictures without a class.

    Raises:
        BadInput: other classes than the model's, in number or by name.
    """
    there = sorted({item.label for item in items if item.label})
    if labels is not None and len(labels) != model.classes:
        raise BadInput(f"{model.path}: gives {model.classes} classes, the labels name {len(labels)}")
    if not there and labels is None:
        return None
    if any(not item.label for item in items):
        raise BadInput(f"{data}: some of the pictures are in no class; one folder a class, or a manifest.csv")
    if labels is None and len(there) != model.classes:
        raise BadInput(
            f"{model.path}: gives {model.classes} classes, {data} has {len(there)} ({_first(there)}); name the data "
            "that it was trained on, or its classes in the order of its outputs with --labels FILE"
        )
    names = there if labels is None else list(labels)
    unknown = [name for name in there if name not in names]
    if unknown:
        raise BadInput(f"{data}: has the class {unknown[0]!r}, the labels have {_first(names)}")
    return np.array([names.index(item.label) for item in items], np.int64)


def _failures(found: FileCheck, answers: NDArray[np.float64]) -> list[str]:
    if not np.isfinite(answers).all():
        return ["the outputs are not finite; its weights are damaged, or --range names values that it does not take"]
    if found.images > 1 and found.spread < 1e-6:
        return [f"the outputs are the same for all {found.images} pictures; it is not trained, or --range is wrong"]
    return []


def _notes(found: FileCheck) -> list[str]:
    notes = []
    if found.ends_in != "logits":
        notes.append(f"ends in a {found.ends_in}, not in logits, so its confidence cannot be calibrated as they can be")
    if found.input_known.startswith("assumed"):
        notes.append(f"input range {_range(found.input)} {found.input_known}; --range LOW HIGH names another")
    if found.accuracy is None:
        where = "drawn pictures" if found.drawn else "pictures without classes"
        notes.append(f"only {where} were shown, so nothing says that its answers are right; --data FOLDER does")
    elif (found.accuracy_interval or (0.0, 1.0))[0] <= (found.largest_class or 0.0):
        notes.append(
            f"no better than to name the largest class always ({found.largest_class:.1%}): order of the classes "
            "(--labels), input range (--range) or colours (--bgr) may be others"
        )
    if found.predicted == 1 and not found.drawn:
        notes.append(f"one class was predicted for all {found.images} pictures")
    return notes


def _range(spec: InputSpec) -> str:
    return f"{spec.offset:.3g} to {spec.offset + 255 * spec.scale:.3g}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _finite(value: np.floating) -> float:
    return float(value) if np.isfinite(value) else float(np.finfo(np.float64).max)
