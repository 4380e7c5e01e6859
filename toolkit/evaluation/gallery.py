"""Pages of pictures: the misclassified images, the worst first, and what two models disagree on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from toolkit.data.thumbnail import thumbnail_uri
from toolkit.evaluation.answers import Answers
from toolkit.evaluation.figures import Judged
from toolkit.page import Picture, Section, render

SIDE_PX = 192
MOST = 200


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """A misclassified image: true and predicted classes ("scratch|pit" for two marks) and the probability of the
    predicted top class after the temperature."""

    file: str
    group: str
    true: str
    predicted: str
    confidence: float


class Captioned(msgspec.Struct, frozen=True):
    """A picture file and the lines below it."""

    path: Path
    lines: list[str]


def find_mistakes(judged: Judged, answers: Answers) -> list[Mistake]:
    """The images whose classes are wrong, the one that was answered with the most confidence first."""
    truth, said = judged.truth(), judged.said()
    confidence = judged.probabilities.max(axis=1)
    rows = np.flatnonzero((truth != said).any(axis=1))

    def cell(row: int, members: np.ndarray) -> str:
        return "|".join(name for name, is_ in zip(judged.names, members[row], strict=True) if is_)

    return [
        Mistake(
            file=answers.files[row],
            group=str(answers.groups[row]),
            true=cell(row, truth),
            predicted=cell(row, said),
            confidence=float(confidence[row]),
        )
        for row in rows[np.argsort(-confidence[rows], kind="stable")]
    ]


def write_gallery(path: Path, folder: Path, title: str, mistakes: Sequence[Mistake]) -> None:
    """An HTML page that stands alone, with the first 200 mistakes and their pictures from `folder`.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    pictures = [
        Captioned(
            folder / one.file,
            [f"{one.predicted}, {one.confidence:.3f}", f"true: {one.true}", one.file, f"group {one.group}"],
        )
        for one in mistakes[:MOST]
    ]
    said = f"{len(mistakes)} images are wrong, the most confident first"
    write_page(path, title, [said + (f"; {MOST} are shown" if len(mistakes) > MOST else "")], pictures)


def write_page(path: Path, title: str, sentences: Sequence[str], pictures: Sequence[Captioned]) -> None:
    """An HTML page with pictures inside it; every text is escaped, a picture that cannot be read says so.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    section = Section(title="Images", sentences=list(sentences), pictures=[_shown(one) for one in pictures])
    write_whole(path, render(title, "", [section]))


def _shown(one: Captioned) -> Picture:
    try:
        return Picture(uri=thumbnail_uri(one.path, SIDE_PX), caption="\n".join(one.lines))
    except BadInput as error:
        return Picture(uri="", caption="\n".join([*one.lines, str(error)]))
