"""Images changed on purpose by a few grey levels: found on the Keras model, judged on it and on the artifact.

RUN/robustness/attacks.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from toolkit.artifacts import open_artifact
from toolkit.data.images import load
from toolkit.evaluation.answers import KERAS, infer
from toolkit.evaluation.intervals import Interval, share_interval
from toolkit.runs import Run

Attack = Literal["fgsm", "pgd"]
STEPS, BATCH = 10, 32
LEVELS = (1, 2, 4, 8)
Progress = Callable[[int, int], None]
Climb = Callable[..., tuple[Any, Any]]


class Attacked(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy in [0, 1] on images changed by at most `levels` grey levels of 255 a value; the intervals are 95 %, over
    groups. Level 0 is the images as they are. `models` are "keras", on which the change was found, and the artifacts to
    which it was carried over."""

    attack: Attack
    levels: int
    accuracy: dict[str, float]
    intervals: dict[str, Interval]


class Attacks(msgspec.Struct, frozen=True, kw_only=True):
    """Every attack at every strength, on `images` validation images in `groups`."""

    schema: str = "1.0"
    data_sha256: str
    images: int
    groups: int
    steps: int
    results: list[Attacked]
    provenance: Literal["measured"] = "measured"


def measure_attacks(
    run: Run,
    names: Sequence[str],
    *,
    levels: Sequence[int] = LEVELS,
    steps: int = STEPS,
    most_images: int = 500,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> Attacks:
    """Attack up to `most_images` validation images, drawn by `seed`, with FGSM and PGD, and ask the artifacts too.

    Raises:
        NotFound: an artifact or the data are not there.
        BadInput: a strength that is no number of grey levels, or the model is not differentiable.
        MissingPackage: TensorFlow is not installed.
    """
    if not levels or not all(1 <= level <= 255 for level in levels):
        raise BadInput(f"a strength must be 1 to 255 grey levels, got {', '.join(map(str, levels)) or 'none'}")
    dataset, rows, rng = run.dataset(), run.rows("val"), np.random.default_rng(seed)
    rows = rows[np.sort(rng.permutation(len(rows))[:most_images])]
    images = load(dataset, run.record.input, rows)
    labels, groups = np.asarray(dataset.labels, np.int64)[rows], np.asarray(dataset.groups)[rows]
    model = run.model()
    climb = climbing(model, run.record.input)
    attacks: tuple[Attack, ...] = ("fgsm", "pgd")
    plans = [(attacks[0], 0), *((attack, level) for attack in attacks for level in levels)]
    results = []
    for place, (attack, level) in enumerate(plans):
        changed = images
        if level:
            count = 1 if attack == "fgsm" else steps
            changed = find_changes(climb, images, labels, level, steps=count, rng=rng)
        answers = {KERAS: _predict(model, changed, run.record.input)}
        answers |= {name: _ask(run, name, changed, threads) for name in names}
        right = {name: logits.argmax(axis=1) == labels for name, logits in answers.items()}
        results.append(
            Attacked(
                attack=attack,
                levels=level,
                accuracy={name: float(one.mean()) for name, one in right.items()},
                intervals={name: share_interval(one, groups) for name, one in right.items()},
            )
        )
        if progress is not None:
            progress(place + 1, len(plans))
    return Attacks(
        data_sha256=run.record.data_sha256,
        images=len(labels),
        groups=len(np.unique(groups)),
        steps=steps,
        results=results,
    )


def climbing(model: Any, spec: InputSpec) -> Climb:
    """The compiled gradient of a model's cross-entropy by its fitted images, and what the model says."""
    import tensorflow as tf

    def slope(values: Any, truth: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(values)
            logits = model(values * spec.scale + spec.offset, training=False)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=truth, logits=logits)
        return tape.gradient(loss, values), tf.argmax(logits, axis=1)

    pixels = tf.TensorSpec((None, spec.height, spec.width, spec.channels), tf.float32)
    return tf.function(slope, input_signature=[pixels, tf.TensorSpec((None,), tf.int64)])  # type: ignore[no-any-return]


def find_changes(
    climb: Climb,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    level: int,
    *,
    steps: int,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Images that raise the cross-entropy of the model, each value at most `level` from where it was.

    One step is the fast gradient sign method (Goodfellow et al. 2015); more are projected gradient descent from a
    random start inside the bound (Madry et al. 2018). The last step is rounded to whole grey levels, which a camera
    delivers; images that are answered wrongly as they are, are left as they are.

    Args:
        climb: of the model, by `climbing`.
        images: (n, h, w, channels) uint8, fitted.
        labels: (n,) true classes.
        level: of 255.

    Returns:
        (n, h, w, channels) uint8.
    """
    import tensorflow as tf

    out = images.copy()
    for at in range(0, len(images), BATCH):
        plain = images[at : at + BATCH].astype(np.float32)
        truth = np.asarray(labels[at : at + BATCH], np.int64)
        low, high = np.maximum(plain - level, 0), np.minimum(plain + level, 255)
        start = plain if steps == 1 else plain + rng.uniform(-level, level, plain.shape).astype(np.float32)
        values = np.clip(start, low, high)
        step = float(level) if steps == 1 else 2.5 * level / steps
        for _ in range(steps):
            gradient, _ = climb(tf.constant(values), tf.constant(truth))
            if gradient is None:
                raise BadInput("the model gives no gradient for its input; it cannot be attacked")
            values = np.clip(values + step * np.sign(gradient.numpy()), low, high)
        _, said = climb(tf.constant(plain), tf.constant(truth))
        fooled = np.clip(np.rint(values), low, high).astype(np.uint8)
        was_right = said.numpy() == truth
        out[at : at + BATCH][was_right] = fooled[was_right]
    return out


def _predict(model: Any, images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    from toolkit.models.answers import predict

    return np.asarray(predict(model, images, spec), np.float32)


def _ask(run: Run, name: str, images: NDArray[np.uint8], threads: int) -> NDArray[np.float32]:
    runtime = open_artifact(run, name).open(run.record.input, threads=threads)
    try:
        return infer(runtime, images)
    finally:
        runtime.close()
