"""The noise of a network that Keras trained: its float constants are found in the int8 file, layer by layer."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from converters.keras_export import Export
from converters.mixed_graph import Mix, true_constants, write_mixed
from converters.network import open_network
from converters.noise_causes import gates_of
from converters.tflite import float_twin, write_int8
from converters.tflite_file import read_graph

pytestmark = pytest.mark.slow


def _tiny_models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_models", Path(__file__).with_name("tiny_models.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_weights_and_gates_of_a_v3_are_found(tmp_path: Path) -> None:
    tiny_models = _tiny_models()
    images, _ = tiny_models.textures(40, seed=2)
    export = Export(tiny_models.tiny("mobilenet-v3-small"), tiny_models.SPEC, images, tmp_path)
    for name in ("int8", "mixed"):
        (tmp_path / name).mkdir()
    trained, (path,) = float_twin(export), write_int8(export, tmp_path / "int8")
    graph = read_graph(path)
    floats = true_constants(graph, read_graph(trained))
    assert len(floats) > 40
    write_mixed(path, tmp_path / "mixed" / "m.tflite", Mix(), floats)
    networks = [open_network(each, tiny_models.SPEC) for each in (tmp_path / "mixed" / "m.tflite", trained)]
    got, reference = (np.array([network.run(image) for image in images]) for network in networks)
    assert reference.std(axis=0).min() > 0.5
    np.testing.assert_allclose(got, reference, atol=1e-3)
    assert len(gates_of(graph)) == 9
    off = [
        np.linalg.norm(true - graph.tensors[number].values()) / np.linalg.norm(true)
        for number, true in floats.items()
        if true.ndim == 4
    ]
    assert len(off) > 20 and min(off) > 1e-4 and max(off) < 0.1
