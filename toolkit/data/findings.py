"""Findings in sentences: how grave, of what kind, about which images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolkit.data.images import Dataset
from toolkit.data.poisoning import Mark, Outlier, Shift
from toolkit.data.shortcuts import Shortcut
from toolkit.data.suspects import LabelDoubts

Severity = Literal["problem", "warning", "note"]
FEW_GROUPS = 10
_SHOWN = 12
_BLACK = 24  # grey levels of 255: a camera's black and its noise


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence; `kind` is the check that said it, `count` how many it is about, `files` some of them."""

    severity: Severity
    kind: str
    sentence: str
    count: int = 1
    files: list[str] = []


def contradictions(dataset: Dataset, same: list[list[int]]) -> list[Finding]:
    """A problem for each image that has the pixels of an earlier one and another class."""
    cells = dataset.cells()
    return [
        Finding(
            severity="problem",
            kind="duplicate",
            sentence=f"{dataset.files[rows[0]]} and {dataset.files[row]} have equal pixels and two classes: "
            f"{cells[rows[0]]!r} and {cells[row]!r}",
            files=[dataset.files[rows[0]], dataset.files[row]],
        )
        for rows in same
        for row in rows[1:]
        if cells[row] != cells[rows[0]]
    ]


def copies(dataset: Dataset, sets: list[list[int]], sides: NDArray[np.str_] | None, *, exact: bool) -> list[Finding]:
    """What stands twice, by where: in two classes, on two sides of the split, in two groups, or in one group.

    Exact copies of two classes are `contradictions`; on two sides of a stated split they are refused by `split`.
    """
    what = "exact" if exact else "near"
    places: dict[str, list[list[int]]] = defaultdict(list)
    cells = dataset.cells()
    for rows in sets:
        if len({cells[row] for row in rows}) > 1:
            places["two classes"].append(rows)
        if sides is not None and len(set(sides[rows].tolist())) > 1:
            places["two splits"].append(rows)
        elif len(set(dataset.groups[rows].tolist())) > 1:
            places["two groups"].append(rows)
        elif len({cells[row] for row in rows}) == 1:
            places["one group"].append(rows)
    ends = {
        "two classes": "one of the labels is wrong, or the picture shows both",
        "two splits": "the score on one side is of pictures that the other has seen",
        "two groups": "give them one group, so that they stay on one side of a split",
        "one group": "which they share already",
    }
    if exact:
        ends["two groups"] = "they are taken as one group"
    out = []
    for place, end in ends.items():
        found = places[place]
        if not found or (exact and place == "two classes"):
            continue
        severity: Severity = "note" if place == "one group" or (exact and place == "two groups") else "warning"
        first = " and ".join(dataset.files[row] for row in found[0][:2])
        out.append(
            Finding(
                severity=severity,
                kind=f"{what} duplicate",
                sentence=f"{_number(len(found), 'set' if exact else 'pair')} of {what} copies in {place}, "
                f"such as {first}: {end}",
                count=len(found),
                files=[dataset.files[row] for rows in found for row in rows[:2]][:_SHOWN],
            )
        )
    return out


def mixed_groups(dataset: Dataset) -> list[Finding]:
    """Groups whose photographs have more than one class."""
    groups = dataset.groups if dataset.stated is None else dataset.stated
    names, group = np.unique(groups, return_inverse=True)
    group = group.reshape(-1)
    low, high = np.full(len(names), len(dataset.names)), np.full(len(names), -1)
    np.minimum.at(low, group, dataset.labels)
    np.maximum.at(high, group, dataset.labels)
    mixed = np.flatnonzero(low != high)
    if not len(mixed):
        return []
    rows = np.flatnonzero(group == mixed[0])[:4]
    return [
        Finding(
            severity="note",
            kind="groups",
            sentence=f"{_number(len(mixed), 'group')} of several classes, such as {str(names[mixed[0]])!r}; right "
            "where a part shows one thing in one picture and another in the next",
            count=len(mixed),
            files=[dataset.files[row] for row in rows],
        )
    ]


def few_groups(dataset: Dataset) -> list[Finding]:
    """Classes whose few parts tell little, however many images there are of them."""
    few = {
        name: groups
        for name, mine in zip(dataset.names, dataset.members().T, strict=True)
        if (groups := len(np.unique(dataset.groups[mine]))) < FEW_GROUPS
    }
    if not few:
        return []
    said = ", ".join(f"{name!r} {groups}" for name, groups in few.items())
    return [
        Finding(
            severity="warning",
            kind="balance",
            sentence=f"{_number(len(few), 'class', 'classes')} of fewer than {FEW_GROUPS} groups: {said}",
            count=len(few),
        )
    ]


def shortcuts(dataset: Dataset, found: list[Shortcut]) -> list[Finding]:
    """A warning for each fact that gives the class away."""
    return [
        Finding(
            severity="warning",
            kind="shortcut",
            sentence=each.sentence,
            count=len(dataset),
            files=[dataset.files[row] for row in each.rows],
        )
        for each in found
        if each.leaks
    ]


def suspects(doubt: LabelDoubts) -> list[Finding]:
    """One warning for all labels that confident learning counts as wrong, and a note on classes where it cannot."""
    sure = [each for each in doubt.suspects if each.confident]
    notes = [_not_learnt(doubt.not_learnt)] if doubt.not_learnt else []
    if not sure:
        return notes
    return [
        *notes,
        Finding(
            severity="warning",
            kind="label",
            sentence=f"{_number(doubt.estimated_errors, 'label')} of {doubt.judged} may be wrong{_listed(doubt)}, "
            f"first {sure[0].file}: given {sure[0].given!r}, looks like {sure[0].likely!r}",
            count=doubt.estimated_errors,
            files=[each.file for each in sure[:_SHOWN]],
        ),
    ]


def _not_learnt(names: list[str]) -> Finding:
    return Finding(
        severity="note",
        kind="label",
        sentence=f"labels of {', '.join(map(repr, names))} are ranked, but none is called wrong: most of these images "
        "look like another class to the classifier, so it may be the classifier that knows too few parts",
        count=len(names),
    )


def _listed(doubt: LabelDoubts) -> str:
    """How many of them the page has, where it has not all."""
    sure = sum(each.confident for each in doubt.suspects)
    return f" ({sure} are among the {len(doubt.suspects)} listed)" if sure < doubt.estimated_errors else ""


def almost_black(dataset: Dataset, thumbs: NDArray[np.uint8]) -> list[Finding]:
    """A warning on pictures (n, h, w) uint8 without any light place, as 10 or 12 bits in a 16-bit file give them."""
    rows = np.flatnonzero(thumbs.max(axis=(1, 2)) < _BLACK)
    if not len(rows):
        return []
    return [
        Finding(
            severity="warning",
            kind="unreadable",
            sentence=f"{_number(len(rows), 'picture')} of {len(thumbs)}, first {dataset.files[rows[0]]}, almost black: "
            f"no place is over {_BLACK - 1} of 255; where a camera puts 10 or 12 bits into 16, spread the levels first",
            count=len(rows),
            files=[dataset.files[row] for row in rows[:_SHOWN]],
        )
    ]


def outliers(found: Sequence[Outlier]) -> list[Finding]:
    """One warning for all pictures that are far from their class."""
    if not found:
        return []
    return [
        Finding(
            severity="warning",
            kind="outlier",
            sentence=f"{_number(len(found), 'image')} unlike all others of the class, first {found[0].file} "
            f"({found[0].distance:g} robust standard deviations from {found[0].given!r})",
            count=len(found),
            files=[each.file for each in found[:_SHOWN]],
        )
    ]


def marks(dataset: Dataset, found: Sequence[Mark]) -> list[Finding]:
    """A warning for each spot that marks a class."""
    return [
        Finding(
            severity="warning",
            kind="mark",
            sentence=f"{_number(each.images, 'image')} of {each.given!r} ({each.inside:.0%}) have the same spot at "
            f"{each.x:.0%} from the left, {each.y:.0%} from the top, {each.outside:.1%} of the others: a model may "
            "learn the spot",
            count=each.images,
            files=[dataset.files[row] for row in each.rows],
        )
        for each in found
    ]


def shifts(dataset: Dataset, found: Sequence[Shift]) -> list[Finding]:
    """A sentence for each source that is suddenly other."""
    said = {
        "labels": "{effect:+.0%} {what} against the others",
        "classes": "{effect:+.0%} of {what!r} against the others",
        "pictures": "pictures differ from the others of the same class: {what} by {effect:+.1f} standard deviations",
    }
    return [
        Finding(
            severity="note" if each.kind == "pictures" else "warning",
            kind="source",
            sentence=f"{each.column} {each.value!r} ({each.images} images): "
            + said[each.kind].format(effect=each.effect, what=each.what),
            count=each.images,
            files=[dataset.files[row] for row in [*each.rows, *each.others]],
        )
        for each in found
    ]


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
