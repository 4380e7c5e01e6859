"""`lineside data merge-labels`: what a person sees."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from toolkit.commands.data.merge_labels import merge_labels


def test_the_merged_set_the_annotators_and_every_tie_are_shown(tmp_path: Path) -> None:
    for place in range(3):
        (tmp_path / f"{place}.png").write_bytes(b"an image is not opened")
    (tmp_path / "anna.csv").write_text("file,label\n0.png,good\n1.png,pit\n2.png,pit\n")
    (tmp_path / "ben.csv").write_text("file,label\n0.png,good\n1.png,pit\n2.png,good\n")
    tables = [str(tmp_path / "anna.csv"), str(tmp_path / "ben.csv")]
    result = CliRunner().invoke(merge_labels, [*tables, "--out", str(tmp_path / "manifest.csv")])
    assert result.exit_code == 0, result.exception
    assert "2 of 3 images have a class by majority" in result.output
    assert "tie: 2.png (1 good, 1 pit)" in result.output and "have them labelled once more" in result.output
    assert "anna" in result.output and "Fleiss' kappa 0.333" in result.output
    document = CliRunner().invoke(merge_labels, [*tables, "--out", str(tmp_path / "manifest.csv"), "--json"]).output
    assert json.loads(document)["ties"] == [{"file": "2.png", "votes": {"good": 1, "pit": 1}}]
