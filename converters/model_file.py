"""A model file from elsewhere: what it takes and gives, and clear words where no device can run it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from converters.parity import Precision
from converters.tflite_file import Graph, Tensor, read_graph
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.manifest import InputSpec
from device_agent.contract.optional import require
from device_agent.runtimes.shape import first_line, require_file
from device_agent.runtimes.silence import require_silent

Ending = Literal["logits", "softmax", "sigmoid"]
SUFFIXES = {".tflite": "litert", ".onnx": "onnx", ".xml": "openvino"}
_KERAS = {".h5", ".hdf5", ".keras"}
_ELSEWHERE = {
    ".pb": "export it with TFLiteConverter.from_saved_model",
    ".pt": "export it with torch.onnx.export",
    ".pth": "export it with torch.onnx.export",
    ".bin": "name the .xml beside it",
    ".lineside": "a bundle goes with --certificate DIR, or into lineside inspect",
}
_ENDINGS: dict[str, Ending] = {"softmax": "softmax", "sigmoid": "sigmoid", "logistic": "sigmoid"}
USUAL = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-128.0, 127.0))
"""What 0 and 255 usually become."""
_PASSING = {"reshape", "quantize", "dequantize", "quantizelinear", "dequantizelinear", "squeeze", "flatten", "convert"}
_PASSING |= {"result", "fakequantize", "identity", "cast"}


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A classifier's file: which runtime opens it, how large its input is, and what its outputs are.

    `values` are the lowest and highest real input value that it can take where it is quantized from its input on, else
    None. `ending` is what the graph ends in.
    """

    path: str
    runtime: str
    precision: Precision
    height: int
    width: int
    channels: Literal[1, 3]
    classes: int
    dtype: str
    ending: Ending
    values: tuple[float, float] | None = None

    def input_spec(self, values: tuple[float, float] | None = None, *, bgr: bool = False) -> InputSpec:
        """How a frame becomes its input; `values` are what 0 and 255 become, by default what `likely_values` says."""
        low, high = values or likely_values(self.values)[0]
        return InputSpec(
            height=self.height,
            width=self.width,
            channels=self.channels,
            colour_order="grey" if self.channels == 1 else "bgr" if bgr else "rgb",
            scale=(high - low) / 255,
            offset=low,
        )


def likely_values(taken: tuple[float, float] | None) -> tuple[tuple[float, float], str]:
    """What 0 and 255 become, and how that is known, for a model whose quantized input can take values in `taken`.

    A range near a usual one is exact: byte for byte. Another one is what its calibration images happened to span.

    >>> likely_values((-1.0, 0.9921875))
    ((-1.0, 0.9921875), "read from the file's quantization")
    >>> likely_values((-0.9, 0.8))
    ((-1.0, 1.0), 'assumed: its quantization spans -0.9 to 0.8')
    >>> likely_values(None)
    ((-1.0, 1.0), 'assumed: the file does not say it')
    """
    if taken is None:
        return (-1.0, 1.0), "assumed: the file does not say it"
    for low, high in USUAL:
        margin = 0.02 * (high - low)
        if abs(taken[0] - low) <= margin and abs(taken[1] - high) <= margin:
            return taken, "read from the file's quantization"
    spans = f"assumed: its quantization spans {taken[0]:.3g} to {taken[1]:.3g}"
    fits = (usual for usual in USUAL if usual[0] - 0.02 <= taken[0] and taken[1] <= usual[1] + 0.02)
    return next(fits, (-1.0, 1.0)), spans


class _Found(NamedTuple):
    """What a format's reader found: shapes with -1 or a name where a dimension is not fixed."""

    inputs: dict[str, Sequence[Any]]
    outputs: dict[str, Sequence[Any]]
    kinds: list[str]
    precision: Precision
    dtype: str = "float32"
    values: tuple[float, float] | None = None


def read_model_file(path: Path) -> ModelFile:
    """What the .tflite, .onnx or OpenVINO .xml file at `path` takes and gives; it is not run.

    Raises:
        NotFound: no such file.
        BadInput: another kind of file, a damaged one, or one that is no classifier of one fixed-size image.
        MissingPackage: the package that reads the format is not installed.
    """
    if path.suffix.lower() in _KERAS:
        require_file(path)
        raise BadInput(
            f"{path}: is a Keras file, which no device runs; train from its weights with: lineside train DATA "
            f"--out RUN --weights {path}, then lineside convert RUN --all"
        )
    runtime = SUFFIXES.get(path.suffix.lower())
    if runtime is None:
        way = _ELSEWHERE.get(path.suffix.lower())
        raise BadInput(f"{path}: must be a .tflite, .onnx or OpenVINO .xml file" + (f"; {way}" if way else ""))
    require_file(path)
    found = {"litert": _read_tflite, "onnx": _read_onnx, "openvino": _read_openvino}[runtime](path)
    height, width, channels = _image(path, runtime, found.inputs)
    return ModelFile(
        path=str(path),
        runtime=runtime,
        precision=found.precision,
        height=height,
        width=width,
        channels=channels,
        classes=_classes(path, found.outputs),
        dtype=found.dtype,
        ending=_ending(found.kinds),
        values=found.values,
    )


def _read_tflite(path: Path) -> _Found:
    graph = read_graph(path)
    for operator in graph.operators:
        if operator.kind == "edgetpu-custom-op":
            raise BadInput(
                f"{path}: was compiled for the Edge TPU and runs only there; name the .tflite file that the compiler "
                "was given"
            )
        if operator.custom:
            flex = operator.kind.startswith("Flex")
            way = "convert with TFLITE_BUILTINS alone" if flex else "replace the layer that needs it"
            raise BadInput(f"{path}: has the operator {operator.kind}, which LiteRT does not bring; {way}")
    for operator in graph.operators:
        for number in operator.inputs:
            if number >= 0:
                _check_finite(path, graph.tensors[number])
    first, last = ([graph.tensors[number] for number in numbers] for numbers in (graph.inputs, graph.outputs))
    values = None
    if len(first) == 1 and first[0].quantized and first[0].dtype in ("int8", "uint8"):
        limits, scale, zero = np.iinfo(first[0].dtype), float(first[0].scale[0]), int(first[0].zero_point[0])
        values = ((limits.min - zero) * scale, (limits.max - zero) * scale)
    return _Found(
        {each.name: _one_image(each.shape) for each in first},
        {each.name: _one_image(each.shape) for each in last},
        [operator.kind for operator in graph.operators],
        _tflite_precision(graph),
        first[0].dtype if first else "",
        values,
    )


def _one_image(shape: Sequence[int]) -> Sequence[int]:
    """LiteRT allocates a batch that is not fixed as 1."""
    return (1, *shape[1:]) if shape and shape[0] == -1 else shape


def _tflite_precision(graph: Graph) -> Precision:
    used = [graph.tensors[number] for each in graph.operators for number in each.inputs if number >= 0]
    if any(each.data is None and each.quantized and each.dtype in ("int8", "uint8") for each in used):
        return "int8"
    return "fp16" if any(each.data is not None and each.dtype == "float16" for each in used) else "fp32"


def _check_finite(path: Path, tensor: Tensor) -> None:
    if tensor.data is not None and tensor.data.dtype.kind == "f" and not np.isfinite(tensor.data).all():
        raise BadInput(f"{path}: weights {tensor.name!r} are not finite; the training diverged or the file is damaged")


def _read_onnx(path: Path) -> _Found:
    onnx = require("onnx", extra="toolkit")
    try:
        model = onnx.load(str(path))
        constants = [(each.name, onnx.numpy_helper.to_array(each)) for each in model.graph.initializer]
    except Exception as error:  # protobuf's and onnx's own kinds are of no common base
        raise BadInput(f"{path}: cannot be read as an ONNX file: {first_line(error)}") from error
    for name, value in constants:
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise BadInput(f"{path}: weights {name!r} are not finite; the training diverged or the file is damaged")
    held = {name for name, _ in constants}
    inputs = [each for each in model.graph.input if each.name not in held]
    kinds = [node.op_type for node in model.graph.node]
    whole = any("Integer" in kind or kind == "QuantizeLinear" for kind in kinds)
    halves = any(value.dtype == np.float16 for _, value in constants)
    return _Found(
        {each.name: _onnx_shape(each) for each in inputs},
        {each.name: _onnx_shape(each) for each in model.graph.output},
        kinds,
        "int8" if whole else "fp16" if halves else "fp32",
    )


def _onnx_shape(value: Any) -> list[Any]:
    sizes = value.type.tensor_type.shape.dim
    return [each.dim_value if each.HasField("dim_value") else each.dim_param or -1 for each in sizes]


def _read_openvino(path: Path) -> _Found:
    ov = require_silent("openvino", extra="agent-openvino")
    if not path.read_bytes()[:64].lstrip().startswith((b"<?xml", b"<net")):
        raise BadInput(f"{path}: is not an .xml file of OpenVINO's own format")
    if not path.with_suffix(".bin").exists():
        raise NotFound(f"{path.with_suffix('.bin')}: no such file; the weights must lie beside {path.name}")
    try:
        model = ov.Core().read_model(str(path))
    except RuntimeError as error:
        raise BadInput(f"{path}: OpenVINO cannot read it: {first_line(error)}") from error

    def shapes(ports: Iterable[Any]) -> dict[str, Sequence[Any]]:
        named = [(port.any_name if port.names else f"port {number}", port) for number, port in enumerate(ports)]
        return {name: [d.get_length() if d.is_static else -1 for d in port.partial_shape] for name, port in named}

    operators = model.get_ordered_ops()
    kinds = [each.get_type_name() for each in operators]
    constants = [each.get_element_type() for each in operators if each.get_type_name() == "Constant"]
    halves = ov.Type.f16 in constants
    return _Found(
        shapes(model.inputs),
        shapes(model.outputs),
        [kind for kind in kinds if kind not in ("Constant", "Parameter")],
        "int8" if "FakeQuantize" in kinds else "fp16" if halves else "fp32",
    )


def _image(path: Path, runtime: str, inputs: dict[str, Sequence[Any]]) -> tuple[int, int, Literal[1, 3]]:
    """Height, width and channels of the one image that it takes."""
    if len(inputs) != 1:
        raise BadInput(f"{path}: takes {len(inputs)} inputs ({', '.join(inputs)}); it must take one image")
    (name, shape), ways = next(iter(inputs.items())), _FIXING[runtime]
    if len(shape) == 4 and any(not isinstance(size, int | np.integer) or size < 1 for size in shape):
        raise BadInput(f"{path}: input {name!r} is {_words(shape)}, not of a fixed size; {ways}")
    sizes = [int(size) for size in shape if isinstance(size, int | np.integer)]
    if len(shape) == 4 and sizes[0] == 1:
        for channels, height, width in ((sizes[3], *sizes[1:3]), (sizes[1], *sizes[2:])):
            if channels in (1, 3):
                return height, width, 3 if channels == 3 else 1
    raise BadInput(f"{path}: input {name!r} is {_words(shape)}; it must be one image of 1 or 3 channels")


_FIXING = {
    "litert": "convert it again from a model whose input has a fixed height and width",
    "onnx": "fix it with: python -m onnxruntime.tools.make_dynamic_shape_fixed --input_name NAME --input_shape 1,3,H,W",
    "openvino": "fix it with: openvino.convert_model(..., input=[1, H, W, 3])",
}


def _classes(path: Path, outputs: dict[str, Sequence[Any]]) -> int:
    shapes = list(outputs.values())
    batch, classes = shapes[0] if len(shapes) == 1 and len(shapes[0]) == 2 else (0, 0)
    if batch == 1 and isinstance(classes, int | np.integer) and classes >= 2:
        return int(classes)
    said = ", ".join(f"{name} {_words(shape)}" for name, shape in outputs.items()) or "none"
    raise BadInput(f"{path}: gives {said}; it must be a classifier with one output (1, classes) of 2 classes or more")


def _ending(kinds: list[str]) -> Ending:
    last = next((kind.lower() for kind in reversed(kinds) if kind.lower().replace("_", "") not in _PASSING), "")
    return _ENDINGS.get(last.replace("_", ""), "logits")


def _words(shape: Sequence[Any]) -> str:
    return f"({', '.join(str(each) for each in shape)})"
