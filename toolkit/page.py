"""One self-contained HTML page of sections: sentences, tables and pictures. Whatever text comes in is escaped."""

from __future__ import annotations

import base64
import functools
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from jinja2 import Template


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Cells as they are to be read; the first column is left-aligned, the others right-aligned."""

    columns: list[str]
    rows: list[list[str]]
    caption: str = ""


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture as a data URI, "" where it cannot be shown, and the lines under it."""

    uri: str
    caption: str


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A heading and what stands under it, in this order: sentences, warnings, tables, pictures, text as typed."""

    title: str
    sentences: list[str] = []
    warnings: list[str] = []
    tables: list[Table] = []
    pictures: list[Picture] = []
    verbatim: list[str] = []

    @property
    def anchor(self) -> str:
        """The name that a link within the page goes to."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands under the heading."""
        return not (self.sentences or self.warnings or self.tables or self.pictures or self.verbatim)


def png_picture(path: Path, caption: str) -> Picture | None:
    """The PNG in a file, None where there is none."""
    if not path.is_file():
        return None
    return Picture(uri=f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}", caption=caption)


def render(title: str, subtitle: str, sections: list[Section]) -> str:
    """The page as text; sections under which nothing stands are left out."""
    return _template().render(title=title, subtitle=subtitle, sections=[one for one in sections if not one.is_empty])


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    text = (files("toolkit") / "templates" / "page.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        text
    )
