"""What a configuration says of samples: the table [samples]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from device_agent.contract.errors import BadInput

_Share = Annotated[float, Meta(ge=0, le=1)]
_Count = Annotated[int, Meta(ge=1, le=100_000)]
_EXPECTED = {
    "key": "the file samples.pub of the fleet's keys",
    "url": "https://HOST[:PORT] of `lineside-fleet samples serve`",
    "per_minute": "a whole number from 1 to 100000",
    "per_hour": "a whole number from 1 to 100000",
    "per_day": "a whole number from 1 to 100000",
    "per_cell": "a whole number from 1 to 100000",
    "random_per_day": "a whole number from 0 to 10000",
    "below": "log-odds from -10 to 20",
    "ttl_days": "days from 0.01 to 365",
    "most_mib": "MiB from 1 to 65536",
    "kib_s": "KiB a second from 4 to 1048576",
    "blur": "a list of [x, y, width, height], shares of the frame from 0 to 1",
    "crop": "[x, y, width, height], shares of the frame from 0 to 1",
}


class Zone(NamedTuple):
    """A rectangle of the fitted frame: left, top, width and height as shares of it, 0 to 1."""

    x: _Share
    y: _Share
    width: _Share
    height: _Share


class SampleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`key` is the public key that pictures are sealed to. Without `url` they stay on the device for `ttl_days`.

    Frames of log-odds under `below`, and those that the operating point sends to review, are kept within quotas
    (`per_cell` is by day), and `random_per_day` beside them, drawn from all frames alike.
    """

    key: Annotated[str, Meta(min_length=1, max_length=4096)]
    url: str | None = None
    per_minute: _Count = 1
    per_hour: _Count = 12
    per_day: _Count = 60
    per_cell: _Count = 10
    random_per_day: Annotated[int, Meta(ge=0, le=10_000)] = 0
    below: Annotated[float, Meta(ge=-10, le=20)] = 1.0
    ttl_days: Annotated[float, Meta(ge=0.01, le=365)] = 7.0
    most_mib: Annotated[int, Meta(ge=1, le=65_536)] = 64
    kib_s: Annotated[float, Meta(ge=4, le=1 << 20)] = 64.0
    blur: Annotated[list[Zone], Meta(max_length=64)] = []
    crop: Zone | None = None


class Address(NamedTuple):
    """Where samples are sent; `path` begins with a slash or is empty."""

    host: str
    port: int
    path: str


def read_settings(table: dict[str, Any], folder: Path = Path()) -> SampleSettings:
    """The table [samples] of a configuration that lies in `folder`, which `key` is relative to.

    >>> read_settings({"key": "samples.pub", "blur": [[0, 0, 0.5, 1]]}).blur
    [Zone(x=0.0, y=0.0, width=0.5, height=1.0)]

    Raises:
        BadInput: no key, a field that is not known or not what it has to be.
    """
    try:
        found = msgspec.convert(table, SampleSettings)
    except msgspec.ValidationError as error:
        raise BadInput(_explained(str(error), table)) from error
    for name, zone in [("blur", each) for each in found.blur] + ([("crop", found.crop)] if found.crop else []):
        beyond = max(zone.x + zone.width, zone.y + zone.height) > 1 + 1e-9
        if beyond or not (zone.width > 0 and zone.height > 0):
            raise BadInput(f"samples.{name}: {list(zone)} must lie within the frame, as {_EXPECTED[name]}")
    if found.url is not None:
        parse_address(found.url)
    return msgspec.structs.replace(found, key=str(folder / found.key))


def _explained(said: str, table: dict[str, Any]) -> str:
    """What is wrong with a field of the table, and what would work.

    >>> _explained("Object missing required field `key`", {})[:64]
    'samples.key is missing: no picture is kept without the key that '
    >>> _explained("Expected `int` >= 1 - at `$.per_day`", {"per_day": 0})
    'samples.per_day = 0: must be a whole number from 1 to 100000'
    """
    if "missing required" in said:
        return f"samples.key is missing: no picture is kept without the key that it is sealed to, {_EXPECTED['key']}"
    if "unknown field" in said:
        return f"samples: no field {said.split('`')[1]!r}; known are {', '.join(SampleSettings.__struct_fields__)}"
    name = said.partition("`$.")[2].rstrip("`").partition(".")[0].partition("[")[0]
    return f"samples.{name} = {table.get(name)!r}: must be {_EXPECTED.get(name, 'another')}"


def parse_address(url: str) -> Address:
    """Host, port (443 if none is named) and path of an upload URL.

    >>> parse_address("https://monitor.example:8444/")
    Address(host='monitor.example', port=8444, path='')

    Raises:
        BadInput: no https URL, or one with a password, a query or a fragment.
    """
    wrong = BadInput(f"samples.url {url.rpartition('@')[2]!r}: must be {_EXPECTED['url']}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
        parts.path.encode("ascii")
    except ValueError:
        raise wrong from None
    plain = host.isprintable() and " " not in host and parts.path.isprintable() and " " not in parts.path
    if parts.scheme != "https" or not host or not plain or port == 0 or "@" in parts.netloc or parts.query:
        raise wrong
    if parts.fragment:
        raise wrong
    return Address(host, port or 443, parts.path.rstrip("/"))
