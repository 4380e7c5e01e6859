"""The noise of layers: a range that is spoilt on purpose is found, and no other layer is blamed for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import hard_swish, rescaling
from converters.graph_diff import compare_graphs, size_of
from converters.layer_noise import Noise, measure_noise
from converters.layers import limits
from converters.mixed_graph import Mix, true_constants, write_mixed
from converters.network import open_network
from converters.noise_causes import suspect
from converters.quantization_fixes import Patient, fixes_for
from converters.saturation import find_saturations, share_over
from converters.tflite_file import edit, read_graph
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import table
from device_agent.runtimes import logits, open_runtime

SPEC = InputSpec(height=16, width=16)
Make = Callable[..., Path]


def answers(path: Path, images: np.ndarray) -> np.ndarray:
    model = open_runtime("litert", path, SPEC)
    try:
        got = np.array([logits(model, image) for image in images])
    finally:
        model.close()
    assert got.std(axis=0).min() > 0.05, "answers that do not spread prove nothing"
    return got


def measured(path: Path, images: np.ndarray) -> Noise:
    return measure_noise(path, {}, images, SPEC)


def test_an_unaltered_mix_answers_like_the_file(int8_file: Make, patterns: np.ndarray, tmp_path: Path) -> None:
    path, target = int8_file(), tmp_path / "mix.tflite"
    whole = frozenset(range(5))
    write_mixed(path, target, Mix(integers=whole, float_input=False), {})
    np.testing.assert_array_equal(answers(target, patterns), answers(path, patterns))


def test_rounding_everything_in_float_is_the_file_again(int8_file: Make, patterns: np.ndarray, tmp_path: Path) -> None:
    path, target = int8_file(), tmp_path / "mix.tflite"
    every = frozenset(range(5))
    write_mixed(path, target, Mix(rounded=every, weights=every, float_input=False), {})
    step = 32 / 255
    assert np.abs(answers(target, patterns) - answers(path, patterns)).max() < 2.5 * step
    write_mixed(path, target, Mix(), {})
    assert np.abs(answers(target, patterns) - answers(path, patterns)).max() > 0.25 * step


def test_the_float_network_computes_what_its_weights_say(int8_file: Make, patterns: np.ndarray, tmp_path: Path) -> None:
    path, target = int8_file(), tmp_path / "mix.tflite"
    places = write_mixed(path, target, Mix(shown=frozenset(range(20))), {})
    graph, network = read_graph(path), open_network(target, SPEC)
    got = network.run(patterns[0])
    dense = graph.operators[4]
    weights, bias = (graph.tensors[number].values() for number in dense.inputs[1:])
    pooled = network.value(places[dense.inputs[0]]).ravel()
    assert pooled.std() > 0.05
    np.testing.assert_allclose(got, weights @ pooled + bias, atol=1e-5)


def test_the_layer_with_the_spoilt_range_is_blamed(int8_file: Make, patterns: np.ndarray) -> None:
    good, bad = measured(int8_file(), patterns), measured(int8_file("bad.tflite", spoilt=40), patterns)
    worst = max(bad.layers, key=lambda each: each.harm)
    assert worst.name == "second" and worst.used < 0.1
    share = worst.harm**2 / sum(each.harm**2 for each in bad.layers)
    assert share > 0.8
    own = {each.name: each.own_db for each in bad.layers}
    assert own["second"] < own["first"] - 15 and own["second"] < own["pooled"] - 10
    after = next(each for each in bad.layers if each.name == "pooled")
    assert after.own_db > after.sqnr_db + 5, "what the layer inherits is not its own"
    before = {each.name: each.sqnr_db for each in good.layers}
    assert before["second"] > worst.sqnr_db + 15
    assert suspect(read_graph(int8_file("bad.tflite", spoilt=40)), worst).cause == "range outliers"


def test_own_parts_add_up_to_what_comes_together(int8_file: Make, patterns: np.ndarray) -> None:
    found = measured(int8_file("bad.tflite", spoilt=20), patterns)
    together = np.sqrt(np.square(found.answers - found.reference).mean()) / found.spread
    assert together > 0.01
    assert np.sqrt(sum(each.harm**2 for each in found.layers)) == pytest.approx(together, rel=0.5)


def test_each_fix_of_the_spoilt_range_helps(int8_file: Make, patterns: np.ndarray, tmp_path: Path) -> None:
    path = int8_file("bad.tflite", spoilt=40)
    graph, found = read_graph(path), measured(path, patterns)
    worst = max(found.layers, key=lambda each: each.harm)
    fixes = fixes_for(suspect(graph, worst))
    assert len(fixes) == 2
    before = np.abs(answers(path, patterns) - found.reference).mean()
    for fix in fixes:
        fix.apply(Patient(path, graph, {}, SPEC, found), tmp_path / "fixed.tflite")
        after = np.abs(answers(tmp_path / "fixed.tflite", patterns) - found.reference).mean()
        assert after < 0.6 * before, fix.name


def test_bytes_taken_as_they_are_are_nearer_to_float(int8_file: Make, patterns: np.ndarray, tmp_path: Path) -> None:
    path, target = tmp_path / "coarse.tflite", tmp_path / "bytes.tflite"
    shutil.copyfile(int8_file(), path)
    rescaling.set_ranges(path, {0: (-32.0, 32.0)})
    shutil.copyfile(path, target)
    rescaling.take_bytes(target, SPEC)
    write_mixed(path, tmp_path / "float.tflite", Mix(), {})
    true = answers(tmp_path / "float.tflite", patterns)
    for file, codes in ((path, 9), (target, 256)):
        given = read_graph(file).tensors[0]
        scale, zero_point = float(given.scale[0]), int(given.zero_point[0])
        assert len(np.unique(table(SPEC, scale=scale, zero_point=zero_point, dtype="int8"))) == codes
    coarse, fine = (next(iter(measured(file, patterns).layers)) for file in (path, target))
    assert coarse.number == fine.number == -1 and fine.harm < 1e-5 and fine.own_db == 120
    assert suspect(read_graph(path), coarse).cause == "input scale" and coarse.harm > 0 and coarse.own_db < 30
    errors = [np.abs(answers(file, patterns) - true).mean() for file in (target, path)]
    assert errors[0] < 0.9 * errors[1] < 1


def test_what_an_activation_cannot_give_has_no_codes(int8_file: Make, patterns: np.ndarray, tmp_path: Path) -> None:
    path, wide = int8_file(), tmp_path / "wide.tflite"
    shutil.copyfile(path, wide)
    fused = {n: each.outputs[0] for n, each in enumerate(read_graph(path).operators) if "CONV" in each.kind}
    number, tensor = next(iter(fused.items()))

    def fuse(_: Any, model: Any) -> None:
        model.subgraphs[0].operators[number].builtinOptions.fusedActivationFunction = 3

    edit(wide, fuse)
    rescaling.set_ranges(wide, {tensor: (-20.0, 90.0)})
    rescaling.clip_ranges(wide)
    assert limits(read_graph(wide).tensors[tensor]) == pytest.approx((0, 6))
    rescaling.clip_ranges(wide)
    assert limits(read_graph(wide).tensors[tensor]) == pytest.approx((0, 6))
    others = [t for t in fused.values() if t != tensor]
    assert [limits(read_graph(wide).tensors[t]) for t in others] == [
        limits(read_graph(path).tensors[t]) for t in others
    ]


def test_hard_swish_written_out_is_the_same_function(int8_file: Make, patterns: np.ndarray, tmp_path: Path) -> None:
    path = int8_file()
    shutil.copyfile(path, tmp_path / "plain.tflite")
    assert hard_swish.rewrite(tmp_path / "plain.tflite") == 1
    kinds = [each.kind for each in read_graph(tmp_path / "plain.tflite").operators]
    assert "HARD_SWISH" not in kinds and kinds[1:4] == ["MUL", "ADD", "MUL"]
    assert np.abs(answers(tmp_path / "plain.tflite", patterns) - answers(path, patterns)).max() < 3 * 32 / 255
    assert hard_swish.rewrite(tmp_path / "plain.tflite") == 0


def test_narrow_weights_cannot_saturate(int8_file: Make, patterns: np.ndarray, tmp_path: Path) -> None:
    path = int8_file()
    assert find_saturations(read_graph(path), measured(path, patterns).seen)
    shutil.copyfile(path, tmp_path / "narrow.tflite")
    rescaling.narrow_weights(tmp_path / "narrow.tflite")
    assert find_saturations(read_graph(tmp_path / "narrow.tflite"), {}) == []
    assert np.abs(answers(tmp_path / "narrow.tflite", patterns) - answers(path, patterns)).mean() < 0.2


def test_pairs_that_saturate_are_counted_by_hand() -> None:
    weights = np.array([[127, 3, 120, 20], [-128, -5, 1, 1]])
    assert share_over(weights, np.full(4, 255)) == 3 / 4  # 33150, 35700, -33915, 510
    assert share_over(weights, np.array([255, 0, 255, 0])) == 0
    assert share_over(weights[:, :3], np.full(3, 255)) == 2 / 4


def test_true_constants_are_those_of_the_file_that_belongs(int8_file: Make, tmp_path: Path) -> None:
    path = int8_file()
    write_mixed(path, tmp_path / "float.tflite", Mix(), {})
    stored, trained = read_graph(path), read_graph(tmp_path / "float.tflite")
    found = true_constants(stored, trained)
    assert len(found) == 6
    for number, value in found.items():
        np.testing.assert_allclose(value, stored.tensors[number].values(), rtol=1e-6)
    other = int8_file("other.tflite", seed=2)
    write_mixed(other, tmp_path / "other-float.tflite", Mix(), {})
    assert true_constants(stored, read_graph(tmp_path / "other-float.tflite")) == {}


def test_what_cannot_be_explained_is_refused(
    int8_file: Make, patterns: np.ndarray, tmp_path: Path, weights_dir: Path
) -> None:
    path = int8_file()
    write_mixed(path, tmp_path / "float.tflite", Mix(), {})
    with pytest.raises(BadInput, match="not quantized"):
        measured(tmp_path / "float.tflite", patterns)
    with pytest.raises(BadInput, match="same answer for all"):
        measured(path, patterns[:1].repeat(3, axis=0))
    with pytest.raises(BadInput, match="edgetpu-custom-op"):
        compiled = weights_dir / "edgetpu" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
        write_mixed(compiled, tmp_path / "mix.tflite", Mix(), {})


def test_layers_are_held_against_each_other(int8_file: Make, tmp_path: Path) -> None:
    path, bad, other = int8_file(), int8_file("bad.tflite", spoilt=40), int8_file("other.tflite", seed=2)
    a = read_graph(path)
    assert all(each.same for each in compare_graphs(a, a)) and len(compare_graphs(a, a)) == 6
    changed = [each for each in compare_graphs(a, read_graph(bad)) if not each.same]
    assert [each.name for each in changed] == ["second"]
    assert changed[0].a is not None and changed[0].b is not None and changed[0].weights == 0
    assert changed[0].b.scale == pytest.approx(40 * changed[0].a.scale)  # type: ignore[operator]
    weights = {each.name: each.weights for each in compare_graphs(a, read_graph(other))}
    assert weights["first"] is not None and weights["first"] > 0.5 and weights["swish"] is None
    shutil.copyfile(path, tmp_path / "plain.tflite")
    hard_swish.rewrite(tmp_path / "plain.tflite")
    found = compare_graphs(a, read_graph(tmp_path / "plain.tflite"))
    assert [(each.kind, each.b is None) for each in found if each.a is None or each.b is None] == [
        ("HARD_SWISH", True),
        ("MUL", False),
        ("ADD", False),
        ("MUL", False),
    ]
    size = size_of(path)
    assert size.files == size.kernels + size.biases + size.constants + size.rest == path.stat().st_size
    assert (size.kernels, size.biases, size.parameters) == (8 * 27 + 64 + 24, 4 * 19, 8 * 27 + 64 + 24 + 19)
