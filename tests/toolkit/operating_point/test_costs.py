"""What the line makes, as stated: shares that fit, or one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import Label
from toolkit.operating_point.costs import Costs, read_prevalence, shares_on_line

LABELS = [Label("fine", "good"), Label("crack", "defect"), Label("pit", "defect")]
COUNTS = np.array([40, 30, 10])


def test_a_role_is_shared_among_its_classes_as_the_data_have_them():
    assert shares_on_line({"defect": 0.04}, LABELS, COUNTS).tolist() == pytest.approx([0.96, 0.03, 0.01])
    assert shares_on_line({"good": 0.9, "pit": 0.09}, LABELS, COUNTS).tolist() == pytest.approx([0.9, 0.01, 0.09])


def test_stated_classes_stay_as_stated_and_the_rest_is_the_good_ones():
    assert shares_on_line({"crack": 0.01, "pit": 0.02}, LABELS, COUNTS).tolist() == pytest.approx([0.97, 0.01, 0.02])


@pytest.mark.parametrize(
    ("stated", "saying"),
    [
        ({"scratch": 0.1}, "names scratch, which is no class"),
        ({"fine": 0.9, "crack": 0.2}, "leave -0.1"),
        ({"good": 0.5, "fine": 0.6}, "leave -0.1"),
        ({"fine": 0.5, "crack": 0.1, "pit": 0.1}, "add up to 0.7"),
        ({"good": 1.0}, "leaves one of them none"),
        ({"defect": 1.0}, "leaves one of them none"),
    ],
)
def test_a_prevalence_that_does_not_fit_is_refused(stated, saying):
    with pytest.raises(BadInput, match=saying):
        shares_on_line(stated, LABELS, COUNTS)


def test_a_class_that_the_line_makes_needs_an_image():
    with pytest.raises(BadInput, match="no validation image of pit"):
        shares_on_line({"pit": 0.01}, LABELS, np.array([40, 30, 0]))
    assert shares_on_line({"good": 0.99}, LABELS, np.array([40, 30, 0]))[2] == 0


@pytest.mark.parametrize("role", ["good", "defect"])
def test_classes_of_one_role_are_refused(role):
    with pytest.raises(BadInput, match="nothing to tell apart"):
        shares_on_line({"good": 0.9}, [Label("a", role), Label("b", role)], np.array([1, 1]))


@pytest.mark.parametrize("texts", [("good",), ("good=much",), ("=0.5",), ("good=99",), ("good=nan",)])
def test_a_text_that_is_no_share_is_refused(texts):
    with pytest.raises(BadInput, match="must read like"):
        read_prevalence(texts)


def test_a_class_stated_twice_is_refused():
    with pytest.raises(BadInput, match="stated twice"):
        read_prevalence(("a=0.1", "a=0.2"))


@pytest.mark.parametrize(
    "costs",
    [Costs(escape=0, overkill=1), Costs(escape=1, overkill=float("inf")), Costs(escape=1, overkill=1, review=-1)],
)
def test_a_cost_that_no_choice_can_be_made_by_is_refused(costs):
    with pytest.raises(BadInput, match="cost must be a number"):
        costs.check()
