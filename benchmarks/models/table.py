"""Every family, head and teacher: parameters, multiplications, size, parity and latency of what it converts to.

Each network is trained for some steps on drawn textures (no public weights are needed), so that its outputs spread, and
then held against Keras through the device's own runtimes. python benchmarks/models/table.py [--only NAME] [--write]
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from converters import CONVERTERS
from converters.calibration import tensors
from converters.console import held_back
from converters.keras_export import Export, keras_logits
from converters.parity import check_spread, precision_of
from device_agent.contract.errors import LinesideError
from device_agent.runtimes import logits, open_runtime
from toolkit.framework import load_keras, package_versions
from toolkit.models.architecture import HEADS, Architecture
from toolkit.models.networks import build, settle_statistics

SIZE, CLASSES, STEPS, BATCH, SEED, IMAGES, REPEATS = 64, 3, 60, 32, 0, 100, 60
NETWORKS = {
    "mobilenet-v1 0.25": Architecture(family="mobilenet-v1", alpha=0.25, size=SIZE),
    "mobilenet-v2 0.35": Architecture(size=SIZE),
    "mobilenet-v3-small 0.5": Architecture(family="mobilenet-v3-small", alpha=0.5, size=SIZE),
    "mobilenet-v3-small 0.5 silu": Architecture(family="mobilenet-v3-small", alpha=0.5, size=SIZE, activation="silu"),
    "mobilenet-v3-small 0.5 minimalistic": Architecture(
        family="mobilenet-v3-small", alpha=0.5, size=SIZE, minimalistic=True
    ),
    "mobilenet-v3-large 0.5 silu": Architecture(family="mobilenet-v3-large", alpha=0.5, size=SIZE, activation="silu"),
    **{f"mobilenet-v2 0.35, {head}": Architecture(size=SIZE, head=head) for head in HEADS[1:]},
    "mobilenet-v2 0.35, 24x40": Architecture(size=24, size_width=40),
    "resnet-50": Architecture(family="resnet-50", size=SIZE),
    "efficientnet-b0": Architecture(family="efficientnet-b0", size=SIZE),
    "vit-tiny": Architecture(family="vit-tiny", size=SIZE),
}
RESULTS = Path(__file__).with_name("results.md")
ARTIFACTS = ("litert-fp32", "onnx-fp32", "openvino-fp16", "litert-int8", "onnx-int8", "openvino-int8")


def textures(count: int, height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, height, width, 3) uint8 and labels (count,): stripes down, stripes across, spots, on noise."""
    rng = np.random.default_rng(seed)
    labels, (y, x) = np.arange(count) % CLASSES, np.mgrid[:height, :width]
    images = []
    for label in labels:
        down = np.sin(x / rng.uniform(1, 2) + rng.uniform(0, 6))
        across = np.sin(y / rng.uniform(1, 2) + rng.uniform(0, 6))
        wave = (down, across, down * across)[label] * rng.uniform(20, 60)
        images.append(rng.uniform(90, 150) + wave[:, :, None] + rng.normal(0, 12, (height, width, 3)))
    return np.clip(images, 0, 255).astype(np.uint8), labels


def train_some(model, architecture: Architecture) -> tuple[float, float]:
    """Loss of the first and of the last steps; the model is then trained a little and its statistics are settled."""
    keras, spec = load_keras(), architecture.input_spec()
    images, labels = textures(STEPS * BATCH // 4, spec.height, spec.width, SEED)
    rate = 3e-4 if architecture.family == "vit-tiny" else 1e-3
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    values = np.concatenate(list(tensors(images, spec)))
    order, losses = np.random.default_rng(SEED), []
    for _ in range(STEPS):
        rows = order.integers(0, len(labels), BATCH)
        losses.append(float(model.train_on_batch(values[rows], labels[rows])))
    settle_statistics(model, images[:128], spec)
    return float(np.mean(losses[:5])), float(np.mean(losses[-5:]))


def multiplications(path: Path) -> float:
    """Million multiplications of one image, counted from the shapes of the ONNX graph's convolutions and products."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph
    shapes = {each.name: [side.dim_value for side in each.type.tensor_type.shape.dim]
              for each in (*graph.value_info, *graph.input, *graph.output)}  # fmt: skip
    shapes |= {each.name: list(each.dims) for each in graph.initializer}
    total = 0
    for node in graph.node:
        out = int(np.prod(shapes.get(node.output[0], [0])))
        if node.op_type == "Conv":
            total += out * int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("MatMul", "Gemm", "Einsum"):
            total += out * shapes.get(node.input[0], [0])[-1]
    return total / 1e6


def judge(name: str, export: Export, reference: np.ndarray, images: np.ndarray, folder: Path) -> tuple[str, str]:
    """Error and latency of one artifact as two cells: mean error and largest as shares of the spread, p50 in ms."""
    runtime, _ = precision_of(name)
    try:
        with held_back():
            files = CONVERTERS.load(name)(export, folder)
    except LinesideError as error:
        return f"refused: {error}", "-"
    except Exception as error:  # noqa: BLE001  what a converter cannot do is a finding of this table
        return f"fails: {type(error).__name__}", "-"
    try:
        model = open_runtime(runtime, files[0], export.spec, threads=1)
    except LinesideError as error:
        return f"does not load: {error}", "-"
    got = np.array([logits(model, image) for image in images])
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        logits(model, images[0])
        times.append((time.perf_counter() - began) * 1e3)
    model.close()
    error = np.abs(got - reference) / check_spread(reference)
    agree = float(np.mean(got.argmax(axis=1) == reference.argmax(axis=1)))
    share = f"{error.max():.0e}" if precision_of(name)[1] == "fp32" else f"{error.mean():.3f}, {agree:.2f}"
    mib = sum(path.stat().st_size for path in files) / 2**20
    return share, f"{mib:.1f} MiB, {np.median(times):.2f} ms"


def measure(name: str, architecture: Architecture) -> str:
    """One line of the table."""
    keras = load_keras()
    keras.backend.clear_session()
    keras.utils.set_random_seed(SEED)
    began = time.monotonic()
    model = build(architecture, CLASSES)
    seconds, spec = time.monotonic() - began, architecture.input_spec()
    first, last = train_some(model, architecture)
    images, _ = textures(IMAGES, spec.height, spec.width, SEED + 1)
    reference = keras_logits(model, spec, images)
    spread, cells = check_spread(reference), []
    with tempfile.TemporaryDirectory() as scratch:
        export = Export(model, spec, textures(64, spec.height, spec.width, SEED + 2)[0], Path(scratch))
        for artifact in ARTIFACTS:
            folder = Path(scratch) / artifact
            folder.mkdir()
            cells += judge(artifact, export, reference, images, folder)
            print(f"{name}: {artifact}: {cells[-2]}; {cells[-1]}", file=sys.stderr, flush=True)
        million = multiplications(Path(scratch) / "onnx-fp32" / "model.onnx")
    parameters = model.count_params() / 1e6
    return (
        f"| {name} | {parameters:.2f} | {million:.1f} | {seconds:.1f} | {first:.2f} to {last:.2f} | {spread:.2f} | "
        + " | ".join(cells)
        + " |"
    )


def _kept() -> dict[str, str]:
    """The lines of results.md by network: with --only, the others stay as they were measured."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}


def partial(rows: dict[str, str]) -> list[str]:
    """What of the table is not measured: a paragraph, or nothing."""
    absent = [name for name in NETWORKS if name not in rows]
    holes = [name for name, row in rows.items() if "| - |" in row]
    said = [f"not measured at all: {', '.join(absent)}"] * bool(absent)
    said += [f"in part (-): {', '.join(holes)}"] * bool(holes)
    return ["", f"This table is partial; {'; '.join(said)}."] if said else []


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="also write results.md")
    parser.add_argument("--only", help="networks whose name holds this text")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    rows = _kept() if given.only else {}
    for name, architecture in NETWORKS.items():
        if given.only is None or given.only in name:
            rows[name] = measure(name, architecture)
            gc.collect()
    lines = [rows[name] for name in NETWORKS if name in rows]
    versions = package_versions()
    heads = [f"{artifact} | size, latency" for artifact in ARTIFACTS]
    columns = ["network", "million parameters", "MMAC", "build s", "loss", "spread", *" | ".join(heads).split(" | ")]
    text = "\n".join(
        [
            "# Families, heads and teachers: what each costs and what becomes of it",
            "",
            f"{SIZE} px unless stated, {CLASSES} classes of drawn textures, {STEPS} steps of {BATCH} images from drawn "
            f"weights (loss: the first and the last five), seed {SEED}; {IMAGES} other images through the device's "
            f"runtimes, 1 thread, batch 1. {os.cpu_count()} cores shared with other work, load {load:.1f}; keras "
            f"{versions['keras']}. Wall time, measured: compare within a line, not with another machine. Where a "
            "line was measured again (--only), the load is that of the last time.",
            *partial(rows),
            "",
            "fp32: largest difference of a logit from Keras as a share of the logits' spread. fp16 and int8: mean "
            "difference likewise, then the share of images with Keras' class. MMAC: counted from the ONNX graph.",
            "",
            "| " + " | ".join(columns) + " |",
            "| " + " | ".join("---" for _ in columns) + " |",
            *lines,
        ]
    )
    print(text)
    if given.write:
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
