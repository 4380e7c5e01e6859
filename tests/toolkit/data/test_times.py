"""Times: ISO 8601 and seconds since 1970 on one scale, and no guess where there are two."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.data.times import read_times

MOMENT = 1769850672.0  # 2026-01-31T09:11:12Z


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T09:11:12Z",
        "2026-01-31t09:11:12z",
        "2026-01-31 10:11:12+01:00",
        "2026-01-31T10:11:12.000 +01",
        "20260131T041112-0500",
        "2026-01-31T14:41:12+05:30",
        "1769850672",
        "1769850672.0",
    ],
)
def test_every_form_of_one_moment_is_that_moment(text: str) -> None:
    assert read_times([text], ["a.png"])[0] == MOMENT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-31", 1769817600.0),
        ("20260131", 1769817600.0),
        ("2026-01-31T09:11", 1769850660.0),
        ("2026-01-31T09:11:12,5", MOMENT + 0.5),
        ("2026-01-31T09:11:12.123456789", MOMENT + 0.123456),
        ("1969-12-31T23:59:59", -1.0),
        ("2024-02-29", 1709164800.0),
    ],
)
def test_times_without_a_zone(text: str, seconds: float) -> None:
    assert read_times([text], ["a.png"])[0] == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "31.01.2026",
        "2026-13-01",
        "2026-02-30",
        "2026-01-31T25:00",
        "2026-01-31T09:11:60Z",
        "2026-01-31T09:11:12+25:00",
        "2026-01-31T09:11:12+01:99",
        "2026-0131",
        "1769850672000",
        "0000-01-01",
        "-5",
        "nan",
        "yesterday\nor so",
        "١٧٦٩٨٥٠٦٧٢",
        "2026-01-31" * 1000,
    ],
)
def test_what_is_no_time_is_one_line_that_names_the_image(text: str) -> None:
    with pytest.raises(BadInput, match=r"^b\.png: time .* is no time; give ISO 8601") as error:
        read_times(["2026-01-31", text], ["a.png", "b.png"])
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_an_empty_text_is_no_time() -> None:
    assert np.isnan(read_times(["", "2026-01-31"], ["a", "b"])).tolist() == [True, False]


@pytest.mark.parametrize("zoned", ["2026-01-31T09:11:12+01:00", "1769850672"])
def test_times_with_and_without_a_zone_have_no_order(zoned: str) -> None:
    with pytest.raises(BadInput, match=r"^b: .* has a time zone and '2026-01-31' of a has none"):
        read_times(["2026-01-31", zoned], ["a", "b"])
    assert len(read_times([zoned, "2026-01-31T09:11:12Z"], ["a", "b"])) == 2


def test_clocks_that_are_put_back_keep_the_order_by_their_zones() -> None:
    first, second = read_times(["2026-10-25T02:59:00+02:00", "2026-10-25T02:01:00+01:00"], ["a", "b"])
    assert second - first == 120
