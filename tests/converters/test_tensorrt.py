"""What a board builds its engine from: ranges against plain numpy, the cache parsed back, the script against a trtexec
that writes down how it was called."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from converters.onnx import OPSET
from converters.tensorrt import RECIPES, cache_text, measure_ranges, scales, write_recipe
from device_agent.contract.errors import BadInput

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, numpy_helper = pytest.importorskip("onnx.helper"), pytest.importorskip("onnx.numpy_helper")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
WEIGHT = np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32)
TRTEXEC = """#!/usr/bin/env bash
echo '&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec'
for option in "$@"; do
    case $option in
    --calib=*) cp "${option#*=}" "$SEEN/cache" ;;
    --saveEngine=*) echo engine >"${option#*=}" ;;
    esac
done
[[ ${1:-} == --help ]] || printf '%s\\n' "$@" >"$SEEN/options"
echo '&&&& PASSED TensorRT.trtexec [TensorRT v8502] # trtexec'
exit "${FAILS:-0}"
"""


def write_model(path: Path) -> Path:
    """image (1, 3, 5, 5) -> 1x1 convolution to 4 channels -> Relu -> mean -> logits; and a branch that is always 0."""
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w"], ["t0"], kernel_shape=[1, 1]),
        node("Relu", ["t0"], ["t1"]),
        node("Constant", [], ["zero"], value=numpy_helper.from_array(np.float32(0))),
        node("Mul", ["t1", "zero"], ["dead"]),
        node("Add", ["t1", "dead"], ["t2"]),
        node("GlobalAveragePool", ["t2"], ["t3"]),
        node("Shape", ["t3"], ["sizes"]),
        node("Flatten", ["t3"], ["logits"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", onnx.TensorProto.FLOAT, [1, 3, 5, 5])],
        [value("logits", onnx.TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(WEIGHT[:, :, None, None], "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def images() -> list[np.ndarray]:
    return [np.random.default_rng(seed).uniform(-seed, 1, (1, 3, 5, 5)).astype(np.float32) for seed in (1, 2, 3)]


def by_hand() -> dict[str, float]:
    """Largest magnitude of each tensor, computed with numpy alone."""
    seen = np.concatenate(images())
    mapped = np.einsum("oc,nchw->nohw", WEIGHT.astype(np.float64), seen)
    kept = np.maximum(mapped, 0)
    mean = kept.mean(axis=(2, 3))
    tensors = {"image": seen, "t0": mapped, "t1": kept, "dead": 0 * kept, "t2": kept, "t3": mean, "logits": mean}
    return {name: float(np.abs(each).max()) for name, each in tensors.items()}


def parse(text: str) -> tuple[str, dict[str, float]]:
    """Header and scales of a calibration cache, read as TensorRT's format says."""
    header, *lines = text.splitlines()
    split = (line.split(": ") for line in lines)
    return header, {name: struct.unpack("!f", bytes.fromhex(digits))[0] for name, digits in split}


def test_ranges_are_those_of_every_activation_and_of_no_constant(tmp_path: Path) -> None:
    wanted = by_hand()
    for larger, smaller in (("t0", "t1"), ("t1", "t3")):  # else one range would pass for another
        assert wanted[larger] > 1.05 * wanted[smaller] > 0
    found = measure_ranges(write_model(tmp_path / "m.onnx"), images())
    assert list(found) == ["image", "t0", "t1", "dead", "t2", "t3", "logits"]
    assert found == pytest.approx(wanted, rel=1e-5)


def test_the_cache_read_back_gives_the_ranges(tmp_path: Path) -> None:
    wanted = by_hand()
    header, found = parse(cache_text(measure_ranges(write_model(tmp_path / "m.onnx"), images())))
    assert header == "TRT-100300-MinMaxCalibration"
    assert {name: 127 * scale for name, scale in found.items()} == pytest.approx(
        {name: peak for name, peak in wanted.items() if name != "dead"}, rel=1e-5
    )


def test_a_scale_too_small_for_float32_is_none() -> None:
    assert scales({"a": 1e-44, "b": 1.27}) == {"b": pytest.approx(0.01)}


def test_a_tensor_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    bad = images()[0]
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(BadInput, match="tensor image is not finite"):
        measure_ranges(write_model(tmp_path / "m.onnx"), [images()[1], bad])


def test_the_readme_names_the_operator_set_that_is_written() -> None:
    assert f"operator set {OPSET}" in (RECIPES / "README.txt").read_text()


@needs_bash
def test_the_script_is_bash_and_ends_on_errors() -> None:
    script = RECIPES / "build.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with a fake trtexec beside it; the folder has a space in its name."""
    folder = tmp_path / "a recipe"
    folder.mkdir()
    write_recipe(write_model(tmp_path / "m.onnx"), by_hand(), folder)
    (tmp_path / "trtexec").write_text(TRTEXEC)
    (tmp_path / "trtexec").chmod(0o755)
    return folder


def build(recipe: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    own = {"SEEN": str(recipe.parent), "TRTEXEC": str(recipe.parent / "trtexec")}
    command = [str(recipe / "build.sh"), *arguments]
    return subprocess.run(
        command, env=os.environ | own | settings, cwd=recipe.parent, capture_output=True, text=True, timeout=60
    )


@needs_bash
def test_int8_gets_the_scales_under_the_header_of_the_board(recipe: Path) -> None:
    done = build(recipe, "int8")
    assert done.returncode == 0, done.stderr
    assert (recipe / "engine-int8.plan").read_text() == "engine\n"
    options = (recipe.parent / "options").read_text().splitlines()
    assert options[:3] == [f"--onnx={recipe}/model.onnx", "--fp16", "--int8"] and len(options) == 5
    header, found = parse((recipe.parent / "cache").read_text())
    assert header == "TRT-8502-EntropyCalibration2"
    assert found == parse((recipe / "calibration.cache").read_text())[1]
    build(recipe, "int8", TRT_VERSION="101600")
    assert parse((recipe.parent / "cache").read_text())[0] == "TRT-101600-EntropyCalibration2"


@needs_bash
def test_fp16_needs_no_cache(recipe: Path, tmp_path: Path) -> None:
    (recipe / "calibration.cache").unlink()
    assert build(recipe, "fp16", str(tmp_path / "own.plan")).returncode == 0
    assert (tmp_path / "own.plan").exists()
    options = (recipe.parent / "options").read_text().splitlines()
    assert options == [f"--onnx={recipe}/model.onnx", "--fp16", f"--saveEngine={tmp_path}/own.plan.part"]


@needs_bash
def test_a_failed_build_leaves_no_engine(recipe: Path) -> None:
    assert build(recipe, "fp16", FAILS="1").returncode == 1
    assert not list(recipe.glob("*.plan*"))
    assert build(recipe).returncode == build(recipe, "int4").returncode == 2
    assert "set TRTEXEC" in build(recipe, "fp16", TRTEXEC="/nowhere/trtexec").stderr
