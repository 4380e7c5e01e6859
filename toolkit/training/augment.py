"""What may happen to a training image: only what the line itself can produce.

Each variation hangs on the seed, the image's row in the data set and the number of the view alone, not on what else is
in the batch: a teacher's answers to a view can be kept, and every student sees the very same pictures.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require

Images = NDArray[np.uint8]
Flips = Literal["none", "left-right", "up-down", "both"]
Operation = Literal[
    "brightness", "contrast", "gamma", "rotation", "shift", "scale", "blur", "noise", "jpeg", "lens-dirt"
]
FLIPS: dict[Flips, tuple[tuple[int, int], ...]] = {  # how rows and columns are read: forwards (1) or backwards (-1)
    "none": ((1, 1),),
    "left-right": ((1, 1), (1, -1)),
    "up-down": ((1, 1), (-1, 1)),
    "both": ((1, 1), (1, -1), (-1, 1), (-1, -1)),
}
OPERATIONS: dict[Operation, float] = {  # the most that strength 10 does
    "brightness": 60.0,  # grey levels
    "contrast": 0.5,  # gain, up or down
    "gamma": 0.7,  # natural logarithm of the exponent
    "rotation": 8.0,  # degrees
    "shift": 0.12,  # of the shorter side
    "scale": 0.15,  # of the size
    "blur": 0.02,  # standard deviation, of the shorter side
    "noise": 16.0,  # standard deviation, grey levels
    "jpeg": 75.0,  # taken from quality 95
    "lens-dirt": 0.7,  # of the light behind a spot
}
STRONGEST = 10
EDITION = 1  # of what a policy means; to be raised when the same (seed, row, view) gives another picture
_LEVELS = np.arange(256, dtype=np.float64)
_DRAWS = 16  # random numbers an image: 2 flips, 2 shifts, gain, lift, then operations and what they need


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What an image may go through: mirror images, a shift of up to `shift` of its shorter side, brightness and
    contrast changed by up to `light`, and then RandAugment (Cubuk et al. 2020) at `strength` 0 to 10: two of
    `OPERATIONS` but those in `without`, each as strong as chance has it up to that strength."""

    flips: Flips = "both"
    shift: float = 0.06
    light: float = 0.12
    strength: int = 0
    without: tuple[Operation, ...] = ()

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            BadInput: a strength or operation that there is not, or every operation left out.
        """
        if not 0 <= self.strength <= STRONGEST:
            raise BadInput(f"rand-augment must be 0 to {STRONGEST}, got {self.strength}")
        for name in self.without:
            if name not in OPERATIONS:
                raise BadInput(f"rand-augment: no operation {name!r}; known are {', '.join(OPERATIONS)}")
        if self.strength and len(set(self.without)) == len(OPERATIONS):
            raise BadInput("rand-augment: every operation is left out; set its strength to 0 instead")


class _Change(NamedTuple):
    """What happens to one image: `move` (2, 3) maps places (x, y) of the result to places of the source, `whole` where
    it meets pixels; a level becomes (level - 128) * gain + 128 + lift, then to the power `exponent`; then `others`."""

    move: NDArray[np.float64]
    whole: bool
    gain: float
    lift: float
    exponent: float
    others: dict[str, float]


def flip(images: Images, rows: int, columns: int) -> Images:
    """Images (n, h, w, c) read forwards (1) or backwards (-1) along rows and columns.

    >>> flip(np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1), -1, 1).ravel().tolist()
    [2, 3, 0, 1]
    """
    return images[:, ::rows, ::columns]


def vary(images: Images, rows: NDArray[np.integer], *, seed: int, view: int, policy: Policy = Policy()) -> Images:  # noqa: B008
    """A copy of images (n, h, w, c) uint8, each changed as `policy` allows; `rows` (n,) are their rows in the data set.

    Draws are shares of the sides and of the operations' reach: the same (seed, row, view) is the same geometry and
    light at any size, so that a teacher of another input size sees the student's picture.

    >>> batch, still = np.full((2, 8, 8, 3), 100, np.uint8), Policy(light=0)
    >>> vary(batch, np.arange(2), seed=0, view=1, policy=still).tolist() == batch.tolist()
    True
    """
    cv2 = require("cv2", extra="toolkit")
    out = np.empty_like(images)
    turned = np.min(FLIPS[policy.flips], axis=0).tolist()  # -1 where an axis may be read backwards
    for place, draws in enumerate(_uniform(seed, view, rows).tolist()):
        change = _change(draws, turned, images.shape[1], images.shape[2], policy)
        _apply(cv2, images[place], out[place], change, int(draws[-1] * 2**53))
    return out


def _uniform(seed: int, view: int, rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """Numbers in [0, 1), (n, _DRAWS), each a hash (splitmix64, Steele et al. 2014) of seed, view, row and column."""
    key = np.uint64(np.random.SeedSequence([seed, view]).generate_state(1, np.uint64)[0])
    with np.errstate(over="ignore"):
        state = _scramble(np.asarray(rows).astype(np.uint64) + key)[:, None]
        mixed = _scramble(np.asarray(state + np.arange(1, _DRAWS + 1, dtype=np.uint64), np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _change(draws: list[float], turned: list[int], height: int, width: int, policy: Policy) -> _Change:
    """What the draws of one image mean under a policy."""
    side = min(height, width)
    rows, columns = (turn if draw >= 0.5 else 1 for draw, turn in zip(draws[:2], turned, strict=True))
    reach = round(policy.shift * side) if policy.shift else 0
    down, right = (float(int((2 * reach + 1) * draw) - reach) for draw in draws[2:4])
    others = _operations(draws[6:-1], policy) if policy.strength else {}
    down += round(others.get("down", 0.0) * side)
    right += round(others.get("right", 0.0) * side)
    turn = math.radians(others.get("rotation", 0.0))
    size = 1 / (1 + others.get("scale", 0.0))
    cos, sin, y, x = size * math.cos(turn), size * math.sin(turn), (height - 1) / 2, (width - 1) / 2
    move = np.array(
        [
            [columns * cos, -columns * sin, x - columns * (cos * (x + right) - sin * (y + down))],
            [rows * sin, rows * cos, y - rows * (sin * (x + right) + cos * (y + down))],
        ]
    )
    return _Change(
        move=move,
        whole=not others.keys() & {"rotation", "scale"},
        gain=(1 + policy.light * (2 * draws[4] - 1)) * (1 + others.get("contrast", 0.0)),
        lift=policy.light * 128 * (2 * draws[5] - 1) + others.get("brightness", 0.0),
        exponent=math.exp(others.get("gamma", 0.0)),
        others=others,
    )


def _operations(draws: list[float], policy: Policy) -> dict[str, float]:
    """The operations that were drawn, with how much; a shift becomes down and right, in shares of the shorter side."""
    names = [name for name in OPERATIONS if name not in policy.without]
    first = int(draws[0] * len(names))
    second = (first + 1 + int(draws[1] * (len(names) - 1))) % len(names)
    found: dict[str, float] = {}
    for turn, place in enumerate(dict.fromkeys((first, second))):
        name = names[place]
        most, sign = OPERATIONS[name] * policy.strength / STRONGEST, 2 * draws[2 + turn] - 1
        if name == "shift":
            found |= {"down": most * sign, "right": most * (2 * draws[4 + turn] - 1)}
        else:
            found[name] = most * (abs(sign) if name in ("blur", "noise", "jpeg", "lens-dirt") else sign)
    found |= {"spot-y": draws[6], "spot-x": draws[7], "spot-size": draws[8]} if "lens-dirt" in found else {}
    return found


def _apply(cv2: Any, image: Images, out: Images, change: _Change, key: int) -> None:
    """One image (h, w, c) into `out`, through geometry, lens, light, focus, sensor and file, as in a camera."""
    height, width = image.shape[:2]
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_NEAREST if change.whole else cv2.INTER_LINEAR)
    image = cv2.warpAffine(image, change.move, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    others = change.others
    if "lens-dirt" in others:
        image = _dirty(cv2, image, others)
    if (change.gain, change.lift, change.exponent) != (1.0, 0.0, 1.0):
        image = cv2.LUT(image, _curve(change))
    if "blur" in others:
        sigma = max(others["blur"] * min(height, width), 1e-3)
        image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    if "noise" in others:
        grain = np.random.Generator(np.random.SFC64(key)).standard_normal(image.shape, np.float32)
        grain *= others["noise"]
        image = cv2.add(image, grain, dtype=cv2.CV_8U)
    if "jpeg" in others:
        quality = [cv2.IMWRITE_JPEG_QUALITY, round(95 - others["jpeg"])]
        image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_UNCHANGED)
    out[:] = image.reshape(out.shape)


def _curve(change: _Change) -> NDArray[np.uint8]:
    """What each of the 256 levels becomes."""
    lit = np.clip((_LEVELS - 128) * change.gain + (128 + change.lift), 0, 255)
    if change.exponent != 1:
        lit = 255 * (lit / 255) ** change.exponent
    return np.rint(lit).astype(np.uint8)


def _dirty(cv2: Any, image: Images, others: dict[str, float]) -> Images:
    """A soft dark spot, out of focus as on a lens: wide, without an edge."""
    height, width = image.shape[:2]
    radius = (0.15 + 0.2 * others["spot-size"]) * min(height, width)
    down = (np.arange(height) - others["spot-y"] * height) / radius
    right = (np.arange(width) - others["spot-x"] * width) / radius
    light = 1 - others["lens-dirt"] * np.exp(-0.5 * down**2)[:, None] * np.exp(-0.5 * right**2)
    light = cv2.merge([light.astype(np.float32)] * image.shape[2]) if image.ndim == 3 else light.astype(np.float32)
    return np.asarray(cv2.multiply(image, light, dtype=cv2.CV_8U))
