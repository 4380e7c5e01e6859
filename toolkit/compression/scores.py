"""How much each channel matters to a trained network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.compression.channels import Channels

Method = Literal["taylor", "l1"]
Scores = dict[str, NDArray[np.float64]]
Batch = tuple[NDArray[np.float32], NDArray[np.float32]]
Loss = Callable[[Any, Any], Any]


def taylor(model: Any, channels: Channels, batches: Iterable[Batch], loss: Loss) -> Scores:
    """What the loss would change by, to first order, without each channel: the mean over batches of |x dL/dx|, for
    each group (width,), >= 0.

    Of a channel x that is read by kernels W, x dL/dx is the sum of W dL/dW over all weights that read it. So one
    gradient a batch gives it for every group, after normalisation, activation and gate, and for all places of a
    residual stream together. Where a normalisation feeds the readers it is gamma dgamma + beta dbeta (Molchanov et al.
    2019, Importance estimation for neural network pruning).

    Args:
        batches: images (b, h, w, channels) as the model takes them, and targets (b, classes); small ones tell more.
        loss: of targets and logits, (b,).

    Raises:
        BadInput: a gradient that is not finite.
    """
    import tensorflow as tf

    groups = [group for group in channels.groups.values() if group.kind != "fixed"]
    readers = {name: model.get_layer(name).kernel.value for group in groups for name in group.takers}

    def find(images: Any, targets: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(readers.values()))
            total = tf.reduce_mean(loss(targets, model(images, training=False)))
        found = tape.gradient(total, list(readers.values()))
        products = {name: kernel * slope for (name, kernel), slope in zip(readers.items(), found, strict=True)}
        axes = {name: [*range(len(each.shape) - 2), len(each.shape) - 1] for name, each in products.items()}
        sums = {name: tf.reduce_sum(each, axes[name]) for name, each in products.items()}
        return [tf.abs(tf.add_n([sums[name] for name in group.takers])) for group in groups]

    slopes = tf.function(find, autograph=False)
    totals = [np.zeros(group.width) for group in groups]
    for count, (images, targets) in enumerate(batches, 1):
        for total, part in zip(totals, slopes(tf.constant(images), tf.constant(targets)), strict=True):
            total += (part.numpy() - total) / count
    scores = dict(zip((group.name for group in groups), totals, strict=True))
    if bad := [name for name, each in scores.items() if not np.isfinite(each).all()]:
        raise BadInput(f"the scores of {bad[0]} are not finite; the model's gradients overflow")
    return scores


def l1(model: Any, channels: Channels) -> Scores:
    """The mean size of the weights that make each channel, over its group's mean: (width,), 1 on average (Li et al.
    2017, Pruning filters for efficient ConvNets)."""
    found = {}
    for group in channels.groups.values():
        if group.kind != "fixed":
            kernels = [np.abs(np.asarray(model.get_layer(name).kernel, np.float64)) for name in group.makers]
            sizes = np.sum([each.mean(axis=(0, 1, 2)) for each in kernels], axis=0)
            found[group.name] = sizes / max(float(sizes.mean()), 1e-12)
    return found
