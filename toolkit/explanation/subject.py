"""What is explained: a quantized file with the float network that it stands for, and images to see it on."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converters.artifact import file_sha256, is_current
from converters.calibration import draw
from converters.console import held_back
from converters.keras_export import Export
from converters.layers import limits
from converters.mixed_graph import Floats, Mix, true_constants, write_mixed
from converters.network import open_network
from converters.shared.units import restore
from converters.tflite_file import Graph, read_graph
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from toolkit.artifacts import open_artifact
from toolkit.conversion import draw_rows
from toolkit.data.images import load, open_dataset
from toolkit.runs import Run

JUDGED = 200
SAME = 1e-3
_OWN = "the network of the file's own weights in float: their rounding is not seen"
Images = NDArray[np.uint8]


class Subject(NamedTuple):
    """The file (`given` by the user, `path` in the network's own units) and its graph, and the true constants.

    `compared` says what these are from; images (n, h, w, c) uint8 to measure the layers on are `probed`, those to judge
    fixes on `judged`, with the float network's answers `reference` to the latter and their `labels` (n,), None where
    the classes of the images are not those of the file.
    """

    given: Path
    path: Path
    graph: Graph
    floats: Floats
    compared: str
    spec: InputSpec
    probed: Images
    judged: Images
    reference: NDArray[np.float32]
    labels: NDArray[np.int64] | None
    export: Callable[[], Export] | None = None


def subject_of_run(run: Run, name: str, *, images: int) -> Subject:
    """An artifact of a run on its validation images, against the trained network in float.

    Raises:
        NotFound, ParityFailed: the artifact is not there or not that of the run.
        BadInput: it is no .tflite file, or there are no validation images.
    """
    artifact = open_artifact(run, name)
    if artifact.runtime != "litert" or artifact.precision != "int8":
        raise BadInput(f"{run.dir}: {name} cannot be explained; what can is an int8 .tflite file, litert-int8")
    given, spec, rows = artifact.files[0], run.record.input, run.rows("val")
    path = _in_own_units(given)
    labels = np.asarray(run.dataset().labels, np.int64)
    if not len(rows):
        raise BadInput(f"{run.dir}: no validation images, so there is nothing to see the layers on")
    judged = rows[draw(labels[rows], JUDGED)]
    pictures = load(run.dataset(), spec, judged)
    graph = read_graph(path)
    with tempfile.TemporaryDirectory() as folder:
        trained = _trained(run, graph, Path(folder))
        floats = true_constants(graph, read_graph(trained))
        reference = _answers(trained, spec, pictures)
        same = bool(floats) and _same(_twin_answers(path, floats, spec, pictures), reference)
    compared = "the trained network in float"
    if not same:
        floats, compared = (
            {},
            _OWN,
        )
    probed = _some(pictures, labels[judged], images)
    made = Subject(given, path, graph, floats, compared, spec, probed, pictures, reference, labels[judged])
    return made._replace(export=functools.cache(lambda: _export(run)))


def subject_of_file(path: Path, data: Path, *, images: int) -> Subject:
    """A .tflite file of whichever origin on the images of a folder, against the float network of its own weights.

    The bytes of an image are spread over the range of the file's input. Labels count where the folder has as many
    classes as the file has answers, and are then taken to be in alphabetical order.

    Raises:
        NotFound, BadInput: as for `read_graph` and `open_dataset`; or the input is no image.
    """
    given, path = path, _in_own_units(path)
    graph = read_graph(path)
    spec = spec_of(path, graph)
    dataset = open_dataset(data, join=False)
    rows = draw(dataset.labels, JUDGED)
    pictures = load(dataset, spec, rows)
    labels = dataset.labels[rows] if graph.tensors[graph.outputs[0]].shape[-1] == len(dataset.names) else None
    reference = _twin_answers(path, {}, spec, pictures)
    probed = _some(pictures, dataset.labels[rows], images)
    return Subject(given, path, graph, {}, _OWN, spec, probed, pictures, reference, labels)


def spec_of(path: Path, graph: Graph) -> InputSpec:
    """How a byte becomes the input of a file: its least value is byte 0, its greatest byte 255; -1 to 1 where floats
    are taken.

    Raises:
        BadInput: the input is not one image of one or three channels.
    """
    given = graph.tensors[graph.inputs[0]]
    shape = given.shape
    if len(graph.inputs) != 1 or len(shape) != 4 or shape[3] not in (1, 3) or min(shape[1:]) < 1:
        raise BadInput(f"{path}: its input must be one image (1, height, width, 1 or 3), got {shape}")
    low, high = limits(given) if given.quantized else (-1.0, 1.0)
    grey = {"channels": 1, "colour_order": "grey"} if shape[3] == 1 else {}
    return InputSpec(height=shape[1], width=shape[2], scale=(high - low) / 255, offset=low, **grey)  # type: ignore[arg-type]


def _in_own_units(path: Path) -> Path:
    """The file, or a copy of it for as long as the program runs whose scales are those of the network's own units."""
    folder = Path(tempfile.mkdtemp(prefix="lineside-explain-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    read_graph(path)
    copy = folder / path.name
    shutil.copyfile(path, copy)
    return copy if restore(copy) else path


def _trained(run: Run, stored: Graph, folder: Path) -> Path:
    """The float .tflite file of the network that `stored` is made of: the run's artifact, or written now where there is
    none, or where int8 is made of an identical form."""
    made = run.artifact_dir("litert-fp32")
    if is_current(made, file_sha256(run.model_path)):
        (path,) = open_artifact(run, "litert-fp32").files
        kinds = [{operator.kind for operator in graph.operators} for graph in (read_graph(path), stored)]
        if ("HARD_SWISH" in kinds[0]) == ("HARD_SWISH" in kinds[1]):
            return path
    from converters.tflite import float_twin

    nothing = np.empty((0, run.record.input.height, run.record.input.width, run.record.input.channels), np.uint8)
    with held_back():
        return float_twin(Export(run.model(), run.record.input, nothing, folder))


def _export(run: Run) -> Export:
    """The Keras model with the images that it was calibrated with, for fixes that convert anew."""
    spec, calibration = run.record.input, draw_rows(run).calibration
    return Export(run.model(), spec, load(run.dataset(), spec, calibration), Path(tempfile.gettempdir()))


def _twin_answers(path: Path, floats: Floats, spec: InputSpec, images: Images) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / "float.tflite"
        write_mixed(path, twin, Mix(), floats)
        return _answers(twin, spec, images)


def _answers(path: Path, spec: InputSpec, images: Images) -> NDArray[np.float32]:
    network = open_network(path, spec)
    return np.array([network.run(image) for image in images])


def _same(got: NDArray[np.float32], reference: NDArray[np.float32]) -> bool:
    return bool(np.abs(got - reference).max() <= SAME * max(float(reference.std()), 1e-12))


def _some(pictures: Images, labels: NDArray[np.int64], count: int) -> Images:
    return pictures[draw(labels, count)]
