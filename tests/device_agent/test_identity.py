"""A certificate that ends is said before it does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.frames import parse_source
from device_agent.frames.capture import Capture
from device_agent.identity import ending, expiry

keys = pytest.importorskip("fleet.keys")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    folder = tmp_path_factory.mktemp("keys") / "fleet"
    keys.create(folder, ["localhost"], keys.utc_now())
    path: Path = keys.certify_device(folder, "press-1", keys.utc_now(), days=90)
    return Credentials(folder / "authority.pem", path.with_suffix(".pem"), path.with_suffix(".key"))


@pytest.mark.parametrize(
    ("days", "said"),
    [(0, ""), (59, ""), (61, "expires in 2"), (89, "expires in"), (91, "expired on"), (-9, "holds from")],
)
def test_it_is_said_from_a_month_before_the_end(device: Credentials, days: int, said: str) -> None:
    found = ending(device, keys.utc_now() + timedelta(days=days))
    assert (said in found) if said else (found == "")
    assert bool(expiry(device, keys.utc_now() + timedelta(days=days))) is (days in (91, -9))


def test_without_a_certificate_there_is_nothing_to_say() -> None:
    assert ending(Credentials(), keys.utc_now()) == ""


def test_a_camera_that_pauses_may_say_for_how_long() -> None:
    capture = Capture(parse_source("camera:0:silent_s=600"), InputSpec(height=8, width=8), event=lambda *_: None)
    try:
        assert capture._silent_s == 600
    finally:
        capture.close()
    with pytest.raises(BadInput, match="silent_s=0"):
        parse_source("camera:0:silent_s=0")
