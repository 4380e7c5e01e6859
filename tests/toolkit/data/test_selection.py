"""What to label next: the doubtful, the different, and those drawn by chance from which the whole pool can be told."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import EDGES, log_odds
from device_agent.contract.manifest import Label
from toolkit.data.cells import LEVELS, allocate, draw, thin
from toolkit.data.doubt import Doubt, doubts
from toolkit.data.selection import list_text, projected, select
from toolkit.evaluation.weighted import estimate

CLASSES = [Label("good", "good"), Label("pit", "defect"), Label("crack", "defect")]
SIZE, BUDGET = 4000, 200


class Pool:
    """A line of good parts with few pits and fewer cracks; the surer the model, the more often it is right."""

    def __init__(self, *, overconfident: float = 1.0) -> None:
        rng = np.random.default_rng(1)
        self.true = rng.choice(3, SIZE, p=[0.97, 0.02, 0.01])
        logits = rng.normal(0, 1, (SIZE, 3))
        logits[np.arange(SIZE), self.true] += rng.gamma(4, 1.2, SIZE)
        logits[:, 0] += 1
        self.doubt = doubts(logits * overconfident, CLASSES)
        self.right = self.doubt.labels == self.true
        self.features = rng.normal(0, 1, (SIZE, 6)) + 7 * np.eye(3, 6)[self.true]
        self.files = [f"{row:05}.png" for row in range(SIZE)]
        self.parts = [f"part-{part}" for part in rng.integers(0, SIZE // 4, SIZE)]


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool()


def test_the_doubts_of_two_classes_by_hand() -> None:
    doubt = doubts(np.array([[2.0, 0.0, -1e9], [0.0, 1.0, -1e9]]), CLASSES, temperature=2.0)
    sure, less = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-0.5))
    assert doubt.answers == ["good", "pit"]
    assert doubt.confidence.tolist() == pytest.approx([sure, less])
    assert doubt.margin.tolist() == pytest.approx([2 * sure - 1, 2 * less - 1])
    assert doubt.entropy[0] == pytest.approx(-sure * np.log(sure) - (1 - sure) * np.log(1 - sure))


def test_a_hierarchy_says_defect_where_all_defects_together_are_likelier() -> None:
    logits = np.array([[1.0, 0.8, 0.6]])
    assert doubts(logits, CLASSES).answers == ["good"]
    doubt = doubts(logits, CLASSES, task="hierarchy")
    assert doubt.answers == ["pit"] and doubt.confidence[0] < 0.34


def test_marks_are_right_only_together() -> None:
    doubt = doubts(np.array([[0.0, 2.0, 1.0], [0.0, -3.0, -3.0]]), CLASSES, task="labels")
    assert doubt.answers == ["pit|crack", "good"]
    one, other = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))
    assert doubt.confidence[0] == pytest.approx(one * other) and doubt.margin[0] == pytest.approx(2 * other - 1)
    assert doubt.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("logits", "temperature", "message"),
    [
        (np.zeros((2, 2)), 1.0, "the model has 3 classes"),
        (np.array([[0, np.nan, 0]]), 1.0, "logits of 1 pictures are not finite"),
        (np.zeros((2, 3)), 0.0, "temperature must be above 0"),
    ],
)
def test_logits_that_tell_nothing_are_refused(logits: NDArray[np.float64], temperature: float, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        doubts(logits, CLASSES, temperature=temperature)


def test_the_allocation_follows_size_times_spread_within_its_limits() -> None:
    sizes, spreads = np.array([10_000, 400, 3, 50]), np.array([0.05, 0.5, 0.5, 0.0])
    counts = allocate(sizes, spreads, 300)
    assert counts.sum() == 300 and counts[2] <= 3 and counts[3] >= 2
    neyman = 0.75 * 500 / 701.5 + 0.25 * 10_000 / 10_453
    assert counts[0] / 300 == pytest.approx(neyman, abs=0.01)
    assert counts[1] > 300 * 400 / 10_453 * 4, "the doubtful get far more than their share"
    assert allocate(sizes, spreads, 20_000).tolist() == sizes.tolist()
    assert allocate(np.array([5, 5, 5]), np.zeros(3), 7).sum() == 7
    with pytest.raises(BadInput, match="a budget of 7 is too small for 4 cells; at least 8"):
        allocate(sizes, spreads, 7)


def test_every_group_gives_as_many_as_allowed_each_as_likely() -> None:
    groups = ["a"] * 6 + ["b"] * 2 + ["c"]
    counts = np.zeros(9)
    for seed in range(2000):
        rows, chances = thin(groups, np.random.default_rng(seed), 2)
        counts[rows] += 1
        assert Counter(groups[row] for row in rows) == {"a": 2, "b": 2, "c": 1}
        assert chances.tolist() == [2 / 6, 2 / 6, 1, 1, 1]
    assert counts[:6] / 2000 == pytest.approx(np.full(6, 1 / 3), abs=0.04) and (counts[6:] == 2000).all()


def test_the_borders_of_the_cells_are_borders_of_the_devices_histogram() -> None:
    assert {border for level in LEVELS for border in level} <= set(EDGES.tolist())


def test_a_cell_holds_pictures_of_its_class_and_confidence(pool: Pool) -> None:
    drawn = draw(pool.doubt, pool.files, BUDGET, np.random.default_rng(0))
    assert len(set(drawn.cells)) > 9
    for row, cell in zip(drawn.rows.tolist(), drawn.cells, strict=True):
        name, _, borders = cell.rpartition(" ")
        low, high = map(float, borders.split("-"))
        assert name == pool.doubt.answers[row]
        assert low - 1e-3 <= pool.doubt.confidence[row] <= high + 1e-3
    logits = np.log(np.stack([pool.doubt.confidence, 1 - pool.doubt.confidence], axis=1))
    assert log_odds(logits).max() > 7, "the finest border is used"


def test_cells_become_coarser_where_the_budget_is_small(pool: Pool) -> None:
    few = draw(pool.doubt, pool.files, 12, np.random.default_rng(0))
    many = draw(pool.doubt, pool.files, BUDGET, np.random.default_rng(0))
    assert len(set(few.cells)) < len(set(many.cells)) and len(few.rows) == 12
    with pytest.raises(BadInput, match="a budget of 5 is too small for 3 cells"):
        draw(pool.doubt, pool.files, 5, np.random.default_rng(0))


def estimates(pool: Pool, groups: list[str], draws: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Accuracies by the cells and by simple random samples of as many, and how often the interval held the truth."""
    rng, by_cells, simple, held = np.random.default_rng(0), [], [], 0
    truth = float(pool.right.mean())
    for _ in range(draws):
        drawn = draw(pool.doubt, groups, BUDGET, rng)
        found = estimate(pool.right[drawn.rows], drawn.cells, 1 / drawn.probabilities, drawn.within_group)
        by_cells.append(found.accuracy)
        held += found.interval[0] <= truth <= found.interval[1]
        rows, chances = thin(groups, rng, 1)
        some = rng.choice(len(rows), BUDGET, replace=False)
        simple.append(float(np.average(pool.right[rows[some]], weights=1 / chances[some])))
    return np.array(by_cells), np.array(simple), held / draws


@pytest.mark.parametrize("overconfident", [1.0, 3.0])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_estimate_from_cells_is_unbiased_and_varies_less_than_a_simple_random_sample(
    overconfident: float, grouped: bool
) -> None:
    pool = Pool(overconfident=overconfident)
    by_cells, simple, held = estimates(pool, pool.parts if grouped else pool.files, 120)
    error = by_cells.std() / np.sqrt(len(by_cells))
    assert by_cells.std() > 5e-4, "the draws differ"
    assert abs(by_cells.mean() - pool.right.mean()) < 3 * error
    assert by_cells.var() < 0.5 * simple.var()
    assert held > 0.9


def test_without_the_weights_the_estimate_would_be_wrong(pool: Pool) -> None:
    rng = np.random.default_rng(0)
    raw = [pool.right[draw(pool.doubt, pool.files, BUDGET, rng).rows].mean() for _ in range(20)]
    assert np.mean(raw) < pool.right.mean() - 0.02


def chosen(pool: Pool, strategy: str, seed: int = 0, **wishes: object) -> list[int]:
    made = select(
        pool.files,
        pool.files,
        pool.doubt,
        100,
        strategy=strategy,  # type: ignore[arg-type]
        features=pool.features,
        seed=seed,
        **wishes,  # type: ignore[arg-type]
    )
    return [int(pick.file[:5]) for pick in made.picks]


@pytest.mark.parametrize(
    ("strategy", "wishes"),
    [
        ("uncertainty", {}),
        ("uncertainty", {"by": "least-confidence"}),
        ("margin", {}),
        ("diversity", {}),
        ("diversity", {"spread": "k-means++"}),
        ("mix", {}),
    ],
)
def test_more_of_the_rare_classes_is_found_than_by_chance(pool: Pool, strategy: str, wishes: dict[str, object]) -> None:
    rows = chosen(pool, strategy, **wishes)
    assert len(set(rows)) == 100
    by_chance = 100 * (pool.true > 0).mean()
    assert (pool.true[rows] > 0).sum() > 2 * by_chance


def test_the_most_uncertain_come_first(pool: Pool) -> None:
    for strategy, values in (("uncertainty", -pool.doubt.entropy), ("margin", pool.doubt.margin)):
        rows = chosen(pool, strategy)
        assert values[rows].tolist() == sorted(values)[:100]


def test_k_centre_covers_at_most_twice_as_badly_as_can_be() -> None:
    corners = np.array([[0.0, 0.0], [0, 10], [10, 0], [10, 10]])
    points = np.repeat(corners, 50, axis=0) + np.random.default_rng(0).normal(0, 0.3, (200, 2))
    files = [str(row) for row in range(200)]
    doubt = doubts(np.zeros((200, 3)), CLASSES)
    made = select(files, files, doubt, 4, strategy="diversity", features=points)
    assert sorted(int(pick.file) // 50 for pick in made.picks) == [0, 1, 2, 3]


def test_equal_pictures_do_not_stop_the_choice() -> None:
    files, doubt = [str(row) for row in range(9)], doubts(np.zeros((9, 3)), CLASSES)
    for spread in ("k-centre", "k-means++"):
        made = select(
            files,
            files,
            doubt,
            5,
            strategy="diversity",
            features=np.ones((9, 4)),
            spread=spread,  # type: ignore[arg-type]
        )
        assert len({pick.file for pick in made.picks}) == 5


@pytest.mark.parametrize("strategy", ["uncertainty", "margin", "neyman", "diversity", "mix"])
@pytest.mark.parametrize("per_group", [1, 3])
def test_no_part_is_chosen_more_often_than_allowed(pool: Pool, strategy: str, per_group: int) -> None:
    made = select(
        pool.files,
        pool.parts,
        pool.doubt,
        160,
        strategy=strategy,  # type: ignore[arg-type]
        features=pool.features,
        per_group=per_group,
    )
    counts = Counter(pick.group for pick in made.picks)
    assert max(counts.values()) <= per_group and len(made.picks) == 160
    assert len({pick.file for pick in made.picks}) == 160
    assert made.groups == len(set(pool.parts)) and made.images == SIZE


def test_few_groups_give_fewer_than_the_budget(pool: Pool) -> None:
    three = [f"part-{row % 3}" for row in range(SIZE)]
    for strategy in ("uncertainty", "neyman", "diversity"):
        made = select(
            pool.files,
            three,
            pool.doubt,
            50,
            strategy=strategy,
            features=pool.features,  # type: ignore[arg-type]
        )
        assert len(made.picks) == 3


def test_a_mix_is_half_by_chance_and_only_that_half_has_weights(pool: Pool) -> None:
    made = select(pool.files, pool.files, pool.doubt, 101, features=pool.features)
    assert Counter(pick.reason for pick in made.picks) == {"neyman": 51, "entropy": 25, "diversity (k-centre)": 25}
    for pick in made.picks:
        drawn = pick.reason == "neyman"
        assert (pick.cell is not None) == drawn == (pick.weight is not None)
        assert not drawn or pick.weight == pytest.approx(1 / (pick.probability or 0))
    assert sum(pick.weight or 0 for pick in made.picks) == pytest.approx(SIZE)


def test_the_same_seed_gives_the_same_list_and_another_another(pool: Pool) -> None:
    lists = [chosen(pool, "neyman", seed) for seed in (0, 0, 1)]
    assert lists[0] == lists[1] != lists[2]


def test_the_list_is_a_table_with_a_class_to_fill_in(pool: Pool) -> None:
    made = select(pool.files, pool.files, pool.doubt, 20, features=pool.features)
    lines = list_text(made).splitlines()
    assert lines[0] == "file,class,group,predicted,confidence,reason,cell,probability,within_group,weight"
    assert len(lines) == 21 and all(line.split(",")[1] == "" for line in lines[1:])
    assert lines[-1].endswith("diversity (k-centre),,,,")


def test_what_cannot_be_chosen_from_is_refused(pool: Pool) -> None:
    empty = Doubt([], np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0), [])
    with pytest.raises(BadInput, match="no pictures"):
        select([], [], empty, 5)
    for budget, per_group in ((0, 1), (5, 0)):
        with pytest.raises(BadInput, match="must be 1 or more"):
            select(pool.files, pool.files, pool.doubt, budget, per_group=per_group)
    with pytest.raises(BadInput, match="strategy must be one of mix"):
        select(pool.files, pool.files, pool.doubt, 5, strategy="best")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="needs the features"):
        select(pool.files, pool.files, pool.doubt, 5, strategy="diversity")


def test_many_features_are_reduced_and_distances_stay_about_as_they_were() -> None:
    features = np.random.default_rng(0).normal(0, 1, (40, 900)) * np.linspace(1, 50, 900)
    features[:, 7] = 3.0
    points = projected(features)
    assert points.shape == (40, 128)
    scaled = np.delete(features, 7, axis=1)
    scaled = (scaled - scaled.mean(axis=0)) / scaled.std(axis=0)
    before, after = (np.linalg.norm(values[1:] - values[0], axis=1) for values in (scaled, points))
    assert before.std() > 0.3
    assert after / before == pytest.approx(np.ones(39), abs=0.25)


@pytest.mark.parametrize(("budget", "least"), [(10, 0.9), (20, 0.92), (60, 0.92)])
@pytest.mark.parametrize("sure", ["rightly", "too sure"])
def test_the_interval_of_few_labels_holds_the_truth(budget: int, least: float, sure: str) -> None:
    held = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        confidence = np.clip(rng.beta(19, 1, 600), 0.5, 0.9999) if sure == "rightly" else np.full(600, 0.99)
        right = rng.random(600) < (confidence if sure == "rightly" else 0.9)
        doubt: Any = SimpleNamespace(labels=rng.integers(0, 2, 600), confidence=confidence, names=["a", "b"])
        drawn = draw(doubt, [str(row) for row in range(600)], budget, rng)
        found = estimate(right[drawn.rows], drawn.cells, 1 / drawn.probabilities, drawn.within_group)
        held.append(found.interval[0] - 1e-9 <= right.mean() <= found.interval[1] + 1e-9)
    assert np.mean(held) >= least


def test_labels_without_an_error_prove_no_more_than_as_many_of_a_simple_sample() -> None:
    found = estimate(np.ones(20, bool), [f"cell {row // 10}" for row in range(20)], np.full(20, 50.0))
    assert found.as_good_as == 20 and found.interval[0] == pytest.approx(0.839, abs=0.002), "Wilson of 20 of 20"
    whole = estimate(np.ones(20, bool), ["cell"] * 20, np.ones(20))
    assert whole.pool == 20 and whole.as_good_as == 20
