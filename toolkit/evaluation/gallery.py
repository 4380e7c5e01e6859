"""Pages of pictures: the misclassified images, the worst first, and what two models disagree on."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from device_agent.contract.optional import require
from device_agent.frames.picture import read_picture
from toolkit.evaluation.answers import Answers
from toolkit.evaluation.figures import Judged

SIDE_PX = 192
MOST = 200
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid #ccc; padding: .5rem; overflow-wrap: anywhere; }
img { width: 100%; image-rendering: auto; } figcaption { font-size: 13px; } b { color: #a00; }
"""


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """A misclassified image: true and predicted classes ("scratch|pit" for two marks) and the probability of the
    predicted top class after the temperature."""

    file: str
    group: str
    true: str
    predicted: str
    confidence: float


class Captioned(msgspec.Struct, frozen=True):
    """A picture file and the lines below it, the first of which stands out."""

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
    figures = "\n".join(_figure(one) for one in pictures)
    head = "".join(f"<p>{html.escape(sentence)}</p>\n" for sentence in sentences)
    write_whole(
        path,
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>\n"
        f"<style>{_STYLE}</style>\n<h1>{html.escape(title)}</h1>\n{head}<main>\n{figures}\n</main></html>\n",
    )


def _figure(one: Captioned) -> str:
    first, *rest = (html.escape(line) for line in one.lines)
    caption = "<br>".join([f"<b>{first}</b>", *rest])
    try:
        picture = f'<img alt="" src="data:image/jpeg;base64,{_thumbnail(one.path)}">'
    except BadInput as error:
        picture = f"<p>{html.escape(str(error))}</p>"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _thumbnail(path: Path) -> str:
    cv2 = require("cv2", extra="toolkit")
    image = read_picture(path)
    height, width = image.shape[:2]
    scale = SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = cv2.resize(image, size, interpolation=how)
    _, content = cv2.imencode(".jpg", small if small.ndim == 2 else small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return base64.b64encode(content.tobytes()).decode()
