"""What a pruning can be asked for, and what of it is told apart."""

from __future__ import annotations

from typing import Any

import pytest

from device_agent.contract.errors import BadInput
from toolkit.compression.outcome import Request


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 0.0}, "--macs is the share that is to be left, over 0 to 1, got 0"),
        ({"share": 1.2, "budget": "latency"}, "--latency is the share .* got 1.2"),
        ({"share": float("nan")}, "got nan"),
        ({"share": 0.5, "rounds": 0}, "rounds must be 1 to 100, got 0"),
        ({"share": 0.5, "lr": float("nan")}, "lr must be"),
        ({"share": 0.5, "teacher_weight": 2.0}, "teacher-weight must be 0 to 1, got 2"),
        ({"share": 0.5, "groups": ["heads"]}, "groups: no 'heads'; known are expansion, residual, squeeze-excite"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Request(**given).check()


def test_where_nothing_is_cut_nothing_is_trained() -> None:
    assert Request(share=1.0).all_epochs == []
    assert Request(share=0.5, rounds=3, epochs=2, last_epochs=7).all_epochs == [2, 2, 7]
