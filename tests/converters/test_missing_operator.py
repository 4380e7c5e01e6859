"""What a converter cannot translate is named; anything else keeps its traceback."""

from __future__ import annotations

import pytest

from converters.missing_operator import naming_operators
from converters.shared.graph import Unsupported
from device_agent.contract.errors import NotWritable


@pytest.mark.parametrize(
    "said",
    [
        "conversion.py:1: error: 'tf.AdjustSaturation' op is neither a custom op nor a flex op",
        "[TensorFlow Frontend] No translator found for AdjustSaturation node.",
        "Tensorflow op [model/saturate: AdjustSaturation] is not supported",
    ],
)
def test_the_operator_is_named_with_what_would_work(said: str) -> None:
    with (
        pytest.raises(Unsupported, match=r"litert-int8: the network's operator AdjustSaturation .* litert; build"),
        naming_operators("litert-int8"),
    ):
        raise RuntimeError(said)


def test_another_error_is_left_alone() -> None:
    with pytest.raises(KeyError), naming_operators("litert-int8"):
        raise KeyError("a bug")
    with pytest.raises(NotWritable, match="disk full"), naming_operators("litert-int8"):
        raise NotWritable("model.tflite: disk full")
