"""A network of the user's own: `module:function`, called with (height, width, channels, classes)."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from toolkit.framework import load_keras, muted
from toolkit.models.answers import predict
from toolkit.models.architecture import Architecture

FORM = "it is called with (height, width, channels, classes) and returns a keras.Model from image to logits"
MEND = "it must end in logits: Dense(classes) without activation"
PROBES = 8


def with_source(architecture: Architecture) -> Architecture:
    """The architecture with the digest of the file that holds its function; that of a family is returned as it is.

    Raises:
        BadInput: the module cannot be imported, or has no such function.
    """
    if not architecture.own:
        return architecture
    function = import_function(architecture.family)
    path = inspect.getsourcefile(inspect.unwrap(function))
    if path is None or not Path(path).is_file():
        raise BadInput(f"{architecture.family}: its source file cannot be found, so the run could not record it")
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return msgspec.structs.replace(architecture, source_sha256=digest)


def import_function(name: str) -> Callable[..., Any]:
    """The function behind "module:function"; modules of the working directory are found too.

    Raises:
        BadInput: not of that form, the module cannot be imported, there is no such function, or it takes other
            arguments.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name.isidentifier():
        raise BadInput(f"model: must be MODULE:FUNCTION, such as my_nets:small, got {name!r}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it may be the first to import TensorFlow
    with _working_directory(), _their_faults(name, "importing it"), muted():
        module = importlib.import_module(module_name)
    function: Callable[..., Any] | None = getattr(module, function_name, None)
    if not callable(function):
        raise BadInput(f"{name}: {module_name} has no function {function_name}; {FORM}")
    try:
        inspect.signature(function).bind(32, 32, 3, 2)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name}: {error}; {FORM}") from error
    return function


def make_own(architecture: Architecture, classes: int) -> tuple[Any, list[NDArray[np.float32]]]:
    """The user's network without its last layer, ending in the layer "pooled", and kernel and bias of that last layer.

    Raises:
        BadInput: it cannot be made, has other ends, answers with probabilities or with what is not finite, or could not
            be loaded again.
    """
    name, spec = architecture.family, architecture.input_spec()
    function = import_function(name)
    if architecture.source_sha256 not in ("", with_source(architecture).source_sha256):
        raise BadInput(f"{name}: its source file was changed since the recipe was made; start again")
    with _working_directory(), _their_faults(name, "calling it"):
        model = function(spec.height, spec.width, spec.channels, classes)
    _check_ends(model, name, (spec.height, spec.width, spec.channels), classes)
    _check_answers(model, name, spec)
    last = _last_layer(model, name)
    _check_loading(model, name)
    keras, features = load_keras(), last.input
    if features._keras_history.operation.name != "pooled":
        features = keras.layers.Identity(name="pooled")(features)
    kernel, *bias = last.get_weights()
    return keras.Model(model.inputs[0], features), [kernel, *(bias or [np.zeros(classes, np.float32)])]


def _check_ends(model: Any, name: str, image: tuple[int, int, int], classes: int) -> None:
    if not isinstance(model, load_keras().Model):
        raise BadInput(f"{name}: returned {type(model).__name__}; {FORM}")
    if not getattr(model, "inputs", None):
        raise BadInput(
            f"{name}: returned a {type(model).__name__} without inputs; it must be a functional or sequential model "
            "that begins with keras.Input, so that it can be taken apart and converted"
        )
    if len(model.inputs) != 1 or tuple(model.inputs[0].shape) != (None, *image):
        raise BadInput(f"{name}: takes {_shapes(model.inputs)}; it must take one image {_shape((None, *image))}")
    if len(model.outputs) != 1 or tuple(model.outputs[0].shape) != (None, classes):
        raise BadInput(f"{name}: gives {_shapes(model.outputs)}; it must give logits {_shape((None, classes))}")


def _check_answers(model: Any, name: str, spec: InputSpec) -> None:
    images = np.random.default_rng(0).integers(0, 256, (PROBES, spec.height, spec.width, spec.channels), np.uint8)
    with _their_faults(name, "running it"):
        logits = predict(model, images, spec)
    if not np.isfinite(logits).all():
        raise BadInput(f"{name}: answers with what is not finite to images in [-1, 1]")
    if (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        raise BadInput(f"{name}: ends in a softmax; {MEND}")


def _last_layer(model: Any, name: str) -> Any:
    """The dense layer that gives the logits."""
    layers, last = load_keras().layers, model.outputs[0]._keras_history.operation
    activation = getattr(getattr(last, "activation", None), "__name__", "linear")
    if activation != "linear":
        raise BadInput(f"{name}: ends in a {activation}; {MEND}")
    if type(last) is not layers.Dense or len(last.input.shape) != 2:
        raise BadInput(
            f"{name}: ends in {type(last).__name__} {last.name!r}; its last layer must be Dense(classes) on features "
            "(n, k), which the probe and distillation read"
        )
    return last


def _check_loading(model: Any, name: str) -> None:
    """Refuse what a run could not load again, before hours are spent on it."""
    keras = load_keras()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
            keras.models.load_model(path, compile=False)
        except (ValueError, TypeError, NotImplementedError, AttributeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0][:160]
            raise BadInput(
                f"{name}: could not be loaded again from a file ({reason}); layers of one's own need "
                "@keras.saving.register_keras_serializable() and get_config, and a Lambda must become a layer"
            ) from error


@contextmanager
def _working_directory() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


@contextmanager
def _their_faults(name: str, doing: str) -> Iterator[None]:
    """What the user's code raises, as one sentence with the line where it happened."""
    try:
        yield
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
        raise BadInput(f"{name}: {doing} raised {type(error).__name__}: {reason} ({where})") from error


def _shape(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('n' if side is None else str(side) for side in shape)})"


def _shapes(tensors: list[Any]) -> str:
    return " and ".join(_shape(tuple(tensor.shape)) for tensor in tensors)
