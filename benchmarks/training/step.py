"""What the fused normalisation saves in a training step: both forms in turn in one process, seeded.

python benchmarks/training/step.py [--write]
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from toolkit.framework import load_keras, package_versions
from toolkit.models.architecture import Architecture
from toolkit.models.networks import build
from toolkit.training.fused import fused_normalization

BATCH, STEPS, SEED = 32, 12, 0


def compile_step(size: int, fused: bool):
    """A compiled step of MobileNetV2 0.35 at `size` px: one batch of random images to its loss."""
    keras = load_keras()
    import tensorflow as tf

    keras.utils.set_random_seed(SEED)
    model = build(Architecture(size=size), 5)
    optimizer = keras.optimizers.AdamW(1e-3)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(SEED)
    images = tf.constant(rng.normal(size=(BATCH, size, size, 3)).astype(np.float32))
    labels = tf.constant(rng.integers(0, 5, BATCH))

    def step():
        with tf.GradientTape() as tape, fused_normalization() if fused else nullcontext():
            answers = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, answers))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return tf.function(step, autograph=False)


def measure(size: int) -> str:
    """One line of the table."""
    steps = [compile_step(size, fused) for fused in (False, True)]
    times: list[list[float]] = [[], []]
    for _ in range(STEPS):
        for kind, step in enumerate(steps):
            began = time.perf_counter()
            float(step())
            times[kind].append((time.perf_counter() - began) * 1e3)
    plain, fused = (np.array(each[2:]) for each in times)
    return f"| {size} | {np.median(plain):.0f} | {np.median(fused):.0f} | {np.median(fused / plain):.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="also write results.md")
    given = parser.parse_args()
    versions = package_versions()
    lines = [
        "# A training step: Keras' own normalisation and the fused kernel",
        "",
        f"MobileNetV2 0.35, batch {BATCH}, {STEPS - 2} steps of each in turn, seed {SEED}; {os.cpu_count()} cores, "
        f"shared with other work; load {os.getloadavg()[0]:.1f}; keras {versions['keras']}. Wall time, measured.",
        "",
        "| px | Keras ms | fused ms | ratio (median of pairs) |",
        "| --- | --- | --- | --- |",
        *(measure(size) for size in (64, 96)),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.write:
        (Path(__file__).parent / "results.md").write_text(text)


if __name__ == "__main__":
    main()
