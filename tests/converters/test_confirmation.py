"""Predictions held against the runtimes: on public files, on files made here, on networks converted here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from converters import CONVERTERS
from converters.asking import ask_litert
from converters.confirmation import Confirmation, confirm
from converters.console import held_back
from converters.keras_export import Export
from converters.op_rules import Placement, is_quantized, judge, read_model
from converters.rule_file import OpRule, load
from device_agent.contract.errors import BadInput

PUBLIC = {  # pieces that LiteRT 2.3.0 gives to XNNPACK, as it says itself
    "mobilenet_v1_0.25_128_quant": 2,
    "mobilenet_v2_1.0_224_quant": 2,
    "tf2_mobilenet_v2_1.0_224_ptq": 1,
    "vww_96_float": 1,
    "vww_96_int8": 2,
}


def _checked(path: Path, rules_id: str) -> tuple[Placement, Confirmation]:
    rules = load(rules_id)
    placement = judge(read_model(path), rules)
    return placement, confirm(placement, path, str(rules.runtime))


@pytest.mark.parametrize("name", PUBLIC)
def test_litert_delegates_what_is_predicted(weights_dir: Path, name: str) -> None:
    pytest.importorskip("ai_edge_litert")
    placement, truth = _checked(weights_dir / "tflite" / f"{name}.tflite", "xnnpack")
    assert truth.agrees, truth
    assert truth.found == placement.pieces == PUBLIC[name] and truth.runtime.startswith("LiteRT ")


def test_a_wrong_rule_is_noticed(weights_dir: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    import msgspec

    path = weights_dir / "tflite" / "mobilenet_v1_0.25_128_quant.tflite"
    rules = load("xnnpack")
    wrong = msgspec.structs.replace(rules, ops={**rules.ops, "SOFTMAX": OpRule()})
    truth = confirm(judge(read_model(path), wrong), path, "litert")
    assert not truth.agrees and truth.differing == ["SOFTMAX 30"]
    with held_back():
        assert 30 not in ask_litert(path).delegated


def test_openvino_computes_in_8_bits_what_is_predicted(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = _helper("test_openvino_file").write_quantized(tmp_path / "m.xml")
    _, truth = _checked(path, "openvino-cpu")
    assert truth.agrees and truth.found > 0, truth


def test_onnxruntime_computes_in_8_bits_what_is_predicted(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = _helper("test_onnx_file").write_quantized(tmp_path / "m.onnx")
    placement, truth = _checked(path, "onnxruntime-cpu")
    assert [op.verdict for op in placement.ops] == ["cpu", "accelerator", "cpu"]  # Relu's output is float32
    assert truth.agrees and truth.found == 1, truth


def test_a_runtime_that_cannot_be_asked(weights_dir: Path) -> None:
    path = weights_dir / "tflite" / "vww_96_float.tflite"
    with pytest.raises(BadInput, match="no runtime 'tensorrt' that can be asked"):
        confirm(judge(read_model(path), load("xnnpack")), path, "tensorrt")


def test_a_file_that_the_runtime_does_not_load_is_said_in_one_line(tmp_path: Path, weights_dir: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    placement = judge(read_model(weights_dir / "tflite" / "vww_96_float.tflite"), load("xnnpack"))
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model at all")
    with pytest.raises(BadInput, match=r"broken.tflite: LiteRT .* cannot load it: ") as caught:
        confirm(placement, broken, "litert")
    assert "\n" not in str(caught.value)


NETWORKS: dict[str, dict[str, Any]] = {
    "v1": {"family": "mobilenet-v1", "alpha": 0.25},
    "v2": {"family": "mobilenet-v2", "alpha": 0.35},
    "v3-hard": {"family": "mobilenet-v3-small", "alpha": 0.35},
    "v3-silu": {"family": "mobilenet-v3-small", "alpha": 0.35, "activation": "silu"},
}


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_the_runtimes_do_as_predicted_for_each_network(network: str, tmp_path: Path) -> None:
    files = _converted(network, tmp_path)
    rules = {"litert": "xnnpack", "onnx": "onnxruntime-cpu", "openvino": "openvino-cpu"}
    for name, path in files.items():
        one = load(rules[name.split("-")[0]])
        if one.only_quantized and not is_quantized(read_model(path)):
            continue
        placement, truth = _checked(path, one.id)
        assert truth.agrees, (network, name, truth)
        if name.startswith("litert"):
            assert placement.pieces == 1, "hard activations are written in a form that the delegate takes"
    _check_floats_have_no_integers(files)


@pytest.mark.slow
def test_files_of_other_precisions(tmp_path: Path) -> None:
    """Weights alone in 8 bits, or in 16: nothing that lineside writes, but others do."""
    export = _export("v2", tmp_path)
    tf = pytest.importorskip("tensorflow")
    pieces = {}
    for name in ("dynamic", "fp16"):
        with held_back():
            converter = tf.lite.TFLiteConverter.from_concrete_functions([export.frozen])
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16] if name == "fp16" else []
            (tmp_path / f"{name}.tflite").write_bytes(converter.convert())
        _, truth = _checked(tmp_path / f"{name}.tflite", "xnnpack")
        assert truth.agrees, (name, truth)
        pieces[name] = truth.found
    assert pieces == {"dynamic": 11, "fp16": 1}  # 10 depthwise convolutions of 8-bit weights are left out


def _check_floats_have_no_integers(files: dict[str, Path]) -> None:
    for name, path in files.items():
        assert is_quantized(read_model(path)) == name.endswith("int8"), name


def _export(network: str, folder: Path) -> Export:
    from toolkit.models.architecture import Architecture
    from toolkit.placement import draw_network

    architecture = Architecture(**NETWORKS[network], size=64)
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)
    return Export(draw_network(architecture, images), architecture.input_spec(), images, folder)


def _converted(network: str, folder: Path) -> dict[str, Path]:
    export, files = _export(network, folder), {}
    for name in CONVERTERS.names():
        (folder / name).mkdir()
        with held_back():
            files[name] = CONVERTERS.load(name)(export, folder / name)[0]
    return files


def _helper(name: str) -> ModuleType:
    """The test module that writes such files."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
