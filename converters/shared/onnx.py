"""An int8 .tflite file as ONNX: the same integers and scales, operator by operator, channels first.

ONNX Runtime computes in integers only where every operator stands between DequantizeLinear and QuantizeLinear, with
activations that are unsigned (with signed ones it took 1.5 times as long): 128 is added to each activation's zero
point, weights stay as they are. A clip that the next quantization implies is left out, since it would break the
pattern. Bias and weights are the file's own integers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.shared.graph import Unsupported, check_mean, check_quantized, clip_of, image_range, padding_of, spread
from converters.tflite_file import Graph, Operator, Tensor, read_graph
from device_agent.contract.manifest import InputSpec
from device_agent.contract.optional import require

OPSET = 17


def translate(source: Path, spec: InputSpec) -> Any:
    """The int8 file `source` as an ONNX model: "image" float32 (1, c, h, w) to "logits" float32 (1, classes).
    `spec` says what images are.

    Raises:
        Unsupported: an operator or a shape that this translation has not; not quantized throughout.
    """
    return _Translation(read_graph(source)).model(require("onnx", extra="toolkit"), spec)


class _Translation:
    """The nodes and constants of the ONNX graph, while they are made."""

    def __init__(self, graph: Graph) -> None:
        check_quantized(graph)
        self.graph = graph
        self.nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def model(self, onnx: Any, spec: InputSpec) -> Any:
        """The ONNX model."""
        helper, graph = onnx.helper, self.graph
        first, last = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
        self._take_image(spec)
        for operator in graph.operators:
            write = _WRITERS.get(operator.kind)
            if write is None:
                raise Unsupported(f"the shared scheme has no {operator.kind}")
            write(self, operator)
        self._node("DequantizeLinear", [self.name(graph.outputs[0]), *self._scale(last)], "logits")
        n, h, w, c = first.shape
        value = helper.make_tensor_value_info
        made = helper.make_graph(
            [helper.make_node(kind, ins, outs, name=f"{kind}{number}", **more)
             for number, (kind, ins, outs, more) in enumerate(self.nodes)],
            "lineside",
            [value("image", onnx.TensorProto.FLOAT, [n, c, h, w])],
            [value("logits", onnx.TensorProto.FLOAT, list(last.shape))],
            [onnx.numpy_helper.from_array(data, name) for name, data in self.constants.items()],
        )  # fmt: skip
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="lineside")
        model.ir_version = 8
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise Unsupported(f"ONNX has no such graph: {str(error).strip().splitlines()[0].lower()}") from error
        return model

    def _take_image(self, spec: InputSpec) -> None:
        """The integers of the image. Where a code is worth something else to the layers that follow, the image is
        shifted so that zero has a code, and rounded by a scale of its own."""
        number = self.graph.inputs[0]
        tensor = self.graph.tensors[number]
        low, high = image_range(self.graph, spec)
        step, zero_point = (high - low) / 255, int(tensor.zero_point[0]) + 128
        if np.isclose(step, tensor.scale[0], rtol=1e-6):
            self._quantize("image", number)
            return
        shift = self.constant("image-shift", np.asarray(low + step * zero_point, np.float32))
        scale = self.shared(np.asarray(step, np.float32))
        self._node("Sub", ["image", shift], "shifted")
        self._node("QuantizeLinear", ["shifted", scale, self._scale(tensor)[1]], self.name(number))

    def name(self, tensor: int) -> str:
        """Of the integers of a tensor."""
        return f"t{tensor}"

    def constant(self, name: str, data: NDArray[Any]) -> str:
        """The name, after noting the constant."""
        self.constants[name] = data
        return name

    def _scale(self, tensor: Tensor) -> list[str]:
        """Names of the scale and zero point of a tensor of activations."""
        one = tensor.scale.size == 1
        scale = np.asarray(tensor.scale[0] if one else tensor.scale, np.float32)
        point = np.asarray((tensor.zero_point[0] if one else tensor.zero_point) + 128).astype(np.uint8)
        return [self.shared(scale), self.shared(point)]

    def shared(self, data: NDArray[Any]) -> str:
        """The name of a small constant, the same for equal ones."""
        key = (data.dtype.name, data.shape, data.tobytes())
        return self.constant(self._names.setdefault(key, f"k{len(self._names)}"), data)

    def _node(self, kind: str, inputs: list[str], output: str, **more: Any) -> str:
        self.nodes.append((kind, inputs, [output], more))
        return output

    def _quantize(self, value: str, number: int) -> None:
        self._node("QuantizeLinear", [value, *self._scale(self.graph.tensors[number])], self.name(number))

    def real(self, number: int, rank: int = 0) -> str:
        """Name of the dequantized tensor; each reader gets a dequantization of its own, as the pattern wants it. `rank`
        is that of the operator's output, to which the tensor is spread along the channels."""
        tensor = self.graph.tensors[number]
        sides = spread(tensor.shape, rank or len(tensor.shape))
        if tensor.data is not None:
            data = tensor.data.transpose(0, 3, 1, 2) if tensor.data.ndim == 4 else tensor.data.reshape(sides)
            integers = self.constant(f"c{number}-{rank}", (data.astype(np.int16) + 128).astype(np.uint8))
        elif sides == tensor.shape:
            integers = self.name(number)
        else:
            shape = self.constant("shape-" + "-".join(map(str, sides)), np.asarray(sides, np.int64))
            integers = self._node("Reshape", [self.name(number), shape], f"s{number}-{len(self.nodes)}")
        return self._node("DequantizeLinear", [integers, *self._scale(tensor)], f"r{number}-{len(self.nodes)}")

    def weights(self, number: int, order: tuple[int, ...]) -> str:
        """Name of the dequantized weights, their axes in this order, a scale each of the first."""
        tensor = self.graph.tensors[number]
        if tensor.data is None:
            raise Unsupported(f"weights {tensor.name!r} are not constant")
        name = self.constant(f"w{number}", np.ascontiguousarray(tensor.data.transpose(order)))
        axis = {} if tensor.scale.size == 1 else {"axis": 0}
        scale = np.asarray(tensor.scale if axis else tensor.scale[0], np.float32)
        # zeros of its own: without VNNI onnxruntime writes them anew, kernel by kernel
        zeros = self.constant(f"w{number}-zero", np.zeros(scale.shape, np.int8))
        names = [name, self.shared(scale), zeros]
        return self._node("DequantizeLinear", names, f"w{number}-{len(self.nodes)}", **axis)

    def bias(self, operator: Operator) -> list[str]:
        """Name of the dequantized bias, if the operator has one."""
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return []
        number = operator.inputs[2]
        tensor = self.graph.tensors[number]
        assert tensor.data is not None
        name = self.constant(f"b{number}", tensor.data)
        scale = tensor.scale if tensor.scale.size > 1 else tensor.scale[0]
        names = [name, self.constant(f"b{number}-scale", np.asarray(scale, np.float32))]
        axis = {} if tensor.scale.size == 1 else {"axis": 0}
        return [self._node("DequantizeLinear", names, f"b{number}-{len(self.nodes)}", **axis)]

    def finish(self, operator: Operator, value: str) -> None:
        """Clip where the integers do not, and quantize the operator's output."""
        number = operator.outputs[0]
        bounds = clip_of(operator, self.graph.tensors[number])
        if bounds is not None:
            low, high = (np.float32(each) for each in bounds)
            names = [value, self.constant(f"low{low}", np.asarray(low)), self.constant(f"high{high}", np.asarray(high))]
            value = self._node("Clip", names, f"{value}-clip")
        self._quantize(value, number)

    def convolution(self, operator: Operator) -> None:
        """CONV_2D and DEPTHWISE_CONV_2D."""
        x, w = (self.graph.tensors[number] for number in operator.inputs[:2])
        deep = operator.kind == "DEPTHWISE_CONV_2D"
        options, channels = operator.options, x.shape[3]
        kernel = (w.shape[1], w.shape[2])
        order = (3, 0, 1, 2) if deep else (0, 3, 1, 2)
        inputs = [self.real(operator.inputs[0]), self.weights(operator.inputs[1], order), *self.bias(operator)]
        value = self._node(
            "Conv",
            inputs,
            f"y{operator.outputs[0]}",
            kernel_shape=list(kernel),
            strides=[options["strideH"], options["strideW"]],
            dilations=[options["dilationHFactor"], options["dilationWFactor"]],
            pads=padding_of(operator, x.shape, kernel),
            group=channels if deep else channels // w.shape[3],
        )
        self.finish(operator, value)

    def dense(self, operator: Operator) -> None:
        """FULLY_CONNECTED on rows."""
        x = self.graph.tensors[operator.inputs[0]]
        if len(x.shape) != 2:
            raise Unsupported(f"the shared scheme has FULLY_CONNECTED on rows only, not on {x.shape}")
        inputs = [self.real(operator.inputs[0]), self.weights(operator.inputs[1], (0, 1)), *self.bias(operator)]
        self.finish(operator, self._node("Gemm", inputs, f"y{operator.outputs[0]}", transB=1))

    def elementwise(self, operator: Operator) -> None:
        """ADD, SUB, MUL of two tensors, with broadcasting."""
        kind = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}[operator.kind]
        rank = len(self.graph.tensors[operator.outputs[0]].shape)
        values = [self.real(number, rank) for number in operator.inputs]
        self.finish(operator, self._node(kind, values, f"y{operator.outputs[0]}"))

    def sigmoid(self, operator: Operator) -> None:
        """LOGISTIC."""
        self.finish(operator, self._node("Sigmoid", [self.real(operator.inputs[0])], f"y{operator.outputs[0]}"))

    def mean(self, operator: Operator) -> None:
        """MEAN over the positions."""
        check_mean(self.graph, operator)
        value = self._node("GlobalAveragePool", [self.real(operator.inputs[0])], f"y{operator.outputs[0]}")
        out = self.graph.tensors[operator.outputs[0]]
        if len(out.shape) == 4:
            self.finish(operator, value)
            return
        pooled = f"p{operator.outputs[0]}"
        self._node("QuantizeLinear", [value, *self._scale(out)], pooled)
        self._flat(pooled, operator.outputs[0])

    def reshape(self, operator: Operator) -> None:
        """RESHAPE and SQUEEZE that only drop or add sides of 1."""
        ends = (self.graph.tensors[number].shape for number in (operator.inputs[0], operator.outputs[0]))
        if any(np.prod(shape) != max(shape) for shape in ends):
            raise Unsupported("the shared scheme can reshape rows only")
        self._flat(self.name(operator.inputs[0]), operator.outputs[0])

    def _flat(self, name: str, number: int) -> None:
        shape = self.graph.tensors[number].shape
        if len(shape) == 4:
            shape = (shape[0], shape[3], shape[1], shape[2])
        sides = self.constant("shape-" + "-".join(map(str, shape)), np.asarray(shape, np.int64))
        self._node("Reshape", [name, sides], self.name(number))

    def pool(self, operator: Operator) -> None:
        """MAX_POOL_2D and AVERAGE_POOL_2D."""
        x = self.graph.tensors[operator.inputs[0]]
        kernel = (operator.options["filterHeight"], operator.options["filterWidth"])
        kind = {"MAX_POOL_2D": "MaxPool", "AVERAGE_POOL_2D": "AveragePool"}[operator.kind]
        value = self._node(
            kind,
            [self.real(operator.inputs[0])],
            f"y{operator.outputs[0]}",
            kernel_shape=list(kernel),
            strides=[operator.options["strideH"], operator.options["strideW"]],
            pads=padding_of(operator, x.shape, kernel),
        )
        self.finish(operator, value)

    def pad(self, operator: Operator) -> None:
        """PAD with zeros."""
        x, amounts = (self.graph.tensors[number] for number in operator.inputs[:2])
        if amounts.data is None or len(x.shape) != 4:
            raise Unsupported("the shared scheme has PAD by constant amounts on maps only")
        before, after = amounts.data[[0, 3, 1, 2]].T
        pads = self.constant(f"pads{operator.inputs[1]}", np.concatenate([before, after]).astype(np.int64))
        zero = self.constant(f"fill{operator.outputs[0]}", np.asarray(x.zero_point[0] + 128).astype(np.uint8))
        self._node("Pad", [self.name(operator.inputs[0]), pads, zero], self.name(operator.outputs[0]))


_WRITERS: dict[str, Callable[[_Translation, Operator], None]] = {
    "CONV_2D": _Translation.convolution,
    "DEPTHWISE_CONV_2D": _Translation.convolution,
    "FULLY_CONNECTED": _Translation.dense,
    "ADD": _Translation.elementwise,
    "SUB": _Translation.elementwise,
    "MUL": _Translation.elementwise,
    "LOGISTIC": _Translation.sigmoid,
    "MEAN": _Translation.mean,
    "RESHAPE": _Translation.reshape,
    "SQUEEZE": _Translation.reshape,
    "MAX_POOL_2D": _Translation.pool,
    "AVERAGE_POOL_2D": _Translation.pool,
    "PAD": _Translation.pad,
}
