"""The pages of a difference: figures and layers, and the pictures on which decisions flip."""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.files import write_whole
from toolkit.evaluation.comparison import write_flips
from toolkit.explanation.difference import ModelDifference
from toolkit.explanation.difference_words import figure_rows, flip_rows, layer_rows, sentences
from toolkit.page import Section, Table, render


def write_difference(folder: Path, found: ModelDifference) -> None:
    """diff.html in `folder`, and flips.html with the pictures where decisions were compared.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    sections = [
        Section(title="Figures", sentences=[f"A is {found.a}", f"B is {found.b}"], tables=[_table(figure_rows(found))]),
        Section(title="Findings", sentences=sentences(found)),
    ]
    if found.changed:
        sections.append(Section(title="Layers that differ", tables=[_table(layer_rows(found))]))
    if found.decisions is not None and found.decisions.flips:
        said = "their pictures are in flips.html"
        sections.append(Section(title="Decisions that flip", sentences=[said], tables=[_table(flip_rows(found))]))
    write_whole(folder / "diff.html", render("What is different", f"{found.b} against {found.a}", sections))
    if found.decisions is not None:
        write_flips(folder / "flips.html", Path(found.pictures), found.decisions)


def _table(rows: tuple[list[str], list[list[str]]]) -> Table:
    return Table(columns=rows[0], rows=rows[1])
