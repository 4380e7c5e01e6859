"""The labels of several annotators become one an image: by majority, or by how far each annotator can be believed."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from device_agent.contract.optional import require
from toolkit.data.annotations import Annotations, disagreement, fleiss_kappa, krippendorff_alpha, read_annotations
from toolkit.data.classes import check_names
from toolkit.data.listing import ANNOTATIONS, within
from toolkit.data.tables import csv_text, read_table
from toolkit.paths import reading

Method = Literal["majority", "dawid-skene"]
COLUMNS = ("file", "class", "confidence", "annotators", "disagreement")
_TIE = 1e-6  # of two probabilities


class Tie(msgspec.Struct, frozen=True, kw_only=True):
    """An image for which no class is ahead; `votes` are the labels that it was given."""

    file: str
    votes: dict[str, int]


class AnnotatorRow(msgspec.Struct, frozen=True, kw_only=True):
    """One annotator: `accuracy` against the merged class, on images that have one; `agreement` with each other person
    on the images that both labelled, both in [0, 1] and None without such images; `confusion` counts images, a row for
    each merged class, a column for each label that was given."""

    name: str
    images: int
    accuracy: float | None
    agreement: float | None
    confusion: list[list[int]]


class MergeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was merged, measured on the labels themselves. `images` have labels, `decided` of them a class and a row in
    the manifest, `ties` have none; `alone` were labelled by one person only; `without_labels` stand in the manifest
    that was given, and are left out. Kappa and alpha are None without two labels of an image, or if all are equal."""

    path: str
    annotations: str
    method: Method
    images: int
    decided: int
    alone: int
    without_labels: int
    classes: dict[str, int]
    names: list[str]
    ties: list[Tie]
    annotators: list[AnnotatorRow]
    fleiss_kappa: float | None
    krippendorff_alpha: float | None


def merge_labels(
    paths: Sequence[Path],
    out: Path,
    *,
    method: Method = "majority",
    manifest: Path | None = None,
    force: bool = False,
) -> MergeResult:
    """Write the manifest `out` with one class an image, and annotations.csv beside it with all that was said.

    An image for which no class is ahead is listed in the result and left out of the manifest. The other columns of
    `manifest` are taken over.

    Raises:
        BadInput: tables that do not fit (see `read_annotations`), an image that does not lie beside `out` or is not in
            `manifest`, fewer than two classes, or `out` is no .csv, or is there and not `force`.
        MissingPackage: crowd-kit is not installed, for dawid-skene.
        NotWritable: the disk is full, read-only or forbids it.
    """
    if out.suffix.lower() != ".csv":
        raise BadInput(f"{out}: the manifest is written as a table of text, such as {out.with_suffix('.csv')}")
    said = read_annotations(paths)
    other, without_labels = _other_columns(manifest, said)
    _check_images(out, said)
    votes = said.votes()
    share = votes / votes.sum(axis=1, keepdims=True) if method == "majority" else dawid_skene(said)
    merged = consensus(share)
    decided = np.flatnonzero(merged >= 0)
    if not len(decided):
        raise BadInput(f"{out}: on none of {len(said.files)} images is a class ahead; have them labelled once more")
    names = [said.names[label] for label in merged[decided]]
    check_names(out, sorted(set(names)))
    apart = disagreement(votes)
    rows = [
        [
            said.files[row],
            said.names[merged[row]],
            f"{share[row].max():.4f}",
            int(votes[row].sum()),
            "" if math.isnan(apart[row]) else f"{apart[row]:.4f}",
            *(column[said.files[row]] for column in other.values()),
        ]
        for row in decided.tolist()
    ]
    annotations = out.with_name(ANNOTATIONS)
    contents = {annotations: said.table(), out: csv_text([*COLUMNS, *other], rows)}
    for path, text in contents.items():
        with reading(path):
            if not force and path.exists() and path.read_bytes() != text.encode():
                raise BadInput(f"{path}: is there already and differs; --force replaces it")
    for path, text in contents.items():
        write_whole(path, text)
    return MergeResult(
        path=str(out),
        annotations=str(annotations),
        method=method,
        images=len(said.files),
        decided=len(decided),
        alone=int((votes.sum(axis=1) == 1).sum()),
        without_labels=without_labels,
        classes=dict(sorted(Counter(names).items())),
        names=said.names,
        ties=[_tie(said, votes, row) for row in np.flatnonzero(merged < 0).tolist()],
        annotators=[_annotator(said, votes, merged, who) for who in range(len(said.annotators))],
        fleiss_kappa=fleiss_kappa(votes),
        krippendorff_alpha=krippendorff_alpha(votes),
    )


def consensus(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """The class that is ahead in each row of `share` (n, classes), or -1 where two are equally far: (n,) int64.

    >>> consensus(np.array([[0.25, 0.75], [0.5, 0.5]])).tolist()
    [1, -1]
    """
    ahead = share.max(axis=1, keepdims=True) - share < _TIE
    return np.where(ahead.sum(axis=1) == 1, share.argmax(axis=1), -1)


def dawid_skene(said: Annotations) -> NDArray[np.float64]:
    """The probability of each class for each image, given how often each annotator errs: (files, names), rows sum to 1.

    Dawid and Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm (1979), by crowd-kit,
    at most 100 steps from the majority. With fewer than three labels an image it can tell little more than that.

    Raises:
        MissingPackage: crowd-kit is not installed.
    """
    aggregation, pandas = require("crowdkit.aggregation", extra="annotators"), require("pandas", extra="annotators")
    labels = pandas.DataFrame({"task": said.image, "worker": said.annotator, "label": said.label})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # crowd-kit's way of calling pandas 3
        found = aggregation.DawidSkene(n_iter=100).fit_predict_proba(labels)
    table = found.reindex(index=range(len(said.files)), columns=range(len(said.names)), fill_value=0.0)
    share: NDArray[np.float64] = np.array(table, np.float64)
    share /= share.sum(axis=1, keepdims=True)
    return share


def _other_columns(manifest: Path | None, said: Annotations) -> tuple[dict[str, dict[str, str]], int]:
    """The columns of the manifest that are kept, each by file; and its number of images that nobody labelled."""
    if manifest is None:
        return {}, 0
    table = read_table(manifest)
    files = [within(manifest, file) for file in table.take_needed("file")]
    table.take("class", "label")
    if len(set(files)) < len(files):
        raise BadInput(f"{manifest}: {Counter(files).most_common(1)[0][0]} is listed twice")
    known = set(files)
    strange = [file for file in said.files if file not in known]
    if strange:
        raise BadInput(f"{manifest}: {len(strange)} of the labelled images are not in it, first {strange[0]}")
    kept = {name: column for name, column in table.columns.items() if name not in COLUMNS}
    by_file = {name: dict(zip(files, column, strict=True)) for name, column in kept.items()}
    return by_file, len(known) - len(said.files)


def _check_images(out: Path, said: Annotations) -> None:
    with reading(out):
        missing = [file for file in said.files if not (out.parent / file).is_file()]
    if missing:
        raise BadInput(
            f"{out}: {len(missing)} of {len(said.files)} labelled images do not lie beside it, first {missing[0]}; the "
            "manifest stands in the folder to which the file names are relative"
        )


def _tie(said: Annotations, votes: NDArray[np.int64], row: int) -> Tie:
    given = zip(said.names, votes[row].tolist(), strict=True)
    return Tie(file=said.files[row], votes={name: count for name, count in given if count})


def _annotator(said: Annotations, votes: NDArray[np.int64], merged: NDArray[np.int64], who: int) -> AnnotatorRow:
    mine = said.annotator == who
    image, label = said.image[mine], said.label[mine]
    others = votes[image].sum(axis=1) - 1
    alike = (votes[image, label] - 1).sum()
    decided = merged[image] >= 0
    confusion = np.zeros((len(said.names), len(said.names)), np.int64)
    np.add.at(confusion, (merged[image[decided]], label[decided]), 1)
    return AnnotatorRow(
        name=said.annotators[who],
        images=len(image),
        accuracy=float(confusion.trace() / decided.sum()) if decided.any() else None,
        agreement=float(alike / others.sum()) if others.any() else None,
        confusion=confusion.tolist(),
    )
