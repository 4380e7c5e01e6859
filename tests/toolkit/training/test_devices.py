"""TF_CONFIG is read whole or refused; a batch is dealt out evenly or not at all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from device_agent.contract.errors import BadInput
from toolkit.training.devices import Devices, Worker, read_worker


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}',
    ],
)
def test_a_place_that_there_is_not(text: str) -> None:
    with pytest.raises(BadInput, match=r"TF_CONFIG .*like \{\"cluster\""):
        read_worker(text)


def test_the_first_is_the_chief() -> None:
    assert Devices(None, Worker(0, 2)).chief and not Devices(None, Worker(1, 2)).chief


def test_a_batch_that_does_not_divide() -> None:
    devices = Devices(SimpleNamespace(num_replicas_in_sync=3))
    devices.check(33)
    with pytest.raises(BadInput, match="batch must be a multiple of the 3 devices, got 32"):
        devices.check(32)
