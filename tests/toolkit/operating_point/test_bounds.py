"""Bounds of a share: exact for independent images, wider for images in groups, and what more images would do."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.operating_point.bounds import clopper_pearson_upper, images_needed, measure_share


def grouped(sizes: list[int], hits: list[int]) -> tuple[np.ndarray, np.ndarray]:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    happened = np.concatenate([np.arange(size) < hit for size, hit in zip(sizes, hits, strict=True)])
    return happened, groups


@pytest.mark.parametrize(("events", "size", "upper"), [(0, 100, 0.02951), (3, 50, 0.14785), (50, 50, 1.0)])
def test_images_that_are_groups_of_their_own_get_clopper_and_pearsons_bound(events, size, upper):
    share = measure_share(np.arange(size) < events, np.arange(size), 0.95)
    assert share.upper == pytest.approx(upper, abs=1e-4)
    assert share.design_effect == pytest.approx(1, abs=0.03)


def test_the_lower_bound_is_the_upper_one_of_what_did_not_happen():
    happened, groups = grouped([3, 1, 4, 2, 5, 2], [1, 0, 4, 0, 2, 1])
    assert measure_share(happened, groups, 0.9).lower == pytest.approx(1 - measure_share(~happened, groups, 0.9).upper)


def test_repeating_every_image_within_its_group_tells_nothing_new():
    happened, groups = np.arange(60) < 6, np.arange(60)
    once = measure_share(happened, groups, 0.95)
    thrice = measure_share(np.repeat(happened, 3), np.repeat(groups, 3), 0.95)
    assert thrice.upper == pytest.approx(once.upper, rel=0.02)
    assert thrice.design_effect == pytest.approx(3, rel=0.02)


def test_events_in_one_group_widen_the_bound_and_spread_ones_do_not():
    together, groups = grouped([5] * 40, [5, 5] + [0] * 38)
    spread, _ = grouped([5] * 40, [1] * 10 + [0] * 30)
    assert measure_share(together, groups, 0.95).upper > 1.4 * measure_share(spread, groups, 0.95).upper


def test_without_an_event_a_group_counts_as_one_image():
    happened, groups = grouped([4] * 30, [0] * 30)
    assert measure_share(happened, groups, 0.95).upper == pytest.approx(clopper_pearson_upper(0, 30, 0.95))


def test_weights_of_images_move_the_rate_and_cost_certainty():
    happened, groups = np.arange(100) < 10, np.arange(100)
    even = measure_share(happened, groups, 0.95)
    uneven = measure_share(happened, groups, 0.95, weights=np.where(happened, 3.0, 1.0))
    assert uneven.rate == pytest.approx(0.25)
    assert uneven.design_effect > 1.2 > even.design_effect


def test_the_bound_covers_the_truth_in_nineteen_of_twenty_worlds_of_alike_groups():
    rng, missed = np.random.default_rng(3), 0
    sizes = rng.integers(1, 9, 80)
    groups = np.repeat(np.arange(80), sizes)
    for _ in range(400):
        bad = rng.random(80) < 0.08  # all images of a group or none
        missed += measure_share(bad[groups], groups, 0.95).upper < 0.08
    assert missed / 400 <= 0.065


def test_as_many_more_images_as_are_said_to_be_needed_reach_the_claim():
    happened, groups = grouped([2] * 100, [1] + [0] * 99)
    share = measure_share(happened, groups, 0.95)
    needed = images_needed(share, 0.02)
    times = 1 + needed.images / share.images
    size, events = share.images / share.design_effect, share.rate * share.images / share.design_effect
    assert clopper_pearson_upper(events * times, size * times, 0.95) <= 0.02 < share.upper
    assert clopper_pearson_upper(events * times * 0.98, size * times * 0.98, 0.95) > 0.0199
    assert 0 < needed.images_at_least < needed.images
    assert needed.groups == pytest.approx(needed.images / 2, abs=1)


def test_no_number_of_images_shows_a_claim_that_the_rate_exceeds():
    needed = images_needed(measure_share(np.arange(100) < 10, np.arange(100), 0.95), 0.05)
    assert needed.images is None and needed.images_at_least > 0


def test_a_claim_that_is_shown_needs_no_more_images():
    assert images_needed(measure_share(np.zeros(700, bool), np.arange(700), 0.95), 0.005).images == 0


@pytest.mark.parametrize("confidence", [0.0, 1.0, float("nan"), 95.0])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(BadInput, match="confidence must lie between 0 and 1"):
        measure_share(np.zeros(3, bool), np.arange(3), confidence)


def test_no_images_bound_nothing():
    with pytest.raises(BadInput, match="no images"):
        measure_share(np.zeros(0, bool), np.zeros(0, int), 0.95)
