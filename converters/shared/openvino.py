"""An int8 .tflite file as an OpenVINO model: the same integers and scales, operator by operator, channels first.

Activations pass a FakeQuantize with the bounds of the file's scale and zero point, weights are the file's integers
times their scales: OpenVINO makes 8-bit kernels of that, as of what NNCF writes.
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
from device_agent.runtimes.silence import require_silent


def translate(source: Path, spec: InputSpec) -> Any:
    """The int8 file `source` as an `openvino.Model`: "image" float32 (1, c, h, w) to "logits" float32 (1, classes).
    `spec` says what images are.

    Raises:
        Unsupported: an operator or a shape that this translation has not; not quantized throughout.
    """
    return _Translation(read_graph(source)).model(spec)


class _Translation:
    """The values of the OpenVINO graph, while they are made."""

    def __init__(self, graph: Graph) -> None:
        check_quantized(graph)
        self.graph = graph
        self.ops: Any = require_silent("openvino.opset13", extra="toolkit")
        self.values: dict[int, Any] = {}

    def model(self, spec: InputSpec) -> Any:
        """The OpenVINO model."""
        ov = require_silent("openvino", extra="toolkit")
        graph = self.graph
        n, h, w, c = graph.tensors[graph.inputs[0]].shape
        image = self.ops.parameter([n, c, h, w], np.float32, name="image")
        self.values[graph.inputs[0]] = self.quantized(image, graph.tensors[graph.inputs[0]], image_range(graph, spec))
        for operator in graph.operators:
            write = _WRITERS.get(operator.kind)
            if write is None:
                raise Unsupported(f"the shared scheme has no {operator.kind}")
            write(self, operator)
        model = ov.Model([self.ops.result(self.values[graph.outputs[0]])], [image], "lineside")
        model.inputs[0].get_tensor().set_names({"image"})
        model.outputs[0].get_tensor().set_names({"logits"})
        return model

    def quantized(self, value: Any, tensor: Tensor, taken: tuple[float, float] | None = None) -> Any:
        """The value rounded to the tensor's integers; `taken` is what the first and the last of them stand for in it,
        if that is not what they are worth to the layers that follow."""
        scale, zero_point = np.float32(tensor.scale[0]), int(tensor.zero_point[0])
        given = [(end - zero_point) * scale for end in (-128, 127)]
        ends = [self.ops.constant(np.float32(end)) for end in (*(taken or given), *given)]
        return self.ops.fake_quantize(value, *ends, 256)

    def real(self, number: int, rank: int = 0) -> Any:
        """The value of a tensor, spread along the channels of an output of so many dimensions."""
        tensor = self.graph.tensors[number]
        sides = spread(tensor.shape, rank or len(tensor.shape))
        if tensor.data is None:
            value = self.values[number]
            return (
                value if sides == tensor.shape else self.ops.reshape(value, self.ops.constant(np.array(sides)), False)
            )
        values = tensor.values()
        values = values.transpose(0, 3, 1, 2) if values.ndim == 4 else values.reshape(sides)
        return self.ops.constant(np.ascontiguousarray(values))

    def weights(self, number: int, order: tuple[int, ...], shape: tuple[int, ...] | None = None) -> Any:
        """Weights, their axes in this order and then in this shape, with a scale each of the first."""
        tensor = self.graph.tensors[number]
        if tensor.data is None:
            raise Unsupported(f"weights {tensor.name!r} are not constant")
        integers = np.ascontiguousarray(tensor.data.transpose(order))
        integers = integers if shape is None else integers.reshape(shape)
        scale = tensor.scale.reshape([-1] + [1] * (integers.ndim - 1)) if tensor.scale.size > 1 else tensor.scale[0]
        return self.ops.multiply(
            self.ops.convert(self.ops.constant(integers), "f32"), self.ops.constant(np.asarray(scale, np.float32))
        )

    def biased(self, value: Any, operator: Operator, rank: int) -> Any:
        """The value with the operator's bias added along axis 1."""
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return value
        bias = self.graph.tensors[operator.inputs[2]].values()
        return self.ops.add(value, self.ops.constant(bias.reshape([1, -1] + [1] * (rank - 2))))

    def finish(self, operator: Operator, value: Any) -> None:
        """Clip where the integers do not, and round the operator's output."""
        number = operator.outputs[0]
        tensor = self.graph.tensors[number]
        bounds = clip_of(operator, tensor)
        if bounds is not None:
            low, high = bounds
            value = self.ops.relu(value) if np.isinf(high) else self.ops.clamp(value, low, high)
        elif self._is_summed(operator, number):
            # The plugin leaves out a rounding that comes first behind a convolution and before a sum. A minimum that
            # is never reached makes it come second, and costs nothing that could be measured.
            value = self.ops.minimum(value, self.ops.constant(np.float32(1024 * tensor.scale[0])))
        self.values[number] = self.quantized(value, tensor)

    def _is_summed(self, operator: Operator, number: int) -> bool:
        readers = self.graph.readers.get(number, [])
        return "CONV_2D" in operator.kind and any(self.graph.operators[each].kind == "ADD" for each in readers)

    def convolution(self, operator: Operator) -> None:
        """CONV_2D and DEPTHWISE_CONV_2D."""
        x, w = (self.graph.tensors[number] for number in operator.inputs[:2])
        options, channels, (height, width) = operator.options, x.shape[3], w.shape[1:3]
        pads = padding_of(operator, x.shape, (height, width))
        place: tuple[Any, ...] = (
            [options["strideH"], options["strideW"]],
            pads[:2],
            pads[2:],
            [options["dilationHFactor"], options["dilationWFactor"]],
        )
        if operator.kind == "DEPTHWISE_CONV_2D":
            each = (channels, w.shape[3] // channels, 1, height, width)
            kernel = self.weights_of_groups(operator.inputs[1], (3, 0, 1, 2), each)
        elif w.shape[3] != channels:
            groups = channels // w.shape[3]
            each = (groups, w.shape[0] // groups, w.shape[3], height, width)
            kernel = self.weights_of_groups(operator.inputs[1], (0, 3, 1, 2), each)
        else:
            kernel = self.weights(operator.inputs[1], (0, 3, 1, 2))
        make = self.ops.convolution if len(kernel.get_output_shape(0)) == 4 else self.ops.group_convolution
        self.finish(operator, self.biased(make(self.real(operator.inputs[0]), kernel, *place), operator, 4))

    def weights_of_groups(self, number: int, order: tuple[int, ...], shape: tuple[int, ...]) -> Any:
        """Weights of shape (groups, out, in, h, w), with a scale each output."""
        tensor = self.graph.tensors[number]
        if tensor.data is None:
            raise Unsupported(f"weights {tensor.name!r} are not constant")
        integers = np.ascontiguousarray(tensor.data.transpose(order)).reshape(shape)
        scale: NDArray[np.float32] = np.broadcast_to(tensor.scale, shape[0] * shape[1])
        return self.ops.multiply(
            self.ops.convert(self.ops.constant(integers), "f32"),
            self.ops.constant(np.ascontiguousarray(scale).reshape(shape[0], shape[1], 1, 1, 1)),
        )

    def dense(self, operator: Operator) -> None:
        """FULLY_CONNECTED on rows."""
        if len(self.graph.tensors[operator.inputs[0]].shape) != 2:
            raise Unsupported("the shared scheme has FULLY_CONNECTED on rows only")
        value = self.ops.matmul(self.real(operator.inputs[0]), self.weights(operator.inputs[1], (0, 1)), False, True)
        self.finish(operator, self.biased(value, operator, 2))

    def elementwise(self, operator: Operator) -> None:
        """ADD, SUB, MUL of two tensors, with broadcasting."""
        make = {"ADD": self.ops.add, "SUB": self.ops.subtract, "MUL": self.ops.multiply}[operator.kind]
        rank = len(self.graph.tensors[operator.outputs[0]].shape)
        self.finish(operator, make(*(self.real(number, rank) for number in operator.inputs)))

    def sigmoid(self, operator: Operator) -> None:
        """LOGISTIC."""
        self.finish(operator, self.ops.sigmoid(self.real(operator.inputs[0])))

    def mean(self, operator: Operator) -> None:
        """MEAN over the positions."""
        check_mean(self.graph, operator)
        keep = len(self.graph.tensors[operator.outputs[0]].shape) == 4
        axes = self.ops.constant(np.array([2, 3]))
        self.finish(operator, self.ops.reduce_mean(self.real(operator.inputs[0]), axes, keep_dims=keep))

    def reshape(self, operator: Operator) -> None:
        """RESHAPE and SQUEEZE that only drop or add sides of 1."""
        shape = self.graph.tensors[operator.outputs[0]].shape
        if any(np.prod(each) != max(each) for each in (shape, self.graph.tensors[operator.inputs[0]].shape)):
            raise Unsupported("the shared scheme can reshape rows only")
        shape = shape if len(shape) != 4 else (shape[0], shape[3], shape[1], shape[2])
        sides = self.ops.constant(np.array(shape))
        self.values[operator.outputs[0]] = self.ops.reshape(self.real(operator.inputs[0]), sides, False)

    def pool(self, operator: Operator) -> None:
        """MAX_POOL_2D and AVERAGE_POOL_2D."""
        options, x = operator.options, self.graph.tensors[operator.inputs[0]]
        kernel = (options["filterHeight"], options["filterWidth"])
        pads, strides = padding_of(operator, x.shape, kernel), [options["strideH"], options["strideW"]]
        value = self.real(operator.inputs[0])
        if operator.kind == "MAX_POOL_2D":
            pooled = self.ops.max_pool(value, strides, [1, 1], pads[:2], pads[2:], list(kernel), "floor", "explicit")
            self.finish(operator, pooled.output(0))
        else:
            self.finish(operator, self.ops.avg_pool(value, strides, pads[:2], pads[2:], list(kernel), True))

    def pad(self, operator: Operator) -> None:
        """PAD with zeros."""
        amounts = self.graph.tensors[operator.inputs[1]]
        if amounts.data is None or amounts.data.shape != (4, 2):
            raise Unsupported("the shared scheme has PAD by constant amounts on maps only")
        before, after = (self.ops.constant(each.astype(np.int64)) for each in amounts.data[[0, 3, 1, 2]].T)
        zero = self.ops.constant(np.float32(0))
        self.values[operator.outputs[0]] = self.ops.pad(self.real(operator.inputs[0]), before, after, "constant", zero)


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
