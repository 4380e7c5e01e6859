"""The page of a run: what was measured stands in it, what was not is said, and no text of others becomes HTML."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from device_agent.contract.errors import BadInput
from toolkit.cli import cli
from toolkit.evaluation.scores import evaluate_artifact
from toolkit.page import Section, Table, render
from toolkit.report.card import read_card
from toolkit.report.limits import limits_of
from toolkit.report.report import evaluations_of, write_report
from toolkit.runs import Run, open_run, write_record


class _Words(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_figure_of_an_evaluation_is_in_the_page(tiny_run: Run) -> None:
    result = evaluate_artifact(tiny_run, "onnx-int8")
    written = write_report(tiny_run)
    words = _Words(Path(written.path).read_text())
    assert "Accuracy" in written.sections
    low, high = result.macro_f1_interval
    assert f"{result.macro_f1:.3f} ({low:.3f} to {high:.3f})" in words.text
    assert "onnx-int8" in words.text
    assert tiny_run.record.data_sha256 in words.text
    assert "bright (defect), dark (defect), good (good)" in words.text


def test_what_was_asked_beyond_the_figures_is_told(tiny_run: Run) -> None:
    words = ["evaluate", str(tiny_run.dir), "--artifact", "onnx-fp32", "--slice", "camera", "--min", "macro-f1=0.999"]
    assert CliRunner().invoke(cli, words).exit_code != 0, "the gate is missed"
    page = _page(tiny_run)
    assert "onnx-fp32 (val): camera: " in page
    assert "missed: onnx-fp32 macro-f1" in page
    assert "95 % intervals over parts; the worst first." in page


def test_the_operating_point_and_what_it_does_not_show_are_told(tiny_run: Run) -> None:
    words = ["operating-point", str(tiny_run.dir), "--artifact", "onnx-fp32", "--escape-cost", "500"]
    CliRunner().invoke(cli, [*words, "--overkill-cost", "2"], catch_exceptions=False)
    page = _page(tiny_run)
    assert "An escape costs 500, an overkill 2" in page
    assert "an escape rate of 0.5 % is not shown" in page


def test_robustness_is_told_with_its_worst_kinds(tiny_run: Run) -> None:
    words = ["robustness", str(tiny_run.dir), "--artifact", "onnx-fp32", "--kinds", "overexposure,contrast"]
    answer = CliRunner().invoke(cli, [*words, "--severities", "1,5"])
    assert answer.exit_code == 0, answer.output
    assert "contrast 0." in _page(tiny_run)


def test_what_was_not_measured_has_no_section(tiny_run: Run) -> None:
    assert {"Accuracy", "Speed and size"}.isdisjoint(write_report(tiny_run).sections)


def test_the_page_loads_nothing_from_elsewhere(tiny_run: Run) -> None:
    evaluate_artifact(tiny_run, "onnx-fp32")
    words = _Words(Path(write_report(tiny_run).path).read_text())
    assert words.links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in words.links)
    assert "script" not in words.tags


def test_names_from_outside_stay_text() -> None:
    evil = "<script>alert(1)</script>"
    section = Section(title=evil, sentences=[evil], tables=[Table(columns=[evil], rows=[[evil]])], verbatim=[evil])
    words = _Words(render(evil, evil, [section]))
    assert "script" not in words.tags
    assert words.text.count(evil) >= 7


def test_an_empty_section_is_left_out_of_page_and_index() -> None:
    names = ("Something", "More")
    words = _Words(
        render("run", "", [Section(title="Nothing"), *(Section(title=name, sentences=["here"]) for name in names)])
    )
    assert "Nothing" not in words.text
    assert words.links == ["#something", "#more"]


def test_the_card_is_shown_and_what_it_does_not_say_is_missed(tiny_run: Run) -> None:
    assert "Not stated: intended use, not meant for, licence." in _page(tiny_run)
    (tiny_run.dir / "card.toml").write_text('intended_use = "steel strip"\nlicence = "MIT"\n')
    page = _page(tiny_run)
    assert "Intended use: steel strip" in page
    assert "Not stated: not meant for." in page


@pytest.mark.parametrize("text", ["intended_use = 3", "intendeduse = 'x'", "= ="])
def test_a_card_that_says_something_else_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "card.toml").write_text(text)
    with pytest.raises(BadInput, match=r"card\.toml: must be TOML with texts for intended_use, .*notes"):
        read_card(None, tmp_path)


def test_a_card_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: no such file"):
        read_card(tmp_path / "none.toml", tmp_path)


def test_confidence_is_called_rough_only_where_its_interval_says_so(tiny_run: Run) -> None:
    one = evaluate_artifact(tiny_run, "onnx-fp32")
    for low, said in ((0.0, False), (0.05, True)):
        figures = one.figures | {"ece": msgspec.structs.replace(one.figures["ece"], value=0.4, low=low)}
        lines = limits_of(tiny_run, [msgspec.structs.replace(one, ece=0.4, figures=figures)])
        assert any("Confidence is off" in line for line in lines) == said


def test_the_limits_follow_the_figures(tiny_run: Run) -> None:
    said = " ".join(limits_of(tiny_run, [evaluate_artifact(tiny_run, "onnx-fp32")]))
    assert "fewer than 30 parts" in said
    assert "test split was not scored" in said
    assert "shares on the line" not in said
    held_out = " ".join(limits_of(tiny_run, [evaluate_artifact(tiny_run, "onnx-fp32", split="test")]))
    assert "not scored" not in held_out


def test_a_run_without_stated_shares_says_so(tiny_run: Run) -> None:
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, prevalence=None))
    assert any("shares on the line" in line for line in limits_of(open_run(tiny_run.dir), []))


def test_licence_and_source_of_the_images_are_quoted(tiny_run: Run, tmp_path: Path) -> None:
    data = Path(tiny_run.record.data)
    assert "No licence lies with the images." in _page(tiny_run)
    copy = tmp_path / "data"
    copy.mkdir()
    for entry in data.iterdir():
        (copy / entry.name).symlink_to(entry)
    (copy / "LICENSE").write_text("Free <b>as</b> air.\n" + "x" * 2000)
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, data=str(copy)))
    page = _page(open_run(tiny_run.dir))
    assert "Free <b>as</b> air." in page
    assert "x ..." in page
    assert "No licence" not in page


def test_images_that_are_gone_leave_a_page_that_says_so(tiny_run: Run, tmp_path: Path) -> None:
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, data=str(tmp_path / "gone")))
    assert "cannot be counted any more" in _page(open_run(tiny_run.dir))


def test_a_damaged_evaluation_is_one_line_and_the_old_page_stays(tiny_run: Run) -> None:
    evaluate_artifact(tiny_run, "onnx-fp32")
    before = Path(write_report(tiny_run).path).read_bytes()
    (tiny_run.dir / "evaluation" / "onnx-fp32.json").write_text("{")
    answer = CliRunner().invoke(cli, ["report", str(tiny_run.dir)])
    assert isinstance(answer.exception, BadInput)
    assert (tiny_run.dir / "report.html").read_bytes() == before


def test_the_evaluations_are_those_of_both_splits(tiny_run: Run) -> None:
    evaluate_artifact(tiny_run, "onnx-fp32", split="test")
    assert [(one.artifact, one.split) for one in evaluations_of(tiny_run)[0]] == [
        ("onnx-fp32", "val"),
        ("onnx-fp32", "test"),
    ]


def test_results_of_an_artifact_that_was_made_anew_are_left_out_and_said(
    tiny_run: Run, put_artifact: Callable[[Run, str, bytes], None]
) -> None:
    run, name = str(tiny_run.dir), "onnx-int8"
    for words in (["evaluate", run, "--slice", "camera"], ["robustness", run, "--kinds", "contrast"]):
        assert CliRunner().invoke(cli, [*words, "--artifact", name]).exit_code == 0
    put_artifact(tiny_run, name, (tiny_run.artifact_dir("onnx-fp32") / "model.onnx").read_bytes())
    written, page = write_report(tiny_run), _page(tiny_run)
    assert "Accuracy" not in written.sections
    for what in (
        "The evaluation of onnx-int8 (val)",
        "What was asked of onnx-int8 (val)",
        "The robustness of onnx-int8",
    ):
        assert f"{what} is of another artifact or other data than there are now and is left out" in page
    assert any("The evaluation of onnx-int8 (val)" in limit for limit in written.limits)
    assert "onnx-int8 (val): camera" not in page and "contrast 0." not in page


def test_a_confidence_near_certainty_is_not_rounded_to_it(tiny_run: Run) -> None:
    words = ["operating-point", str(tiny_run.dir), "--artifact", "onnx-fp32", "--escape-cost", "500"]
    CliRunner().invoke(cli, [*words, "--overkill-cost", "2", "--confidence", "0.999"], catch_exceptions=False)
    assert "bounds hold with 99.9 % each" in _page(tiny_run)


def _page(run: Run) -> str:
    return _Words(Path(write_report(run).path).read_text()).text
