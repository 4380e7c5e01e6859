"""Recipes: defaults that depend on the start, ranges, and what counts as another training."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.contract.errors import BadInput, NotFound
from toolkit.models.architecture import Architecture
from toolkit.training.recipe import Distil, Recipe, differences, make_recipe


def test_defaults_are_gentle_after_a_probe() -> None:
    scratch = make_recipe(Architecture())
    probed = make_recipe(Architecture(), weights="imagenet")
    assert probed.lr < scratch.lr / 10
    assert probed.epochs < scratch.epochs


def test_weights_are_known_by_content_not_by_path(tmp_path: Path) -> None:
    documents = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w.h5").write_bytes(b"same")
        documents.append(make_recipe(Architecture(), weights=str(tmp_path / folder / "w.h5")).document())
    assert documents[0] == documents[1]
    assert str(tmp_path) not in str(documents[0])


def test_differences_name_what_changed() -> None:
    one, two = (make_recipe(Architecture(size=size), seed=size).document() for size in (64, 96))
    assert differences(one, two) == ["seed was 64 and is 96", "size was 64 and is 96"]
    assert differences(one, one) == []


def test_what_an_older_document_lacks_was_the_default() -> None:
    now = make_recipe(Architecture()).document()
    known = ("family", "alpha", "size", "epochs", "batch", "lr", "patience", "flips", "seed")
    older = {name: now[name] for name in known}
    older |= {"weights": "", "weights_sha256": "", "decay": 1e-4, "dropout": 0.1, "smoothing": 0.0}
    assert differences(older, now) == []
    other = make_recipe(Architecture(), loss="focal", ema=0.9).document()
    assert differences(older, other) == ["ema was 0.0 and is 0.9", "loss was class-balanced and is focal"]


def test_a_run_of_the_first_version_is_the_same_training() -> None:
    older = {"family": "mobilenet-v2", "alpha": 0.35, "size": 96, "minimalistic": False, "activation": None}
    older |= {"weights": "", "weights_sha256": "", "epochs": 40, "batch": 32, "lr": 3e-3, "patience": 10}
    older |= {"decay": 1e-4, "dropout": 0.1, "smoothing": 0.0, "flips": "both", "seed": 0}
    now = make_recipe(Architecture()).document()
    assert differences(older, now) == [] == differences(now, older)
    assert differences(older, make_recipe(Architecture(head="parts")).document()) == ["head was pooled and is parts"]


def test_a_rate_suits_its_optimizer() -> None:
    rates = {name: make_recipe(Architecture(), optimizer=name).lr for name in ("adamw", "sgd", "lion")}  # type: ignore[arg-type]
    assert rates["lion"] < rates["adamw"] < rates["sgd"]
    assert make_recipe(Architecture(), optimizer="sgd", lr=0.2).lr == 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 1}, "batch must be 2 to 4096, got 1"),
        ({"lr": 0.0}, "lr must be"),
        ({"lr": float("nan")}, "lr must be"),
        ({"epochs": 0}, "epochs must be 1"),
        ({"patience": 0}, "patience must be"),
        ({"seed": -1}, "seed must be"),
        ({"ema": 1.0}, "ema must be 0 to 0.99999, got 1"),
        ({"optimizer": "adam"}, "optimizer must be one of adamw, sgd, rmsprop, lamb, lion, got 'adam'"),
        ({"stop_on": "f1"}, "stop_on must be one of macro-f1"),
        ({"smote": True}, "without --weights there is no probe"),
        ({"distil": Distil(teachers=[])}, "distil names no teacher"),
        ({"distil": Distil(teachers=["a"], weight=2)}, "distil: weight must be 0 to 1, got 2"),
        ({"distil": Distil(teachers=["a"]), "mixup": 0.2}, "distil goes without mixup"),
        ({"momemtum": 0.5}, "recipe: no 'momemtum'; known are"),
    ],
)
def test_numbers_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make_recipe(Architecture(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Architecture(family="resnet"), "no 'resnet'; known are mobilenet-v1"),
        (Architecture(alpha=0), "width must be 0.05 to 2, got 0"),
        (Architecture(size=15), "size must be 16 to 1024 px, got 15"),
        (Architecture(minimalistic=True), "belong to mobilenet-v3"),
    ],
)
def test_architectures_that_cannot_be(architecture: Architecture, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make_recipe(architecture)


def test_probe_alone_needs_no_epoch() -> None:
    assert make_recipe(Architecture(), weights="imagenet", epochs=0).epochs == 0


def test_weights_that_are_not_there() -> None:
    with pytest.raises(NotFound, match=r"no such file of weights"):
        make_recipe(Architecture(), weights="nowhere.h5")


def test_document_is_flat() -> None:
    document = Recipe(epochs=3, lr=0.1, patience=2).document()
    assert {"family", "alpha", "size", "epochs", "lr"} <= document.keys()
    assert not any(isinstance(value, dict) for value in document.values())
