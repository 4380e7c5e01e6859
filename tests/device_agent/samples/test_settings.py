"""The table [samples] of a configuration: each wrong field is named, with what would work."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from device_agent.contract.errors import BadInput
from device_agent.samples.settings import read_settings


def test_a_whole_table_is_read_and_the_key_lies_beside_it():
    text = """
        key = "samples.pub"
        url = "https://monitor.example:8444"
        per_day = 20
        random_per_day = 24
        blur = [[0, 0, 0.5, 0.25], [0.5, 0.5, 0.5, 0.5]]
        crop = [0.1, 0.1, 0.8, 0.8]
    """
    found = read_settings(msgspec.toml.decode(text), Path("/etc/lineside"))
    assert found.key == "/etc/lineside/samples.pub"
    assert (found.per_day, found.random_per_day, len(found.blur)) == (20, 24, 2)
    assert found.crop is not None and found.crop.width == 0.8


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({}, "samples.key is missing: no picture is kept"),
        ({"key": ""}, "samples.key = ''"),
        ({"per_week": 1}, "no field 'per_week'; known are key, url"),
        ({"per_day": 0}, "samples.per_day = 0: must be a whole number from 1"),
        ({"per_hour": 1.5}, "samples.per_hour = 1.5"),
        ({"below": "nan"}, "samples.below = 'nan'"),
        ({"below": float("nan")}, "samples.below = nan"),
        ({"kib_s": float("inf")}, "samples.kib_s = inf"),
        ({"ttl_days": 0}, "samples.ttl_days = 0: must be days"),
        ({"blur": [[0, 0, 1]]}, "samples.blur"),
        ({"blur": [[0, 0, 1, 1, 1]]}, "samples.blur"),
        ({"blur": [[0.5, 0, 0.6, 1]]}, "samples.blur: [0.5, 0.0, 0.6, 1.0] must lie within the frame"),
        ({"blur": [[0, 0, float("nan"), 1]]}, "samples.blur"),
        ({"crop": [0, 0, 0, 1]}, "samples.crop: [0.0, 0.0, 0.0, 1.0] must lie within"),
        ({"url": "http://monitor.example"}, "samples.url 'http://monitor.example': must be https://"),
        ({"url": "https://a:secret@monitor.example"}, "samples.url 'monitor.example'"),
        ({"url": "https://monitor.example/a b"}, "samples.url"),
        ({"url": "https://"}, "samples.url"),
        ({"url": "https://monitor.example:99999"}, "samples.url"),
    ],
)
def test_a_wrong_field_is_named(table, says):
    given = table if "key" in table or not table else {"key": "samples.pub", **table}
    with pytest.raises(BadInput, match=re.escape(says)) as caught:
        read_settings(given)
    assert "secret" not in str(caught.value)
