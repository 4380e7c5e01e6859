"""What to label next: the pictures of a pool of which a model can learn most, or which say most about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.cells import Draw, draw
from toolkit.data.doubt import Doubt
from toolkit.data.tables import csv_text

Strategy = Literal["mix", "uncertainty", "margin", "neyman", "diversity"]
By = Literal["entropy", "least-confidence"]
Spread = Literal["k-centre", "k-means++"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
DIMENSIONS = 128  # of the features, for distances
AT_ONCE = 4096  # rows of features that are projected

Rows = NDArray[np.int64]
Vector = NDArray[np.float64]


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    """A picture to label: what the model answers, with which calibrated probability, and why it was chosen.

    Those drawn by chance have a `cell`, the `probability` of being drawn, in (0, 1], the part of it that comes from
    drawing `within_group`, and a `weight`: for how many pictures of the pool this one stands, the inverse of the
    probability. The others say nothing about the pool as a whole.
    """

    file: str
    group: str
    predicted: str
    confidence: float
    reason: str
    cell: str | None = None
    probability: float | None = None
    within_group: float | None = None
    weight: float | None = None


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The pictures chosen from a pool of `images` in `groups`, in the order in which they should be labelled; fewer
    than `budget` where the groups do not give more. The temperature made the confidences."""

    strategy: Strategy
    budget: int
    per_group: int
    seed: int
    images: int
    groups: int
    temperature: float
    picks: list[Pick]


class _Taking:
    """Rows that were taken, and no more than `per_group` of a group."""

    def __init__(self, groups: list[str], per_group: int) -> None:
        _, self._group = np.unique(np.asarray(groups), return_inverse=True)
        self._left = np.full(int(self._group.max()) + 1, per_group)
        self.free = np.ones(len(groups), np.bool_)
        self.taken: list[int] = []

    def take(self, rows: Iterable[int]) -> None:
        """These are gone, and with them what is left of a group that is used up."""
        for row in rows:
            group = self._group[row]
            self.taken.append(row)
            self._left[group] -= 1
            self.free[row] = False
            if self._left[group] <= 0:
                self.free[self._group == group] = False


def select(
    files: list[str],
    groups: list[str],
    doubt: Doubt,
    budget: int,
    *,
    strategy: Strategy = "mix",
    features: NDArray[np.floating] | None = None,
    per_group: int = 1,
    by: By = "entropy",
    spread: Spread = "k-centre",
    temperature: float = 1.0,
    seed: int = 0,
) -> Selection:
    """The pictures to label next, at most `per_group` of each group.

    uncertainty: greatest entropy, or least confidence (Lewis & Gale 1994). margin: the answer and the runner-up nearest
    to each other (Scheffer et al. 2001). neyman: by chance from cells of class and confidence, see `cells.draw`.
    diversity: pictures that are far from each other, see `scatter`. mix: half neyman, a quarter uncertainty, a quarter
    diversity, each of what the ones before left.

    Args:
        files, groups: (n,) names.
        features: (n, any) numbers that say how pictures look, needed for diversity.
        temperature: by which the logits behind `doubt` were divided; noted.

    Raises:
        BadInput: a budget that is no use, or too small for the cells; an empty pool.
    """
    if not files:
        raise BadInput("no pictures to choose from")
    if budget < 1 or per_group < 1:
        raise BadInput(f"budget and pictures per group must be 1 or more, got {budget} and {per_group}")
    if strategy not in STRATEGIES:
        raise BadInput(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
    rng, taking, picks = np.random.default_rng(seed), _Taking(groups, per_group), list[Pick]()

    def pick(rows: list[int], reason: str, drawn: Draw | None = None) -> None:
        for place, row in enumerate(rows):
            picture = Pick(
                file=files[row],
                group=groups[row],
                predicted=doubt.answers[row],
                confidence=round(float(doubt.confidence[row]), 6),
                reason=reason,
            )
            picks.append(picture if drawn is None else _by_chance(picture, drawn, place))

    for part, share in _parts(strategy, budget):
        if part == "neyman":
            drawn = draw(doubt, groups, share, rng, per_group=per_group)
            taking.take(drawn.rows.tolist())
            pick(drawn.rows.tolist(), "neyman", drawn)
        elif part == "diversity":
            if features is None:
                raise BadInput("diversity needs the features of the pictures")
            pick(scatter(features, share, taking, rng, spread=spread), f"diversity ({spread})")
        else:
            doubtful = {"margin": -doubt.margin, "entropy": doubt.entropy, "least-confidence": -doubt.confidence}
            reason = "margin" if part == "margin" else by
            pick(foremost(doubtful[reason], share, taking), reason)
    return Selection(
        strategy=strategy,
        budget=budget,
        per_group=per_group,
        seed=seed,
        images=len(files),
        groups=len(set(groups)),
        temperature=temperature,
        picks=picks,
    )


def _by_chance(picture: Pick, drawn: Draw, place: int) -> Pick:
    chance = float(drawn.probabilities[place])
    return msgspec.structs.replace(
        picture,
        cell=drawn.cells[place],
        probability=chance,
        within_group=float(drawn.within_group[place]),
        weight=1 / chance,
    )


def foremost(scores: Vector, count: int, taking: _Taking) -> list[int]:
    """Up to `count` free rows with the highest scores, which are then taken."""
    rows: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if len(rows) == count:
            break
        if taking.free[row]:
            taking.take([row])
            rows.append(row)
    return rows


def scatter(
    features: NDArray[np.floating], count: int, taking: _Taking, rng: np.random.Generator, *, spread: Spread
) -> list[int]:
    """Up to `count` free rows that are far from each other and from all that were taken before; they are then taken.

    k-centre takes the farthest each time, at most twice as far from any picture as the best choice would be (Gonzalez
    1985; Sener & Savarese 2018); k-means++ draws in proportion to the squared distance, which outliers disturb less
    (Arthur & Vassilvitskii 2007).

    Args:
        features: (n, any), standardised and reduced here, see `projected`.
    """
    points = projected(features)
    away = np.full(len(points), np.inf)
    for row in taking.taken:
        away = _nearer(away, points, points[row])
    if not taking.taken:
        away = _nearer(away, points, points.mean(axis=0))
    rows: list[int] = []
    while len(rows) < count and taking.free.any():
        reach = np.where(taking.free, away, 0.0)
        if spread == "k-means++" and reach.sum() > 0:
            row = int(rng.choice(len(reach), p=reach / reach.sum()))
        else:
            row = int(np.where(taking.free, away, -1.0).argmax())
        away = _nearer(np.full(len(points), np.inf) if len(taking.taken) == 0 else away, points, points[row])
        taking.take([row])
        rows.append(row)
    return rows


def projected(features: NDArray[np.floating]) -> Vector:
    """Standardised features (n, any) in at most 128 dimensions, distances about as they were (a random projection:
    Johnson & Lindenstrauss 1984); features that are constant say nothing.

    >>> projected(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0], [1.0]]
    """
    mean, width = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    told = width > 1e-9
    axes = np.eye(int(told.sum()))
    if len(axes) > DIMENSIONS:
        axes = np.random.default_rng(0).standard_normal((len(axes), DIMENSIONS)) / np.sqrt(DIMENSIONS)
    out = np.zeros((len(features), max(1, axes.shape[1])))
    for start in range(0, len(features) if len(axes) else 0, AT_ONCE):
        some = slice(start, start + AT_ONCE)
        out[some] = (features[some][:, told] - mean[told]) / width[told] @ axes
    return out


def list_text(selection: Selection) -> str:
    """The list as csv, one line a picture in the order of labelling, with an empty column class to fill in."""
    names = ("file", "class", *Pick.__struct_fields__[1:])
    told = [msgspec.to_builtins(pick) | {"class": ""} for pick in selection.picks]
    return csv_text(names, [["" if row[name] is None else row[name] for name in names] for row in told])


def reasons(selection: Selection) -> dict[str, int]:
    """How many were chosen for each reason."""
    return dict(Counter(pick.reason for pick in selection.picks))


def _parts(strategy: Strategy, budget: int) -> list[tuple[Strategy, int]]:
    """The strategies to follow one after the other, and how many pictures each may choose."""
    if strategy != "mix":
        return [(strategy, budget)]
    quarter = budget // 4
    return [("neyman", budget - 2 * quarter), ("uncertainty", quarter), ("diversity", quarter)]


def _nearer(away: Vector, points: Vector, point: Vector) -> Vector:
    return np.asarray(np.minimum(away, ((points - point) ** 2).sum(axis=1)), np.float64)
