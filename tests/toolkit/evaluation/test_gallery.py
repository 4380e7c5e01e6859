"""Pages of pictures: the worst first, and nothing in a name is code."""

from __future__ import annotations

import html
import re
from pathlib import Path

import cv2
import numpy as np

from toolkit.evaluation.answers import answers_of
from toolkit.evaluation.gallery import MOST, Captioned, Mistake, find_mistakes, write_gallery, write_page
from toolkit.evaluation.scores import evaluate_artifact, judge
from toolkit.runs import Run


def test_the_most_confident_mistake_comes_first(tiny_run: Run) -> None:
    answers = answers_of(tiny_run, "onnx-fp32", "val")
    found = find_mistakes(judge(tiny_run, answers, 1.0), answers)
    wrong = answers.logits.argmax(axis=1) != answers.labels
    assert len(found) == wrong.sum() and all(one.true != one.predicted for one in found)
    assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)
    assert {one.file for one in found} == {file for file, bad in zip(answers.files, wrong, strict=True) if bad}
    assert round(evaluate_artifact(tiny_run, "onnx-fp32").accuracy * 60) == 60 - len(found)


def test_every_name_is_escaped(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>&\"'.png"
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "images" / name.replace("/", "-")).write_bytes((tmp_path / "a.png").read_bytes())
    one = Mistake(file=name.replace("/", "-"), group="<b>", true="<i>", predicted="<u>", confidence=0.5)
    write_gallery(tmp_path / "page.html", tmp_path / "images", "<title>", [one])
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page and "<u>" not in page and "<i>" not in page and "&lt;u&gt;" in page
    assert one.file in html.unescape(page) and "data:image/jpeg;base64," in page


def test_a_picture_that_is_gone_leaves_the_page_whole(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "a", ["b"], [Captioned(tmp_path / "gone.png", ["c"])])
    page = (tmp_path / "page.html").read_text()
    assert "gone.png" in page and page.rstrip().endswith("</html>") and "<img" not in page


def test_a_long_list_is_cut_and_says_so(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((500, 2, 3), np.uint8))
    one = Mistake(file="a.png", group="g", true="x", predicted="y", confidence=0.5)
    write_gallery(tmp_path / "page.html", tmp_path, "t", [one] * (MOST + 5))
    page = (tmp_path / "page.html").read_text()
    assert len(re.findall("<figure>", page)) == MOST and f"{MOST + 5} images are wrong" in page
