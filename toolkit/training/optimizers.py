"""Optimizers by name. Gradients come to them clipped, and summed over devices."""

from __future__ import annotations

from typing import Any

from toolkit.framework import load_keras
from toolkit.training.recipe import Recipe

NO_DECAY = ["bias", "gamma", "beta"]


def make_optimizer(recipe: Recipe, variables: list[Any]) -> Any:
    """The recipe's Keras optimizer, built for `variables`: adamw (Loshchilov & Hutter 2019), sgd with Nesterov's
    momentum, rmsprop with momentum, lamb (You et al. 2020) or lion (Chen et al. 2023), each with decoupled weight decay
    on kernels alone."""
    optimizers = load_keras().optimizers
    options: dict[str, Any] = {"learning_rate": recipe.lr, "weight_decay": recipe.decay}
    if recipe.optimizer == "sgd":
        optimizer = optimizers.SGD(momentum=recipe.momentum, nesterov=recipe.momentum > 0, **options)
    elif recipe.optimizer == "rmsprop":
        optimizer = optimizers.RMSprop(momentum=recipe.momentum, **options)
    else:
        optimizer = {"adamw": optimizers.AdamW, "lamb": optimizers.Lamb, "lion": optimizers.Lion}[recipe.optimizer](
            **options
        )
    optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    optimizer.build(variables)
    return optimizer
