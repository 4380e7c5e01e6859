"""Agreement of people as a ceiling: a model cannot be shown to be better than those who say what is right.

The table (csv or parquet) has the columns file, annotator and label; an image may have any number of annotators.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.tables import read_table
from toolkit.evaluation.answers import Answers
from toolkit.evaluation.figures import Figure, share
from toolkit.evaluation.intervals import TAIL, index_groups

DRAWS = 2000


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two annotators: images that both have judged, the share on which they agree, and Cohen's kappa (1960), None where
    both used a single class."""

    a: str
    b: str
    images: int
    agreement: float
    kappa: float | None


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """An annotator, and the model, against the consensus of the other annotators, on the same images: those for which
    the others have one most frequent label."""

    annotator: str
    person: Figure
    model: Figure


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """`images` of the split have a judgement of two annotators or more. `person` and `model` are the mean share of
    agreement with the consensus of the other annotators; `gap` is model less person with its 95 % interval over
    groups."""

    images: int
    annotators: list[str]
    pairs: list[Pair]
    against: list[Against]
    person: float
    model: float
    gap: float
    gap_low: float
    gap_high: float
    verdict: str


Judgements = dict[str, dict[str, str]]  # file: annotator: label


def read_annotations(path: Path, names: list[str]) -> Judgements:
    """The label that each annotator gave to each file.

    Raises:
        BadInput: a column missing, a class that the run does not have, an annotator who judged one file twice.
    """
    table = read_table(path)
    columns = [table.take_needed("file"), table.take_needed("annotator"), table.take_needed("label", "class")]
    found: Judgements = defaultdict(dict)
    for row, (file, annotator, label) in enumerate(zip(*columns, strict=True)):
        if label not in names:
            raise BadInput(f"{table.where(row)}: no class {label!r} in the run; it has {', '.join(names)}")
        if not annotator or annotator in found[file]:
            what = f"{annotator!r} judged {file} twice" if annotator else "no annotator"
            raise BadInput(f"{table.where(row)}: {what}")
        found[file][annotator] = label
    return dict(found)


def measure_ceiling(answers: Answers, names: list[str], judgements: Judgements, *, seed: int = 0) -> Ceiling:
    """People against each other, and the model against people.

    Each annotator is compared with the most frequent label of the others (images where these are torn are left out),
    and so is the model, on the very same images, so that neither has a part in what it is compared with.

    Raises:
        BadInput: fewer than two annotators on every image of the split.
    """
    said = [names[place] for place in answers.logits.argmax(axis=1)]
    rows = [row for row, file in enumerate(answers.files) if len(judgements.get(file, {})) > 1]
    people = sorted({person for row in rows for person in judgements[answers.files[row]]})
    against, right, group = [], [], []
    for person in people:
        hits = []
        for row in rows:
            mine = judgements[answers.files[row]]
            consensus = _consensus([label for who, label in mine.items() if who != person])
            if person in mine and consensus is not None:
                hits.append((row, mine[person] == consensus, said[row] == consensus))
        if hits:
            groups = answers.groups[[row for row, *_ in hits]]
            both = np.array([pair for _, *pair in hits])
            against.append(_against(person, both, groups))
            right.append(both)
            group.append(groups)
    if not against:
        raise BadInput("no image of this split has two annotators or more that agree; nothing to compare with")
    both, groups = np.concatenate(right).astype(float), np.concatenate(group)
    person_share, model_share = both.mean(axis=0)
    low, high = _gap(both[:, 1] - both[:, 0], groups, np.random.default_rng(seed))
    return Ceiling(
        images=len(rows),
        annotators=people,
        pairs=[pair for a, b in itertools.combinations(people, 2) if (pair := _pair(a, b, judgements, answers.files))],
        against=against,
        person=float(person_share),
        model=float(model_share),
        gap=float(model_share - person_share),
        gap_low=low,
        gap_high=high,
        verdict=_verdict(float(person_share), float(model_share), low, high),
    )


def cohen_kappa(a: list[str], b: list[str]) -> float | None:
    """Agreement beyond that of chance, None where both say one class only (Cohen 1960).

    >>> cohen_kappa(["x", "x", "y", "y"], ["x", "y", "y", "y"])
    0.5
    """
    agreed = float(np.mean([one == other for one, other in zip(a, b, strict=True)]))
    first, second = Counter(a), Counter(b)
    chance = sum(first[name] * second[name] for name in first) / len(a) ** 2
    return None if chance == 1 else (agreed - chance) / (1 - chance)


def _consensus(labels: list[str]) -> str | None:
    """The most frequent label, None where two are."""
    most = Counter(labels).most_common(2)
    return None if not most or (len(most) > 1 and most[0][1] == most[1][1]) else most[0][0]


def _against(person: str, both: NDArray[np.bool_], groups: NDArray[np.str_]) -> Against:
    own, model = share(both[:, 0], groups), share(both[:, 1], groups)
    if own is None or model is None:
        raise BadInput(f"{person}: no image to compare with the others")
    return Against(annotator=person, person=own, model=model)


def _pair(a: str, b: str, judgements: Judgements, files: list[str]) -> Pair | None:
    shared = [judgements[file] for file in files if {a, b} <= judgements.get(file, {}).keys()]
    if not shared:
        return None
    first, second = [one[a] for one in shared], [one[b] for one in shared]
    agreed = float(np.mean([one == other for one, other in zip(first, second, strict=True)]))
    return Pair(a=a, b=b, images=len(shared), agreement=agreed, kappa=cohen_kappa(first, second))


def _gap(gained: NDArray[np.float64], groups: NDArray[np.str_], rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of the mean gain by a Bayesian bootstrap over groups, with half an image gained and half one lost
    as the prior."""
    group = index_groups(groups)
    weights = rng.standard_gamma(1.0, (DRAWS, int(group.max()) + 1))
    prior = rng.standard_gamma(0.5, (2, DRAWS))
    sums, sizes = weights @ np.bincount(group, gained), weights @ np.bincount(group)
    drawn = (sums + prior[1] - prior[0]) / (sizes + prior.sum(axis=0))
    low, high = gained.mean() + np.quantile(drawn - drawn.mean(), [TAIL, 1 - TAIL])
    return float(low), float(high)


def _verdict(person: float, model: float, low: float, high: float) -> str:
    said = f"the model agrees with the consensus on {model:.3f} of the images, a person on {person:.3f}"
    if high < 0:
        return f"below the ceiling: {said}"
    if low > 0:
        return f"{said}: these annotators are no ceiling for it; ask for better labels before a better model"
    return f"at the ceiling, as far as these images tell: {said} (difference {low:+.3f} to {high:+.3f})"
