"""A recipe by the data: what is chosen where, and that every choice is said and can be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.data.images import Dataset
from toolkit.models.architecture import Architecture
from toolkit.training.auto import DECAY, REPEATS, STEPS, TAU, Facts, choose, facts_of
from toolkit.training.recipe import make_recipe


def _facts(counts: list[int], **changes: Any) -> Facts:
    images = sum(counts)
    fields = {"images": images, "groups": images, "counts": counts, "size_px": 96, "pretrained": False}
    return Facts(**(fields | changes))


@pytest.mark.parametrize(
    ("counts", "task", "loss", "sampling"),
    [
        ([100, 100, 80], "classes", "cross-entropy", None),
        ([63, 10], "classes", "class-balanced", None),
        ([99, 10], "classes", "class-balanced", None),
        ([101, 10], "classes", "logit-adjusted", "balanced"),
        ([6400, 112, 1201], "hierarchy", "logit-adjusted", "balanced"),
        ([6400, 112, 1201], "labels", "class-balanced", None),
    ],
)
def test_the_ratio_of_the_classes_decides(counts: list[int], task: str, loss: str, sampling: str | None) -> None:
    overrides = choose(_facts(counts, task=task)).overrides
    assert overrides["loss"] == loss and overrides.get("sampling") == sampling
    assert overrides.get("adjust_tau") == (TAU if loss == "logit-adjusted" else None)


def test_rare_images_are_not_shown_until_they_are_known_by_heart() -> None:
    counts, epochs = [900, 30], int(REPEATS * 2 * 30 / 930)
    few, many = (choose(_facts(counts, epochs=number)) for number in (epochs, epochs + 1))
    assert few.overrides["sampling"] == "balanced" and many.overrides["sampling"] == "natural"
    assert many.overrides["adjust_tau"] == few.overrides["adjust_tau"] == TAU
    assert "by heart" in many.reasons[0] and f"shown {(epochs + 1) * 930 / 60:.0f} times" in many.reasons[0]


def test_a_long_training_from_scratch_averages_its_weights_and_others_do_not() -> None:
    assert choose(_facts([9, 9], steps=STEPS)).overrides["ema"] == DECAY
    assert "ema" not in choose(_facts([9, 9], steps=STEPS - 1)).overrides
    assert "ema" not in choose(_facts([9, 9], steps=STEPS, pretrained=True)).overrides


@pytest.mark.parametrize("counts", [[50, 50], [60, 20], [900, 30], [5, 0]])
@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("task", ["classes", "labels", "hierarchy"])
def test_every_choice_has_a_reason_and_makes_a_recipe(counts: list[int], pretrained: bool, task: str) -> None:
    choice = choose(_facts(counts, pretrained=pretrained, task=task, steps=5000, groups=40))
    assert len(choice.reasons) >= 2 and all(reason[0].islower() or reason[0].isdigit() for reason in choice.reasons)
    recipe = make_recipe(Architecture(), task=task, **choice.overrides)
    assert all(getattr(recipe, name) == value for name, value in choice.overrides.items())


def test_figures_of_the_data_stand_in_the_reasons() -> None:
    text = " ".join(choose(_facts([3000, 100], groups=1033)).reasons)
    assert "30 to 1" in text and "100 images in the rarest class" in text and "1033 parts" in text


def test_facts_are_those_of_the_training_images() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    dataset = Dataset(
        dir=Path("data"),
        files=[f"{row}.png" for row in range(6)],
        labels=labels,
        names=["bent", "good", "pit"],
        roles=["defect", "good", "defect"],
        groups=np.array(["a", "a", "b", "c", "c", "d"]),
        marks=np.array([[1, 0, 0], [1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]], bool),
    )
    recipe = make_recipe(Architecture(size=64), epochs=10, batch=2)
    facts = facts_of(dataset, np.arange(5), recipe)
    assert (facts.images, facts.groups, facts.size_px, facts.epochs, facts.steps) == (5, 3, 64, 10, 30)
    assert facts.counts == [3, 2, 0] and not facts.pretrained
    assert facts_of(dataset, np.arange(6), make_recipe(Architecture(), task="labels")).counts == [3, 2, 2]
