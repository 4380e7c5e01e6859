"""Which network: its family, size and head, as the run's record holds them."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec

FAMILIES = {
    "mobilenet-v1": "MobileNet",
    "mobilenet-v2": "MobileNetV2",
    "mobilenet-v3-small": "MobileNetV3Small",
    "mobilenet-v3-large": "MobileNetV3Large",
    "resnet-50": "ResNet50",
    "efficientnet-b0": "EfficientNetB0",
    "vit-tiny": "",
}
"""Name of each family, and of the function of keras.applications that makes it; the ViT is our own."""
HEADS = ("pooled", "bilinear", "attention", "parts")
SMALLEST, LARGEST = 16, 1024


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """A network: family (or "module:function" for one's own), width multiplier `alpha` of a MobileNet, side of the
    square input `size` in px, or its height where `size_width` gives another width; for V3 also whether to leave out
    squeeze-and-excite and 5x5 kernels (`minimalistic`), and another activation than its own hard-silu. `head` is what
    turns the last feature map into features, `source_sha256` the digest of the file that holds one's own function."""

    family: str = "mobilenet-v2"
    alpha: float = 0.35
    size: int = 96
    size_width: int | None = None
    minimalistic: bool = False
    activation: Literal["hard-silu", "silu", "relu"] | None = None
    head: Literal["pooled", "bilinear", "attention", "parts"] = "pooled"
    source_sha256: str = ""

    @property
    def own(self) -> bool:
        """Whether the network is made by a function of the user's."""
        return ":" in self.family

    def check(self) -> None:
        """Refuse what cannot be built.

        Raises:
            BadInput: an unknown family or head, a width or size out of range, an option that the family has not.
        """
        if self.family not in FAMILIES and not self.own:
            known = ", ".join(FAMILIES)
            raise BadInput(f"model: no {self.family!r}; known are {known}, and MODULE:FUNCTION for one's own")
        if self.head not in HEADS:
            raise BadInput(f"head: no {self.head!r}; known are {', '.join(HEADS)}")
        if not 0.05 <= self.alpha <= 2:
            raise BadInput(f"width must be 0.05 to 2, got {self.alpha:g}")
        for side in (self.size, self.size if self.size_width is None else self.size_width):
            if not SMALLEST <= side <= LARGEST:
                raise BadInput(f"size must be {SMALLEST} to {LARGEST} px, got {side}")
        if not self.family.startswith("mobilenet-v3") and (self.minimalistic or self.activation):
            raise BadInput(f"{self.family} has no --minimalistic and no --activation; both belong to mobilenet-v3")
        if self.own and self.head != "pooled":
            raise BadInput(f"{self.family} brings its own head; --head belongs to the families of lineside")

    def input_spec(self) -> InputSpec:
        """What the device has to do to a frame before this model sees it."""
        return InputSpec(height=self.size, width=self.size if self.size_width is None else self.size_width)

    def __str__(self) -> str:
        width = f" at width {self.alpha:g}" if self.family.startswith("mobilenet") else ""
        return f"{self.family}{width}{' (minimalistic)' if self.minimalistic else ''}"


def parse_size(text: str) -> tuple[int, int | None]:
    """`size` and `size_width` of an Architecture from "96", or "24x40": height by width in px.

    >>> parse_size("24x40"), parse_size("96"), parse_size("96x96")
    ((24, 40), (96, None), (96, None))

    Raises:
        BadInput: neither form.
    """
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip())
    if found is None:
        raise BadInput(f"size must be like 96, or 24x40 (height x width) in px, got {text!r}")
    height, width = int(found[1]), int(found[2] or found[1])
    return height, None if width == height else width
