"""A look over a data set: its classes, groups and split, what is wrong with it, and what is doubtful."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.balance import Rarest, rarest_of
from toolkit.data.decoding import read_grey
from toolkit.data.duplicates import exact_sets, near_pairs
from toolkit.data.findings import (
    Finding,
    almost_black,
    contradictions,
    copies,
    few_groups,
    marks,
    mixed_groups,
    outliers,
    shifts,
)
from toolkit.data.findings import shortcuts as shortcut_findings
from toolkit.data.findings import suspects as suspect_findings
from toolkit.data.images import Dataset, Progress, joined, open_dataset
from toolkit.data.listing import SPLITS, passed_over
from toolkit.data.looks import Looks, look
from toolkit.data.poisoning import components, find_marks, find_outliers, find_shifts
from toolkit.data.shortcuts import Shortcut, find_shortcuts
from toolkit.data.split_file import choose_split, split_path
from toolkit.data.suspects import LabelDoubts, find_suspects

Depth = Literal["quick", "full"]
Watch = Callable[[str], Progress | None]  # the progress of a step that is named
Backbone = Callable[[Dataset, Progress | None], NDArray[np.floating]]


class ClassRow(msgspec.Struct, frozen=True, kw_only=True):
    """One class: images, groups (parts), and images and groups in each split."""

    name: str
    role: str
    images: int
    groups: int
    splits: dict[str, int]
    split_groups: dict[str, int] = {}


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What a data set holds; `split_by` is "by the manifest", "by seed N" or "not possible"; `passed_over`
    counts the files that are no part of it, by place and suffix; `problems` in sentences, which are also the findings
    of that severity. `imbalance` is the number of images of the largest class to that of the smallest."""

    path: str
    sha256: str
    images: int
    groups: int
    split_by: str
    classes: list[ClassRow]
    passed_over: dict[str, int]
    problems: list[str]
    depth: Depth = "full"
    imbalance: float = 1.0
    images_per_group: list[int] = []  # fewest, median, most
    rarest: Rarest | None = None
    findings: list[Finding] = []
    shortcuts: list[Shortcut] = []
    doubt: LabelDoubts = LabelDoubts()

    def of(self, severity: str) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]


def survey(
    path: str | Path,
    *,
    seed: int = 0,
    depth: Depth = "full",
    backbone: Backbone | None = None,
    progress: Watch | None = None,
) -> Survey:
    """Read every image once and look for what is wrong; "quick" leaves out label suspects and signs of poisoning.

    Args:
        seed: of the split, and of all that is drawn.
        backbone: features of a trained network, taken beside the plain ones for label suspects.
        progress: gives a callback for each step that it is told the name of.

    Raises:
        NotFound: no such folder.
        BadInput: no data set, see `images.open_dataset`.
    """
    watch = progress or (lambda _: None)
    dataset = open_dataset(path, join=False)
    looks, rows, unreadable = look(dataset, features=depth == "full", progress=watch("reading"))
    findings = [Finding(severity="problem", kind="unreadable", sentence=each) for each in unreadable]
    if not unreadable:
        dataset = joined(dataset, looks.digests)
        rows = list(range(len(dataset)))
    sides, split_by, refused = _split(dataset, seed)
    findings += [Finding(severity="problem", kind="split", sentence=each) for each in refused]
    readable = dataset if not unreadable else joined(dataset.only(rows), looks.digests)
    stated = sides[rows] if dataset.splits is not None or split_path(dataset).exists() else None
    findings += almost_black(readable, looks.thumbs)
    findings += _copies(readable, looks, stated, watch)
    findings += [*mixed_groups(readable), *few_groups(readable)] if len(readable) else []
    found, doubt = (
        _statistics(readable, looks, seed, watch, backbone, findings) if len(readable) else ([], LabelDoubts())
    )
    problems = [each.sentence for each in findings if each.severity == "problem"]
    per_group = np.unique(dataset.groups, return_counts=True)[1]
    counts = dataset.counts()
    classes = _class_rows(dataset, sides)
    return Survey(
        path=str(path),
        sha256="" if unreadable else dataset.sha256(watch("hashing")),
        images=len(dataset),
        groups=len(per_group),
        split_by=split_by,
        classes=classes,
        passed_over=passed_over(dataset.dir, dataset.files),
        problems=problems,
        depth=depth,
        imbalance=round(float(counts.max() / max(counts.min(), 1)), 2),
        images_per_group=[int(per_group.min()), int(np.median(per_group)), int(per_group.max())],
        rarest=rarest_of(dataset, sides),
        findings=sorted(findings, key=lambda each: ("problem", "warning", "note").index(each.severity)),
        shortcuts=found,
        doubt=doubt,
    )


def _split(dataset: Dataset, seed: int) -> tuple[NDArray[np.str_], str, list[str]]:
    """The side of each image, by what, and why not."""
    try:
        sides, said = choose_split(dataset, seed)
        return sides, said, []
    except BadInput as error:
        empty = np.full(len(dataset), "", "<U5")
        return empty if dataset.splits is None else dataset.splits, "not possible", [str(error)]


def _class_rows(dataset: Dataset, sides: NDArray[np.str_]) -> list[ClassRow]:
    members = dataset.members()
    out = []
    for label, (name, role) in enumerate(zip(dataset.names, dataset.roles, strict=True)):
        mine = members[:, label]
        out.append(
            ClassRow(
                name=name,
                role=role,
                images=int(mine.sum()),
                groups=len(np.unique(dataset.groups[mine])),
                splits={side: int((mine & (sides == side)).sum()) for side in SPLITS},
                split_groups={side: len(np.unique(dataset.groups[mine & (sides == side)])) for side in SPLITS},
            )
        )
    return out


def _copies(dataset: Dataset, looks: Looks, sides: NDArray[np.str_] | None, watch: Watch) -> list[Finding]:
    """What is there twice, by where the copies stand."""
    stated = replace(dataset, groups=dataset.groups if dataset.stated is None else dataset.stated)

    pairs = near_pairs(
        looks.digests,
        looks.hashes,
        looks.thumbs,
        lambda row: read_grey(dataset.dir / dataset.files[row]),
        progress=watch("comparing"),
    )
    same = exact_sets(looks.digests)
    return [
        *contradictions(dataset, same),
        *copies(stated, same, sides, exact=True),
        *copies(stated, pairs.tolist(), sides, exact=False),
    ]


def _statistics(
    dataset: Dataset,
    looks: Looks,
    seed: int,
    watch: Watch,
    backbone: Backbone | None,
    findings: list[Finding],
) -> tuple[list[Shortcut], LabelDoubts]:
    """Shortcuts and doubts; what is worth a sentence is added to the findings."""
    found = find_shortcuts(looks, dataset.columns, dataset.labels, dataset.groups, dataset.names, seed=seed)
    findings += shortcut_findings(dataset, found)
    if looks.features is None:
        return found, LabelDoubts(skipped="left out by --quick")
    views = [looks.features, *([backbone(dataset, watch("backbone"))] if backbone else [])]
    doubt, scores = find_suspects(
        views,
        dataset.labels,
        dataset.groups,
        dataset.names,
        dataset.files,
        members=None if dataset.marks is None else dataset.members(),
        seed=seed,
        progress=watch("label suspects"),
    )
    findings += suspect_findings(doubt)
    findings += marks(dataset, find_marks(looks.thumbs, dataset.labels, dataset.names))
    points = components(looks.features)
    findings += outliers(find_outliers(points, dataset.labels, dataset.groups, dataset.names, dataset.files))
    doubted = np.where(np.isnan(scores), np.nan, 0.0)
    doubted[[each.row for each in doubt.suspects if each.confident]] = 1
    findings += shifts(
        dataset,
        find_shifts(looks, points, dataset.columns, dataset.labels, dataset.groups, dataset.names, doubted),
    )
    return found, doubt
