"""The cheapest band: as good as trying every pair, nearest to the calibrated one among equals, as safe as asked."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.operating_point.bounds import measure_share
from toolkit.operating_point.costs import Costs
from toolkit.operating_point.thresholds import Band, Scored, candidates, choose_band


def draw(seed: int, count: int = 60, gap: float = 2.0) -> Scored:
    rng = np.random.default_rng(seed)
    defect = rng.random(count) < 0.4
    weights = np.where(defect, 0.1 / defect.sum(), 0.9 / (~defect).sum())
    return Scored(rng.normal(np.where(defect, gap, -gap), 2), defect, np.arange(count).astype(str), weights)


def cost(images: Scored, band: Band, costs: Costs) -> float:
    passed, rejected = images.scores < band.low, images.scores >= band.high
    fates = [passed & images.defect, rejected & ~images.defect, ~passed & ~rejected]
    prices = [costs.escape, costs.overkill, costs.review or 0]
    return sum(price * images.weights[fate].sum() for price, fate in zip(prices, fates, strict=True))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("review", [None, 0.0, 0.3, 1.0, 50.0])
def test_no_band_is_cheaper(seed, review):
    images, costs = draw(seed), Costs(escape=20, overkill=2, review=review)
    found, edges = choose_band(images, costs), candidates(images.scores)
    assert found.low <= found.high and (review is not None or found.low == found.high)
    pairs = [Band(a, b) for a in edges for b in edges if a == b or (a < b and review is not None)]
    assert cost(images, found, costs) == pytest.approx(min(cost(images, pair, costs) for pair in pairs))


def test_the_dearer_an_escape_the_lower_the_threshold():
    images = draw(1)
    lows = [choose_band(images, Costs(escape=dear, overkill=1)).low for dear in (0.1, 10, 1000)]
    assert lows[0] > lows[1] > lows[2]


def test_a_review_that_costs_more_than_it_saves_is_never_asked_for():
    band = choose_band(draw(2), Costs(escape=20, overkill=2, review=500))
    assert band.low == band.high


def test_where_the_classes_lie_apart_the_calibrated_threshold_decides_in_the_gap():
    scores = np.array([-9.0, -7, -5, -4.9, 0, 7, 9])
    images = Scored(scores, scores > 1, np.arange(7).astype(str), np.full(7, 1 / 7))
    assert choose_band(images, Costs(escape=1, overkill=1)).low == 3.5
    spread = Scored(np.array([-9.0, 9.0]), np.array([False, True]), np.array(["a", "b"]), np.full(2, 0.5))
    assert choose_band(spread, Costs(escape=1000, overkill=1)).low == 0.0


def test_the_lower_edge_is_as_high_as_the_bound_allows_and_no_higher():
    images = draw(4, 2000, gap=3)
    cheap, most = Costs(escape=1, overkill=100), 0.05
    loose, strict = choose_band(images, cheap), choose_band(images, cheap, most_escape=most)

    def upper(edge: float) -> float:
        defect = images.defect
        return measure_share(images.scores[defect] < edge, images.groups[defect], 0.95).upper

    above = candidates(images.scores)
    above = above[above > strict.low]
    assert upper(strict.low) <= most < upper(loose.low)
    assert max(upper(edge) for edge in above[:50]) > most


def test_a_bound_that_no_edge_reaches_sends_every_part_away_from_passing():
    images = draw(5, 30)
    band = choose_band(images, Costs(escape=1, overkill=1, review=0.1), most_escape=0.001)
    assert band.low < images.scores.min() <= band.high


def test_a_part_of_the_images_keeps_what_the_line_makes():
    images = draw(6)
    part = images.only(np.arange(60) < 30)
    assert part.weights[part.defect].sum() == pytest.approx(0.1)
    assert part.weights[~part.defect].sum() == pytest.approx(0.9)
