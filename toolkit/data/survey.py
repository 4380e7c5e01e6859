"""A look over a data set: its classes, groups and split, and every image that cannot be read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from device_agent.contract.errors import BadInput
from toolkit.data.images import Dataset, Progress, joined, open_dataset, pixel_digests
from toolkit.data.listing import SPLITS, passed_over
from toolkit.data.splits import split


class ClassRow(msgspec.Struct, frozen=True, kw_only=True):
    """One class: images, groups (parts), and images in each split."""

    name: str
    role: str
    images: int
    groups: int
    splits: dict[str, int]


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What a data set holds; `split_by` is "by the manifest", "by seed N" or "not possible"; `passed_over`
    counts the files that are no part of it, by place and suffix; problems in sentences."""

    path: str
    sha256: str
    images: int
    groups: int
    split_by: str
    classes: list[ClassRow]
    passed_over: dict[str, int]
    problems: list[str]


def survey(path: str | Path, *, seed: int = 0, progress: Progress | None = None) -> Survey:
    """Open, read every image and split, collecting what is wrong.

    Raises:
        NotFound: no such folder.
        BadInput: no data set, see `images.open_dataset`.
    """
    dataset = open_dataset(path, join=False)
    pixels = pixel_digests(dataset, progress)
    problems = [str(found) for found in pixels if isinstance(found, BadInput)]
    if not problems:
        dataset = joined(dataset, [found for found in pixels if isinstance(found, bytes)])
        problems = _contradictions(dataset)
    sides = np.full(len(dataset), "", "<U5")
    split_by = "by the manifest" if dataset.splits is not None else f"by seed {seed}"
    try:
        sides = split(dataset, seed)
    except BadInput as error:
        split_by = "not possible"
        problems.append(str(error))
    rows = [
        ClassRow(
            name=name,
            role=role,
            images=int((mine := dataset.labels == label).sum()),
            groups=len(np.unique(dataset.groups[mine])),
            splits={side: int((mine & (sides == side)).sum()) for side in SPLITS},
        )
        for label, (name, role) in enumerate(zip(dataset.names, dataset.roles, strict=True))
    ]
    return Survey(
        path=str(path),
        sha256="" if problems else dataset.sha256(),
        images=len(dataset),
        groups=len(np.unique(dataset.groups)),
        split_by=split_by,
        classes=rows,
        passed_over=passed_over(dataset.dir, dataset.files),
        problems=problems,
    )


def _contradictions(dataset: Dataset) -> list[str]:
    """A sentence for each image that has the pixels of an earlier one and another class."""
    first: dict[bytes, int] = {}
    said = []
    for row, pixels in enumerate(dataset.pixels or []):
        other = first.setdefault(pixels, row)
        if dataset.labels[other] != dataset.labels[row]:
            classes = " and ".join(repr(dataset.names[dataset.labels[each]]) for each in (other, row))
            said.append(f"{dataset.files[other]} and {dataset.files[row]} have equal pixels and two classes: {classes}")
    return said
