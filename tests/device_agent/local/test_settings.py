"""No port is open by default, and none to the network by accident."""

from __future__ import annotations

import msgspec
import pytest

from device_agent.contract.errors import BadInput
from device_agent.local.settings import MetricsSettings, PreviewSettings, parse_listen


def test_a_table_without_fields_keeps_to_this_machine():
    for kind in (PreviewSettings, MetricsSettings):
        assert parse_listen(msgspec.convert({}, kind).listen).loopback


@pytest.mark.parametrize("listen", ["0.0.0.0:8088", "192.168.1.7:80", "[::]:80", "[2001:db8::1]:80"])
def test_the_network_needs_a_word(listen):
    with pytest.raises(BadInput, match="expose = true"):
        PreviewSettings(listen=listen)
    assert not parse_listen(PreviewSettings(listen=listen, expose=True).listen).loopback


@pytest.mark.parametrize(
    "listen",
    ["", "8088", ":8088", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:٣", "::1:80",
     "press-1:80", "http://127.0.0.1:80", "127.0.0.1:80/x", "[127.0.0.1:80", "127.0.0.1:8 0"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_what_would_work(listen):
    with pytest.raises(BadInput, match=r"such as 127\.0\.0\.1:8088"):
        parse_listen(listen)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"lisen": "127.0.0.1:1"}, "unknown field `lisen`"),
        ({"listen": "0.0.0.0:1"}, "open to the network"),
        ({"listen": 8088}, "Expected `str`"),
        ({"expose": "yes"}, "Expected `bool`"),
        ({"allow_host": ["x"] * 17}, "length <= 16"),
    ],
)
def test_a_wrong_table_is_a_validation_error(table, said):
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(table, PreviewSettings)
