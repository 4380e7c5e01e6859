"""What several annotators said about each image, and how far they agree.

annotations.csv, beside the manifest, is a long table: file (as in the manifest), annotator, label; one row for each
label that a person gave. It stays when the labels are merged, so that a model can be compared with what people reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotFound
from toolkit.data.classes import BETWEEN
from toolkit.data.images import Dataset
from toolkit.data.listing import ANNOTATIONS, within
from toolkit.data.tables import Table, csv_text, read_table


class Annotations(NamedTuple):
    """One entry a label: `image`, `annotator` and `label` (m,) int64 index `files`, `annotators` and `names`."""

    files: list[str]
    annotators: list[str]
    names: list[str]
    image: NDArray[np.int64]
    annotator: NDArray[np.int64]
    label: NDArray[np.int64]

    def votes(self) -> NDArray[np.int64]:
        """How many annotators gave each image each label: (files, names) int64."""
        out = np.zeros((len(self.files), len(self.names)), np.int64)
        np.add.at(out, (self.image, self.label), 1)
        return out

    def table(self) -> str:
        """The text of annotations.csv."""
        rows = zip(self.image.tolist(), self.annotator.tolist(), self.label.tolist(), strict=True)
        return csv_text(
            ["file", "annotator", "label"],
            ([self.files[image], self.annotators[who], self.names[label]] for image, who, label in rows),
        )


def annotations_of(dataset: Dataset) -> Annotations | None:
    """The annotations.csv that lies with a data set, None where there is none.

    Raises:
        BadInput: as `read_annotations`.
    """
    path = dataset.dir / ANNOTATIONS
    return read_annotations([path]) if path.exists() else None


def read_annotations(paths: Sequence[Path]) -> Annotations:
    """The labels in one or several tables, csv or parquet, with the columns file, annotator and label (or class).

    A table without the column annotator is that of one person, who is called as the file.

    Raises:
        NotFound: no such table.
        BadInput: a column is missing, a cell is empty, a file lies outside the folder, or an annotator labelled one
            image twice.
    """
    said: dict[tuple[str, str], tuple[str, Table, int]] = {}
    for path in paths:
        if not path.exists():
            raise NotFound(f"{path}: no such table of file, annotator and label")
        table = read_table(path)
        files = table.take_needed("file")
        annotators = table.take("annotator") or [path.stem] * len(files)
        labels = table.take_needed("label", "class")
        for row, (file, who, label) in enumerate(zip(files, annotators, labels, strict=True)):
            if not who or not label:
                raise BadInput(f"{table.where(row)} has no {'label' if who else 'annotator'}")
            key = (within(path, file), who)
            if key in said:
                _, other, at = said[key]
                raise BadInput(f"{table.where(row)}: {who} has labelled {key[0]} before, at {other.where(at)}")
            said[key] = _in_order(label), table, row
    if not said:
        raise BadInput(f"{paths[0]}: no label is listed")
    files = list(dict.fromkeys(file for file, _ in said))
    annotators = sorted({who for _, who in said})
    names = sorted({label for label, _, _ in said.values()})
    return Annotations(
        files,
        annotators,
        names,
        _codes([file for file, _ in said], files),
        _codes([who for _, who in said], annotators),
        _codes([label for label, _, _ in said.values()], names),
    )


def _in_order(label: str) -> str:
    """Several marks of one image in one spelling.

    >>> _in_order("scratch| pit")
    'pit|scratch'
    """
    return BETWEEN.join(sorted({part.strip() for part in label.split(BETWEEN)}))


def disagreement(votes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share of pairs of annotators that differ on each image: (n,), NaN where there are not two.

    >>> disagreement(np.array([[3, 0], [2, 1], [1, 0]])).round(3).tolist()
    [0.0, 0.667, nan]
    """
    count = votes.sum(axis=1)
    pairs = np.where(count > 1, count * (count - 1), np.nan)
    out: NDArray[np.float64] = 1 - (votes * (votes - 1)).sum(axis=1) / pairs
    return out


def fleiss_kappa(votes: NDArray[np.int64]) -> float | None:
    """Agreement beyond chance of `votes` (images, classes), 1 at most; None where it is not defined.

    Fleiss, Measuring nominal scale agreement among many raters (1971); where images have unequal numbers of labels,
    each image with two or more counts once. the example has 10 images and 14 annotators.

    >>> rows = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]]
    >>> rows += [[7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]
    >>> round(fleiss_kappa(np.array(rows)), 3)
    0.21
    """
    votes = votes[votes.sum(axis=1) > 1]
    if not len(votes):
        return None
    chance = float(((votes.sum(axis=0) / votes.sum()) ** 2).sum())
    return None if chance == 1 else float((1 - disagreement(votes).mean() - chance) / (1 - chance))


def krippendorff_alpha(votes: NDArray[np.int64]) -> float | None:
    """Reliability of the labels in `votes` (images, classes), 1 at most; None where it is not defined.

    Krippendorff, Computing Krippendorff's alpha-reliability (2011), for classes without order and any number of labels
    an image. Example C of that paper:

    >>> rows = [[3, 0, 0, 0, 0], [0, 3, 1, 0, 0], [0, 0, 4, 0, 0], [0, 0, 4, 0, 0], [0, 4, 0, 0, 0], [1, 1, 1, 1, 0]]
    >>> rows += [[0, 0, 0, 4, 0], [3, 1, 0, 0, 0], [0, 4, 0, 0, 0], [0, 0, 0, 0, 3], [2, 0, 0, 0, 0], [0, 0, 1, 0, 0]]
    >>> round(krippendorff_alpha(np.array(rows)), 3)
    0.743
    """
    votes = votes[votes.sum(axis=1) > 1]
    total = votes.sum()
    if not len(votes):
        return None
    of_class, of_image = votes.sum(axis=0), votes.sum(axis=1)
    expected = float(total**2 - (of_class**2).sum()) / float(total - 1)
    observed = float(((of_image**2 - (votes**2).sum(axis=1)) / (of_image - 1)).sum())
    return None if expected == 0 else 1 - observed / expected


def _codes(values: list[str], names: list[str]) -> NDArray[np.int64]:
    place = {name: number for number, name in enumerate(names)}
    return np.fromiter((place[value] for value in values), np.int64, len(values))
