"""What can be asked for, and what is refused before TensorFlow is imported."""

from __future__ import annotations

import pytest

from device_agent.contract.errors import BadInput
from toolkit.models.architecture import FAMILIES, Architecture, parse_size


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_and_takes_a_rectangle(family: str) -> None:
    architecture = Architecture(family=family, size=24, size_width=40)
    architecture.check()
    assert (architecture.input_spec().height, architecture.input_spec().width) == (24, 40)
    assert Architecture(family=family, size=40).input_spec().width == 40


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"family": "vgg"}, r"no 'vgg'; known are mobilenet-v1, .*MODULE:FUNCTION"),
        ({"head": "sum"}, "head: no 'sum'; known are pooled, bilinear, attention, parts"),
        ({"alpha": 0.01}, "width must be 0.05 to 2, got 0.01"),
        ({"size": 8}, "size must be 16 to 1024 px, got 8"),
        ({"size_width": 0}, "size must be 16 to 1024 px, got 0"),
        ({"family": "mobilenet-v1", "minimalistic": True}, "mobilenet-v1 has no --minimalistic"),
        ({"family": "resnet-50", "activation": "silu"}, "resnet-50 has no --minimalistic and no --activation"),
        ({"family": "nets:small", "head": "parts"}, "nets:small brings its own head"),
    ],
)
def test_what_cannot_be_built_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Architecture(**given).check()  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "96x", "x96", "9 6", "24x40x3", "-32", "96px"])
def test_a_size_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="size must be like 96, or 24x40"):
        parse_size(text)
