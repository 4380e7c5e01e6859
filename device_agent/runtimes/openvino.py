"""OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent import preprocess
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes.saturation import saturates
from device_agent.runtimes.shape import look_up, read_shape, require_file
from device_agent.runtimes.silence import require_silent


class OpenVINO:
    """An .xml file with its .bin beside it, float32 in and out.

    Weights stored as fp16 compute in float32: without the hint the plugin takes bfloat16 where the CPU has it, and the
    same file would answer differently on another machine. Where 8-bit kernels saturate, int8 files compute in float32
    too, rounded as they say: the same answers, at the speed of float. `precision` is what the plugin says it computes
    in.
    """

    name = "openvino"

    def __init__(self, path: Path, spec: InputSpec, *, threads: int = 1) -> None:
        ov = require_silent("openvino", extra="agent-openvino")
        self.version = str(ov.__version__).partition("-")[0]
        # Given any other file the reader tries each of its frontends in turn and logs as it goes.
        if not require_file(path).read_bytes()[:64].lstrip().startswith((b"<?xml", b"<net")):
            raise BadInput(f"{path}: OpenVINO cannot load it: not an .xml file of OpenVINO's own format")
        if not path.with_suffix(".bin").exists():
            raise NotFound(f"{path.with_suffix('.bin')}: no such file; the weights must lie beside {path.name}")
        compiled = ov.Core().compile_model(str(path), "CPU", settings(threads))
        inputs, outputs = compiled.inputs, compiled.outputs
        shapes = [
            [[d.get_length() if d.is_static else -1 for d in port.partial_shape] for port in ports]
            for ports in (inputs, outputs)
        ]
        shape = read_shape(path, spec, *shapes)
        for port in (inputs[0], outputs[0]):
            if port.get_element_type() != ov.Type.f32:
                raise BadInput(f"{path}: input and output must be float32, got {port.get_element_type().to_string()}")
        self.classes = shape.classes
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        self._spec = spec
        self._channels_first = shape.channels_first
        self._table = preprocess.table(spec)
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._output = outputs[0]

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """Model input of a fitted image (height, width, channels) uint8."""
        return look_up(self._table, image, self._spec, channels_first=self._channels_first)

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (classes,) float32."""
        self._request.infer([tensor], share_inputs=True)
        return np.array(self._request.get_output_tensor(0).data[0], np.float32)

    def close(self) -> None:
        """Release the model and its request."""
        self._request = self._compiled = self._output = None


def settings(threads: int = 1) -> dict[str, str | int]:
    """With what the plugin compiles on this processor."""
    made: dict[str, str | int] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return made | {"LP_TRANSFORMS_MODE": "NO"} if saturates() else made
