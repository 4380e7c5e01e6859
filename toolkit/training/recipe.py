"""The recipe of a training: everything that decides what comes out, besides the images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from device_agent.contract.errors import BadInput, NotFound
from toolkit.models.architecture import Architecture
from toolkit.paths import reading
from toolkit.training.augment import Flips

Task = Literal["classes", "labels", "hierarchy"]
Optimizer = Literal["adamw", "sgd", "rmsprop", "lamb", "lion"]
Schedule = Literal["cosine", "step", "plateau"]
StopOn = Literal["macro-f1", "accuracy", "balanced-accuracy", "loss", "defect-recall"]
Loss = Literal["cross-entropy", "focal", "class-balanced", "logit-adjusted", "asymmetric"]
Sampling = Literal["natural", "balanced", "oversample", "undersample"]
# a rate that suits AdamW suits the others times this: SGD sums raw gradients, Lion and RMSprop step by their sign
RATES: dict[str, float] = {"adamw": 1.0, "sgd": 15.0, "rmsprop": 0.3, "lamb": 1.0, "lion": 0.1}


class Distil(msgspec.Struct, frozen=True, kw_only=True):
    """Teachers of a distillation: the digests of their model files, the temperature of the soft answers, the share of
    the loss that they have (`weight`, 0 to 1), and the weight of the distance between features (0: logits alone)."""

    teachers: list[str]
    temperature: float = 4.0
    weight: float = 0.5
    feature_weight: float = 0.0


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the images that decides the weights.

    `weights` is "", "imagenet" or the name of a file, and `weights_sha256` its content. `epochs`, images in a step
    (`batch`), peak learning rate (`lr`) and how it falls (`schedule`); the training ends after `patience` epochs
    without gain in `stop_on`. `decay` is the weight decay, `momentum` that of sgd and rmsprop, `dropout` stands before
    the last layer, `smoothing` is that of the labels. `loss`, with the exponent `focal_gamma` of focal and the strength
    `adjust_tau` of logit-adjusted. `sampling` says how often a class is seen, `smote` draws features between neighbours
    for the probe. `flips` are the mirror images that the line can produce, `rand_augment` is the strength 0 to 10 of
    further variations, `mixup` and `cutmix` are alphas; with `views` V > 0 epoch e shows variation e mod V of each
    image, with 0 a new one every time. `ema` is the decay of the average of the weights, 0 for none. `mixed_precision`
    computes in half precision; the weights stay float32.
    """

    architecture: Architecture = Architecture()
    weights: str = ""
    weights_sha256: str = ""
    task: Task = "classes"
    epochs: int
    batch: int = 32
    lr: float
    patience: int
    optimizer: Optimizer = "adamw"
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    stop_on: StopOn = "macro-f1"
    decay: float = 1e-4
    dropout: float = 0.0
    smoothing: float = 0.0
    loss: Loss = "class-balanced"
    focal_gamma: float = 2.0
    adjust_tau: float = 1.0
    sampling: Sampling = "natural"
    smote: bool = False
    flips: Flips = "both"
    rand_augment: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    views: int = 0
    ema: float = 0.0
    mixed_precision: bool = False
    distil: Distil | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            BadInput: the first number that is out of its range, with the range; a name that is not known; two options
                that exclude each other.
        """
        self.architecture.check()
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise BadInput(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name, (low, high) in (RANGES | {"epochs": (0 if self.weights else 1, 10_000)}).items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadInput(f"{name} must be {low:g} to {high:g}, got {value:g}")
        if self.smote and not self.weights:
            raise BadInput("smote draws features for the probe; without --weights there is no probe")
        if self.distil is not None:
            self._check_distil(self.distil)

    def _check_distil(self, distil: Distil) -> None:
        if not distil.teachers:
            raise BadInput("distil names no teacher")
        for name, (low, high) in {"temperature": (0.1, 100), "weight": (0, 1), "feature_weight": (0, 1000)}.items():
            value = getattr(distil, name)
            if not low <= value <= high:
                raise BadInput(f"distil: {name} must be {low:g} to {high:g}, got {value:g}")
        if self.mixup or self.cutmix:
            raise BadInput("distil goes without mixup and cutmix: the teacher answered to whole images")

    def document(self) -> dict[str, Any]:
        """The recipe as run.json holds it: plain names and numbers, one level deep but for `distil`."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        architecture: dict[str, Any] = plain.pop("architecture")
        return architecture | plain


CHOICES: dict[str, tuple[str, ...]] = {
    "task": get_args(Task),
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "stop_on": get_args(StopOn),
    "loss": get_args(Loss),
    "sampling": get_args(Sampling),
    "flips": get_args(Flips),
}
RANGES: dict[str, tuple[float, float]] = {
    "batch": (2, 4096),
    "lr": (1e-7, 10.0),
    "patience": (1, 10_000),
    "momentum": (0, 0.999),
    "decay": (0, 1),
    "dropout": (0, 0.9),
    "smoothing": (0, 0.5),
    "focal_gamma": (0, 10),
    "adjust_tau": (0, 10),
    "rand_augment": (0, 10),
    "mixup": (0, 10),
    "cutmix": (0, 10),
    "views": (0, 10_000),
    "ema": (0, 0.99999),
    "seed": (0, 2**31 - 1),
}


def make_recipe(
    architecture: Architecture,
    *,
    weights: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    patience: int | None = None,
    optimizer: Optimizer = "adamw",
    **given: Any,
) -> Recipe:
    """A recipe with what is left open filled in: from given weights a probe and then eight gentle epochs (0 for the
    probe alone), else a full training from scratch. `given` are other fields.

    >>> make_recipe(Architecture()).epochs
    40

    Raises:
        BadInput: a number out of range, an unknown name.
        NotFound: no such file of weights.
    """
    unknown = given.keys() - set(Recipe.__struct_fields__)
    if unknown:
        raise BadInput(f"recipe: no {min(unknown)!r}; known are {', '.join(Recipe.__struct_fields__)}")
    pretrained = weights is not None
    epochs = epochs if epochs is not None else (8 if pretrained else 40)
    defaults = {"dropout": 0.0, "ema": 0.99 if epochs else 0.0} if pretrained else {"dropout": 0.1}
    options: dict[str, Any] = defaults | given
    recipe = Recipe(
        architecture=architecture,
        weights="" if weights is None else Path(weights).name,
        weights_sha256=_sha256(weights) if weights not in (None, "imagenet") else "",
        epochs=epochs,
        lr=lr if lr is not None else (1e-4 if pretrained else 3e-3) * RATES.get(optimizer, 1.0),
        patience=patience if patience is not None else max(1, min(10, epochs)),
        optimizer=optimizer,
        **options,
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
    """What differs between two recipe documents, one phrase each; a field that an older document lacks has its default.

    >>> differences({"epochs": 4, "lr": 0.1}, {"epochs": 8, "lr": 0.1, "optimizer": "adamw"})
    ['epochs was 4 and is 8']
    """
    defaults = Recipe(epochs=0, lr=0.0, patience=1).document()
    sides = [
        {name: side.get(name, defaults.get(name)) for name in before.keys() | now.keys()} for side in (before, now)
    ]
    return [
        f"{name} was {sides[0][name]} and is {sides[1][name]}"
        for name in sorted(sides[0])
        if sides[0][name] != sides[1][name]
    ]


def recipe_of(document: dict[str, Any]) -> Recipe:
    """The recipe of a document that `Recipe.document` gave; what this version does not know is left out.

    >>> recipe_of(Recipe(epochs=4, lr=0.1, patience=2, seed=7).document()).seed
    7

    Raises:
        BadInput: a value of another kind.
    """
    names = set(Architecture.__struct_fields__)
    shape = {name: value for name, value in document.items() if name in names}
    rest = {name: value for name, value in document.items() if name not in names}
    try:
        return msgspec.convert(rest | {"architecture": shape}, Recipe)
    except msgspec.ValidationError as error:
        raise BadInput(f"the run's recipe cannot be read: {str(error).lower()}") from error
