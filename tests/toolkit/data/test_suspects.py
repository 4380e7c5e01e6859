"""Which labels are doubted, on features that are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.data import suspects
from toolkit.data.suspects import find_suspects

NAMES = ["a", "b", "c"]


def _clusters(per_class: int = 40) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.str_], list[str]]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), per_class)
    features = rng.normal(0, 1, (len(labels), 8)).astype(np.float32)
    features[np.arange(len(labels)), labels] += 6
    groups = np.array([f"g{row // 2}" for row in range(len(labels))])
    return features, labels, groups, [f"{row}.png" for row in range(len(labels))]


@pytest.mark.parametrize("seed", range(4))
def test_a_whole_group_of_wrong_labels_is_found_since_it_does_not_vouch_for_itself(seed: int) -> None:
    features, labels, groups, files = _clusters()
    given, wrong = labels.copy(), {4, 5, 50, 51}
    given[[4, 5, 50, 51]] = [1, 1, 2, 2]
    doubt, scores = find_suspects([features], given, groups, NAMES, files, seed=seed)
    assert {each.row for each in doubt.suspects[:4]} == wrong
    assert {each.likely for each in doubt.suspects if each.row in (4, 5)} == {"a"}
    marked = {each.row for each in doubt.suspects if each.confident}
    assert marked <= wrong, "no right label is marked"
    assert doubt.estimated_errors == len(marked) >= 3, "confident learning may miss one, the ranking none"
    assert scores[[4, 5, 50, 51]].max() < np.delete(scores, [4, 5, 50, 51]).min()


def test_where_the_classifier_does_not_know_a_class_no_label_of_it_is_called_wrong() -> None:
    features, labels, groups, files = _clusters()
    features[labels == 2] = features[labels == 0]
    rare = np.flatnonzero((labels != 2) | (np.arange(len(labels)) < 86))  # three parts of c, which look like a
    doubt, scores = find_suspects([features[rare]], labels[rare], groups[rare], NAMES, [files[row] for row in rare])
    assert doubt.not_learnt == ["c"] and doubt.estimated_errors == 0
    assert {each.given for each in doubt.suspects[:6]} == {"c"}, "they are ranked all the same"
    assert np.isfinite(scores).all()


def test_a_class_of_which_most_labels_are_wrong_is_learnt_from_the_others() -> None:
    features, labels, groups, files = _clusters()
    given, wrong = labels.copy(), np.arange(14)  # seven parts of a are called c, which has six of its own
    given[wrong] = 2
    keep = np.flatnonzero((labels != 2) | (np.arange(120) >= 108))
    doubt, _ = find_suspects([features[keep]], given[keep], groups[keep], NAMES, [files[row] for row in keep])
    assert doubt.not_learnt == []
    assert {each.row for each in doubt.suspects if each.confident} & set(wrong.tolist())


def test_a_class_of_one_group_is_not_judged() -> None:
    features, labels, groups, files = _clusters()
    groups[labels == 2] = "alone"
    doubt, scores = find_suspects([features], labels, groups, NAMES, files)
    assert doubt.judged == 80
    assert np.isnan(scores[labels == 2]).all()
    assert not {each.given for each in doubt.suspects} & {"c"}


def test_an_image_of_two_classes_is_no_suspect_for_looking_like_the_second() -> None:
    features, labels, groups, files = _clusters()
    members = labels[:, None] == np.arange(3)
    features[3, 1] += 9
    members[3, 1] = True
    alone, _ = find_suspects([features], labels, groups, NAMES, files)
    both, _ = find_suspects([features], labels, groups, NAMES, files, members=members)
    assert alone.suspects[0].row == 3
    assert 3 not in {each.row for each in both.suspects}


def test_too_little_to_judge_is_said() -> None:
    features, labels, groups, files = _clusters(2)
    doubt, _ = find_suspects([features], labels, groups, NAMES, files)
    assert doubt.skipped and not doubt.suspects


def test_a_large_class_is_thinned_and_a_rare_one_kept(monkeypatch: object) -> None:
    monkeypatch.setattr(suspects, "_MOST_TRAINED", 50)  # type: ignore[attr-defined]
    labels = np.array([0] * 500 + [1] * 7)
    kept = suspects._thinned(np.arange(507), labels, np.random.default_rng(0))
    assert np.bincount(labels[kept]).tolist() == [43, 7]
