"""What only a person can say of a model: what it is for, what not, under which licence; a TOML file beside the run."""

from __future__ import annotations

from pathlib import Path

import msgspec

from device_agent.contract.errors import BadInput
from toolkit.paths import reading

FILE = "card.toml"
_LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
_SOURCES = ("SOURCE.md", "SOURCE", "README.md", "README")
_EXCERPT = 1200  # characters


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Free text, empty where nothing was said. `licence` is the model's; that of the images lies with them."""

    intended_use: str = ""
    out_of_scope: str = ""
    licence: str = ""
    contact: str = ""
    notes: str = ""


class Excerpt(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a text file that lies with the images: its name, and whether there is more of it."""

    name: str
    text: str
    cut: bool


def read_card(path: Path | None, run: Path) -> Card:
    """The card in `path`, else in RUN/card.toml, else an empty one.

    Raises:
        BadInput: not TOML, or a field that a card does not have; the sentence lists those it has.
    """
    chosen = path if path is not None else run / FILE
    with reading(chosen):
        if path is None and not chosen.is_file():
            return Card()
        text = chosen.read_bytes()
    try:
        return msgspec.toml.decode(text, type=Card)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fields = ", ".join(Card.__struct_fields__)
        raise BadInput(f"{chosen}: must be TOML with texts for {fields}: {str(error).lower()}") from error


def licence_of(data: Path) -> Excerpt | None:
    """The licence that lies with the images, if one does."""
    return _excerpt(data, _LICENCES)


def source_of(data: Path) -> Excerpt | None:
    """What lies with the images and says where they are from, if anything does."""
    return _excerpt(data, _SOURCES)


def _excerpt(folder: Path, names: tuple[str, ...]) -> Excerpt | None:
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        return None
    with reading(path), path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(_EXCERPT + 1)
    return Excerpt(name=path.name, text=text[:_EXCERPT].strip(), cut=len(text) > _EXCERPT)
