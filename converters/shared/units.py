"""What the scales of a shared file stand for: between convolutions a tensor's unit is free, and `exact` chooses it.

The file says in its metadata what each scale is in the network's own unit, and which fused clips were left out because
the integers clip there by themselves. With that taken back, real values mean something again: for whoever compares
layers with a float network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters.tflite_file import edit

NAME = b"lineside.units"
_LINEAR = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def note(schema: Any, model: Any, real: Mapping[int, float], clips: Mapping[int, int]) -> None:
    """Keep in the model's metadata the scale of each tensor in the network's own unit, and the fused activation of the
    operators, by the tensor that they give, that have none any more."""
    entry, buffer = schema.MetadataT(), schema.BufferT()
    kept = {
        "scales": {str(number): each for number, each in real.items()},
        "clips": {str(n): c for n, c in clips.items()},
    }
    buffer.data = np.frombuffer(json.dumps(kept, sort_keys=True).encode(), np.uint8)
    entry.name, entry.buffer = NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]


def restore(path: Path) -> bool:
    """Give the file at `path` the scales of the network's own units, its integers unchanged; False where it has them.

    Raises:
        NotFound, BadInput: as for `read_graph`.
    """
    found: list[dict[str, dict[str, Any]]] = []

    def change(schema: Any, model: Any) -> None:
        for entry in model.metadata or []:
            if entry.name == NAME:
                found.append(json.loads(bytes(np.asarray(model.buffers[entry.buffer].data, np.uint8))))
        if found:
            model.metadata = [entry for entry in model.metadata if entry.name != NAME]
            _restore(schema, model, {int(n): each for n, each in found[0]["scales"].items()}, found[0]["clips"])

    edit(path, change)
    return bool(found)


def _restore(schema: Any, model: Any, real: Mapping[int, float], clips: Mapping[str, int]) -> None:
    graph = model.subgraphs[0]
    kinds = {getattr(schema.BuiltinOperator, name) for name in _LINEAR}
    unit = {number: scale / float(graph.tensors[number].quantization.scale[0]) for number, scale in real.items()}
    for operator in graph.operators:
        given, *constants = (int(number) for number in operator.inputs)
        made = int(operator.outputs[0])
        if str(made) in clips:
            operator.builtinOptions.fusedActivationFunction = clips[str(made)]
        if model.operatorCodes[operator.opcodeIndex].builtinCode in kinds:
            factors = [unit.get(made, 1.0) / unit.get(given, 1.0), unit.get(made, 1.0)]
            for number, factor in zip(constants, factors, strict=False):
                if number >= 0:
                    kept = graph.tensors[number].quantization
                    kept.scale = (np.asarray(kept.scale, np.float64) * factor).astype(np.float32).tolist()
    for number, scale in real.items():
        graph.tensors[number].quantization.scale = [scale]
