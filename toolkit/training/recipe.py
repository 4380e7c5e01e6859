"""The recipe of a training: everything that decides what comes out, besides the images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from device_agent.contract.errors import BadInput, NotFound
from toolkit.models.networks import Architecture
from toolkit.paths import reading
from toolkit.training.augment import Flips


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Epochs, batch, peak learning rate `lr`, epochs without gain after which to stop (`patience`), weight decay,
    dropout before the last layer, label smoothing 0 to 1, the mirror images that the line can produce (`flips`).
    `weights` is "", "imagenet" or the name of a file, and `weights_sha256` its content."""

    architecture: Architecture = Architecture()
    weights: str = ""
    weights_sha256: str = ""
    epochs: int
    batch: int = 32
    lr: float
    patience: int
    decay: float = 1e-4
    dropout: float = 0.0
    smoothing: float = 0.0
    flips: Flips = "both"
    seed: int = 0

    def check(self) -> None:
        """Refuse numbers that cannot be meant.

        Raises:
            BadInput: the first one that is out of its range, with the range.
        """
        self.architecture.check()
        ranges = {"batch": (2, 4096), "lr": (1e-7, 1.0), "patience": (1, 10_000), "decay": (0, 1), "dropout": (0, 0.9)}
        ranges |= {"smoothing": (0, 0.5), "seed": (0, 2**31 - 1), "epochs": (0 if self.weights else 1, 10_000)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadInput(f"{name} must be {low:g} to {high:g}, got {value:g}")

    def document(self) -> dict[str, Any]:
        """The recipe as run.json holds it: plain names and numbers, one level deep."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        architecture: dict[str, Any] = plain.pop("architecture")
        return architecture | plain


def make_recipe(
    architecture: Architecture,
    *,
    weights: str | None = None,
    epochs: int | None = None,
    batch: int = 32,
    lr: float | None = None,
    patience: int | None = None,
    flips: Flips = "both",
    seed: int = 0,
) -> Recipe:
    """A recipe with what is left open filled in: from given weights the probe alone, else a full training from
    scratch. Fine-tuning is for the asking: on three folds of X-SDD it gained half a point, well within the
    interval, and int8 logits then erred by a quarter of their spread (benchmarks/xsdd).

    >>> make_recipe(Architecture()).epochs
    40

    Raises:
        BadInput: a number out of range.
        NotFound: no such file of weights.
    """
    pretrained = weights is not None
    epochs = epochs if epochs is not None else (0 if pretrained else 40)
    recipe = Recipe(
        architecture=architecture,
        weights="" if weights is None else Path(weights).name,
        weights_sha256=_sha256(weights) if weights not in (None, "imagenet") else "",
        epochs=epochs,
        batch=batch,
        lr=lr if lr is not None else (3e-5 if pretrained else 3e-3),
        patience=patience if patience is not None else max(1, min(10, epochs)),
        dropout=0.0 if pretrained else 0.1,
        flips=flips,
        seed=seed,
    )
    recipe.check()
    return recipe


def _sha256(weights: str | None) -> str:
    path = Path(str(weights))
    with reading(path):
        if not path.is_file():
            raise NotFound(f"{path}: no such file of weights")
        return hashlib.sha256(path.read_bytes()).hexdigest()


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two recipe documents, one phrase each.

    >>> differences({"epochs": 4, "lr": 0.1}, {"epochs": 8, "lr": 0.1})
    ['epochs was 4 and is 8']
    """
    return [
        f"{name} was {before.get(name)} and is {now.get(name)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
