"""People as a ceiling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.evaluation.annotators import Judgements, cohen_kappa, measure_ceiling, read_annotations
from toolkit.evaluation.answers import Answers

NAMES = ["crack", "good"]


def people(rng: np.random.Generator, model: float, person: float, images: int = 400) -> tuple[Answers, Judgements]:
    """Two images a part; three people and a model that are right so often, independently."""
    labels = np.arange(images) // 2 % 2
    said = np.where(rng.random(images) < model, labels, 1 - labels)
    files = [f"{row}.png" for row in range(images)]
    judged = {
        file: {who: NAMES[label if rng.random() < person else 1 - label] for who in "abc"}
        for file, label in zip(files, labels, strict=True)
    }
    groups = (np.arange(images) // 2).astype(str)
    return Answers(files, labels, groups, np.eye(2, dtype=np.float32)[said], {}, None), judged


def test_a_model_as_good_as_a_person_is_at_the_ceiling() -> None:
    found = measure_ceiling(*_shuffled(people(np.random.default_rng(0), 0.9, 0.9)))
    assert "at the ceiling" in found.verdict and found.gap_low < 0 < found.gap_high
    assert found.annotators == ["a", "b", "c"] and len(found.pairs) == 3
    assert found.pairs[0].agreement == pytest.approx(0.82, abs=0.05)
    assert found.pairs[0].kappa == pytest.approx(0.64, abs=0.1)


def test_a_model_that_is_worse_or_better_than_people_is_told() -> None:
    rng = np.random.default_rng(1)
    worse = measure_ceiling(*_shuffled(people(rng, 0.75, 0.95)))
    assert worse.verdict.startswith("below the ceiling") and worse.gap_high < 0
    better = measure_ceiling(*_shuffled(people(rng, 0.99, 0.8)))
    assert "no ceiling for it" in better.verdict and better.gap_low > 0


def test_nobody_is_compared_with_a_consensus_that_includes_himself() -> None:
    labels, files = np.zeros(10, int), [f"{row}.png" for row in range(10)]
    answers = Answers(files, labels, np.arange(10).astype(str), np.eye(2, dtype=np.float32)[labels], {}, None)
    judged = {file: {"a": "crack", "b": "good"} for file in files}
    found = measure_ceiling(answers, NAMES, judged)
    assert found.person == 0 and [one.model.value for one in found.against] == [0, 1]
    torn = {file: {"a": "crack", "b": "good", "c": "crack"} for file in files}
    assert [one.annotator for one in measure_ceiling(answers, NAMES, torn).against] == ["b"]


def test_images_of_other_splits_are_left_out() -> None:
    answers, judged = people(np.random.default_rng(2), 0.9, 0.9, images=40)
    extra = {f"other-{row}.png": {"a": "crack", "b": "crack"} for row in range(30)}
    assert measure_ceiling(answers, NAMES, judged | extra).images == 40
    with pytest.raises(BadInput, match="no image of this split has two annotators"):
        measure_ceiling(answers, NAMES, extra)


def test_kappa_is_scikit_learn_s() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(3)
    a, b = (rng.choice(["x", "y", "z"], 50, p=[0.7, 0.2, 0.1]).tolist() for _ in range(2))
    assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))
    assert cohen_kappa(["x"], ["x"]) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na,good\n", "no column annotator"),
        ("file,annotator,label\na,ann,rust\n", "no class 'rust'"),
        ("file,annotator,label\na,ann,good\na,ann,crack\n", "'ann' judged a twice"),
        ("file,annotator,label\na,,good\n", "no annotator"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(BadInput, match=said):
        read_annotations(tmp_path / "a.csv", NAMES)


def _shuffled(pair: tuple[Answers, Judgements]) -> tuple[Answers, list[str], Judgements]:
    return pair[0], NAMES, dict(reversed(pair[1].items()))
