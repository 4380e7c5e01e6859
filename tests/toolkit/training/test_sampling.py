"""Orders of an epoch: what is promised of each way is counted."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.training.sampling import Sampling, epoch_length, epoch_order

LABELS = np.repeat([0, 1, 3], [60, 9, 4])  # class 2 has no image
WAYS: list[Sampling] = ["natural", "balanced", "oversample", "undersample"]


def _order(how: Sampling, seed: int = 0, size: int | None = None, groups: np.ndarray | None = None) -> np.ndarray:
    length = epoch_length(LABELS, how) if size is None else size
    return epoch_order(LABELS, how, np.random.default_rng(seed), size=length, groups=groups)


@pytest.mark.parametrize("how", WAYS)
def test_same_generator_same_order_and_another_one_another(how: Sampling) -> None:
    assert np.array_equal(_order(how), _order(how))
    assert not np.array_equal(_order(how), _order(how, seed=1))
    assert _order(how).dtype == np.int64


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("size", [1, 7, 200])
def test_an_order_has_the_size_that_was_asked_for(how: Sampling, size: int) -> None:
    order = _order(how, size=size)
    assert len(order) == size and order.min() >= 0 and order.max() < len(LABELS)


def test_natural_shows_every_image_once_before_any_twice() -> None:
    order = _order("natural", size=2 * len(LABELS))
    for half in (order[: len(LABELS)], order[len(LABELS) :]):
        assert sorted(half.tolist()) == list(range(len(LABELS)))
    assert not np.array_equal(order[: len(LABELS)], order[len(LABELS) :])


def test_balanced_shows_each_class_alike_within_one() -> None:
    counts = np.bincount(LABELS[_order("balanced", size=74)], minlength=4)[[0, 1, 3]]
    assert counts.sum() == 74 and np.ptp(counts) == 1


def test_oversampling_leaves_no_image_out_and_repeats_a_rare_class_evenly() -> None:
    order = _order("oversample")
    assert len(order) == 3 * 60
    shown = np.bincount(order, minlength=len(LABELS))
    assert (shown[LABELS == 0] == 1).all()
    assert set(shown[LABELS == 1].tolist()) == {6, 7} and (shown[LABELS == 3] == 15).all()


def test_undersampling_keeps_the_rarest_class_whole_and_draws_others_anew() -> None:
    one, two = _order("undersample"), _order("undersample", seed=1)
    assert np.bincount(LABELS[one]).tolist() == [4, 4, 0, 4]
    assert len(set(one.tolist())) == 12
    assert set(one[LABELS[one] == 3].tolist()) == set(two[LABELS[two] == 3].tolist())
    assert set(one[LABELS[one] == 0].tolist()) != set(two[LABELS[two] == 0].tolist())


def test_undersampling_drops_further_images_of_a_part_before_its_last() -> None:
    groups = np.array([f"lone {row}" for row in range(len(LABELS))])
    groups[:57] = "one part"  # of class 0 there are four parts: one with 57 images, three with one
    for seed in range(20):
        order = _order("undersample", seed=seed, groups=groups)
        assert len(set(groups[order[LABELS[order] == 0]])) == 4
    plain = [set(groups[_order("undersample", seed=seed)]) for seed in range(20)]
    assert any("lone 59" not in seen for seen in plain), "without groups the parts are lost by chance"


def test_order_is_shuffled_across_classes() -> None:
    said = LABELS[_order("balanced", size=300)]
    assert np.abs(np.diff(said)).astype(bool).mean() > 0.5


def test_unknown_way_and_no_images_are_refused() -> None:
    with pytest.raises(BadInput, match="known are natural"):
        epoch_order(LABELS, "sideways", np.random.default_rng(0), size=4)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="at least one image"):
        epoch_order(np.empty(0, np.int64), "natural", np.random.default_rng(0), size=4)
