"""The page of `data check`: every finding with its pictures, in one HTML file that needs nothing else.

File names, classes and columns come from whoever made the data set; the template escapes all of them.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import msgspec

from device_agent.contract.errors import BadInput
from device_agent.contract.files import write_whole
from device_agent.contract.optional import require
from toolkit.data.findings import Finding
from toolkit.data.survey import Survey
from toolkit.data.thumbnail import thumbnail_uri

_SIDE = 112  # px of a thumbnail
_SUSPECTS = 60
_FINDINGS = 200  # of one section; the rest is counted
SECTIONS = {
    "Files and split": ("unreadable", "split"),
    "Duplicates": ("duplicate", "exact duplicate", "near duplicate"),
    "Groups and balance": ("groups", "balance"),
    "Shortcuts": ("shortcut",),
    "Labels": ("label",),
    "Signs of poisoning": ("mark", "outlier", "source"),
}


class Thumb(msgspec.Struct, frozen=True, kw_only=True):
    """A picture as a data URI, "" where it cannot be read, and the lines under it."""

    uri: str
    lines: list[str]


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A finding and its pictures."""

    finding: Finding
    thumbs: list[Thumb]


def write_page(survey: Survey, path: Path) -> None:
    """Write the page wholly or not at all; only pictures of findings are read.

    Raises:
        NotWritable: the disk is full, read-only or forbids it.
    """
    write_whole(path, render(survey))


def render(survey: Survey) -> str:
    """The page as HTML."""
    jinja2 = require("jinja2", extra="toolkit")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("toolkit.data").joinpath("templates/check.html.j2").read_text("utf-8"))
    pictures = _Pictures(survey)
    sections = {}
    for title, kinds in SECTIONS.items():
        found = [each for each in survey.findings if each.kind in kinds]
        cards = [
            Card(finding=each, thumbs=[pictures.of(file, [file]) for file in each.files]) for each in found[:_FINDINGS]
        ]
        sections[title] = (cards, len(found) - len(cards))
    suspects = [
        pictures.of(each.file, [f"{each.given} → {each.likely}?", f"{each.rank}. {each.score:.3f}", each.file])
        for each in survey.doubt.suspects[:_SUSPECTS]
    ]
    html: str = template.render(
        survey=survey,
        sections=sections,
        suspects=suspects,
        counts={severity: len(survey.of(severity)) for severity in ("problem", "warning", "note")},
        most=max(row.images for row in survey.classes),
    )
    return html


class _Pictures:
    """Thumbnails, each made once."""

    def __init__(self, survey: Survey) -> None:
        path = Path(survey.path)
        self._dir = path.parent if path.is_file() else path
        self._made: dict[str, str] = {}

    def of(self, file: str, lines: list[str]) -> Thumb:
        if file not in self._made:
            self._made[file] = _thumb(self._dir / file)
        return Thumb(uri=self._made[file], lines=lines)


def _thumb(path: Path) -> str:
    try:
        return thumbnail_uri(path, _SIDE)
    except BadInput:
        return ""
