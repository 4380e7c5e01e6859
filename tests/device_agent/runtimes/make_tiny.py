"""Makes the models in `device_agent.runtimes.tiny`: `python tests/device_agent/runtimes/make_tiny.py` prints `_PACKED`.

All three compute the mean of each colour (1, 8, 8, 3), times a (3, 2) matrix, plus a bias. No TensorFlow takes part:
the .tflite file, int8, is put together from its schema, the .onnx file by the onnx package, the .xml file as text.
"""

from __future__ import annotations

import base64
import importlib.util
import textwrap
import zlib
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = np.array([[1, -1], [2, 0.5], [-0.5, 1]], np.float32)
BIAS = np.array([0.25, -0.25], np.float32)
TFLITE_PARTS = Path(__file__).parents[2] / "fixtures_tflite.py"


def tflite() -> bytes:
    """MEAN and FULLY_CONNECTED, both int8."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    spec = importlib.util.spec_from_file_location("fixtures_tflite", TFLITE_PARTS)
    assert spec is not None and spec.loader is not None
    parts: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parts)
    file = parts._File(schema)
    image = file.activation("image", [1, 8, 8, 3], -1, 1)
    mean = file.activation("mean", [1, 3], -1, 1)
    logits = file.activation("logits", [1, 2], -4, 4)
    axes = file.constant("axes", np.array([1, 2], np.int32))
    file.operator("MEAN", 2, [image, axes], mean, schema.ReducerOptionsT(), "ReducerOptions")
    file.weighted("FULLY_CONNECTED", mean, WEIGHTS.T, BIAS, logits, schema.FullyConnectedOptionsT())
    file.graph.inputs, file.graph.outputs = [image], [logits]
    builder = flatbuffers.Builder(1024)
    builder.Finish(file.model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def onnx() -> bytes:
    """ReduceMean and Gemm, float32."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Gemm", ["mean", "weights", "bias"], ["logits"]),
    ]
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 3])
    answer = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])
    constants = [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(BIAS, "bias")]
    graph = helper.make_graph(nodes, "tiny", [given], [answer], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


def openvino() -> tuple[bytes, bytes]:
    """ReduceMean, MatMul and Add, float32: the .xml and the .bin file."""
    layers, edges = list[str](), list[str]()

    def layer(kind: str, attributes: str, shape: list[int], given: list[tuple[int, list[int]]], element: str) -> int:
        number, ports = len(layers), list[str]()
        for port, (source, dims) in enumerate(given):
            edges.append(f'<edge from-layer="{source}" from-port="9" to-layer="{number}" to-port="{port}"/>')
            ports.append(f'<port id="{port}">{_dims(dims)}</port>')
        inner = f"<data {attributes}/>" if attributes else ""
        inner += f"<input>{''.join(ports)}</input>" if ports else ""
        if kind != "Result":
            inner += f'<output><port id="9" precision="{element}">{_dims(shape)}</port></output>'
        layers.append(f'<layer id="{number}" name="{kind}{number}" type="{kind}" version="opset1">{inner}</layer>')
        return number

    image = layer("Parameter", 'shape="1,8,8,3" element_type="f32"', [1, 8, 8, 3], [], "FP32")
    axes = layer("Const", 'element_type="i64" shape="2" offset="0" size="16"', [2], [], "I64")
    mean = layer("ReduceMean", 'keep_dims="false"', [1, 3], [(image, [1, 8, 8, 3]), (axes, [2])], "FP32")
    weights = layer("Const", 'element_type="f32" shape="3,2" offset="16" size="24"', [3, 2], [], "FP32")
    product = layer(
        "MatMul", 'transpose_a="false" transpose_b="false"', [1, 2], [(mean, [1, 3]), (weights, [3, 2])], "FP32"
    )
    bias = layer("Const", 'element_type="f32" shape="1,2" offset="40" size="8"', [1, 2], [], "FP32")
    logits = layer("Add", 'auto_broadcast="numpy"', [1, 2], [(product, [1, 2]), (bias, [1, 2])], "FP32")
    layer("Result", "", [], [(logits, [1, 2])], "FP32")
    xml = f'<?xml version="1.0"?><net name="tiny" version="11"><layers>{"".join(layers)}</layers>'
    xml += f"<edges>{''.join(edges)}</edges></net>"
    return xml.encode(), np.array([1, 2], np.int64).tobytes() + WEIGHTS.tobytes() + BIAS.tobytes()


def _dims(shape: list[int]) -> str:
    return "".join(f"<dim>{size}</dim>" for size in shape)


def files() -> dict[str, bytes]:
    """Every file by its name."""
    xml, weights = openvino()
    return {"tiny.tflite": tflite(), "tiny.onnx": onnx(), "tiny.xml": xml, "tiny.bin": weights}


def packed(content: bytes) -> str:
    """As `device_agent.runtimes.tiny` holds a file."""
    return base64.b64encode(zlib.compress(content, 9)).decode()


if __name__ == "__main__":
    print("_PACKED = {")
    for name, content in files().items():
        lines = textwrap.wrap(packed(content), 108)
        print(f'    "{name}": (')
        print("\n".join(f'        "{line}"' for line in lines))
        print("    ),")
    print("}")
