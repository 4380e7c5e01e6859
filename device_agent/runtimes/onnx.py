"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent import preprocess
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes.saturation import saturates
from device_agent.runtimes.shape import look_up, read_shape, require_file
from device_agent.runtimes.silence import require_silent


class OnnxRuntime:
    """An .onnx file with float32 input and output; an int8 model quantizes inside its graph.

    Where 8-bit kernels saturate, weights become unsigned when the file is loaded: those kernels add in 32 bits.
    """

    name = "onnx"

    def __init__(self, path: Path, spec: InputSpec, *, threads: int = 1) -> None:
        ort = require_silent("onnxruntime", extra="agent-onnx")
        self.version = str(ort.__version__)
        options = session_options(ort, threads)
        try:
            self._session = ort.InferenceSession(str(require_file(path)), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            if saturates() and "AddInitializer" in str(error):
                raise BadInput(
                    f"{path}: 8-bit kernels saturate on this processor (x86 without VNNI), and this file cannot be "
                    "computed exactly because its kernels share zero points; convert it again"
                ) from error
            raise
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = read_shape(path, spec, [i.shape for i in inputs], [o.shape for o in outputs])
        for tensor in (inputs[0], outputs[0]):
            if tensor.type != "tensor(float)":
                raise BadInput(f"{path}: {tensor.name} must be float32, got {tensor.type}")
        self.classes = shape.classes
        self._spec = spec
        self._channels_first = shape.channels_first
        self._input, self._outputs = inputs[0].name, [outputs[0].name]
        self._table = preprocess.table(spec)

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Model input of a fitted image (height, width, channels) uint8."""
        return look_up(self._table, image, self._spec, channels_first=self._channels_first)

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (classes,) float32."""
        answer: NDArray[np.float32] = self._session.run(self._outputs, {self._input: tensor})[0][0]
        return answer

    def close(self) -> None:
        """Release the session."""
        self._session = None


def session_options(ort: Any, threads: int = 1) -> Any:
    """How a session is opened on this processor; `ort` is the module of ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options
