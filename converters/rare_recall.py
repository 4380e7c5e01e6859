"""What an artifact loses on the rarest defect, and how surely a few images can tell.

All intervals here hold 90 %, so that either end is a bound which 19 of 20 samples keep.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

NORMAL = 1.645
RECALL_DROP = 0.03
"""Recall of the rarest defect, 0 to 1, that an artifact may lose; judged by the lower end of the drop's interval."""


class RareRecall(msgspec.Struct, frozen=True, kw_only=True):
    """Recall in [0, 1] of the class `name`, measured on its `images` images: Keras', the artifact's, and the interval
    of what was lost between the two."""

    name: str
    images: int
    keras: float
    artifact: float
    drop_low: float
    drop_high: float

    @property
    def failure(self) -> str:
        """What the gate objects to; empty where it does not."""
        lost = 100 * (self.keras - self.artifact)
        said = f"recall of {self.name} {lost:.1f} points below Keras on {_counted(self.images)}"
        return f"{said}, allowed {100 * RECALL_DROP:g}" if self.drop_low > RECALL_DROP else ""

    def __str__(self) -> str:
        low, high = 100 * self.drop_low, 100 * self.drop_high
        return (
            f"recall of {self.name} {self.artifact:.3f}, Keras {self.keras:.3f}"
            f" ({_counted(self.images)}, drop {low:.1f} to {high:.1f} points)"
        )


def _counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def rare_recall(
    labels: NDArray[np.integer],
    artifact: NDArray[np.integer],
    keras: NDArray[np.integer],
    names: Sequence[str],
    defects: Sequence[int] = (),
) -> RareRecall:
    """Recall of the rarest class that occurs in `labels` (n,), one of `defects` if any of them does.

    Args:
        labels: (n,) the true classes.
        artifact: (n,) the classes that the artifact gives.
        keras: (n,) the classes that Keras gives.
        names: of the classes; "class 3" where there is none.
        defects: numbers of the classes that are defects.

    >>> true = np.array([0, 0, 0, 1, 1])
    >>> print(rare_recall(true, np.array([0, 0, 0, 0, 1]), true, ["good", "dent"], [1]))
    recall of dent 0.500, Keras 1.000 (2 images, drop -29.4 to 79.4 points)
    """
    occurring, counts = np.unique(labels, return_counts=True)
    wanted = np.isin(occurring, list(defects))
    among = wanted if wanted.any() else np.ones(len(occurring), bool)
    rarest = int(occurring[among][np.argmin(counts[among])])
    ours, theirs = (each[labels == rarest] == rarest for each in (artifact, keras))
    low, high = drop_interval(int((theirs & ~ours).sum()), int((ours & ~theirs).sum()), len(ours))
    name = names[rarest] if rarest < len(names) else f"class {rarest}"
    return RareRecall(
        name=name,
        images=len(ours),
        keras=float(theirs.mean()),
        artifact=float(ours.mean()),
        drop_low=low,
        drop_high=high,
    )


def drop_interval(lost: int, won: int, images: int) -> tuple[float, float]:
    """Interval of the difference of two shares of the same images, `lost` right in the first alone, `won` in the second
    alone (Agresti and Min 2005, half an image more in each of the four cells).

    One image lost of one proves little, three of three much:

    >>> [round(drop_interval(n, 0, n)[0], 2) for n in (1, 2, 3, 10)]
    [-0.37, -0.08, 0.11, 0.61]
    """
    more = images + 2
    drop = (lost - won) / more
    error = np.sqrt(((lost + won + 1) / more - drop**2) / more)
    return float(max(drop - NORMAL * error, -1.0)), float(min(drop + NORMAL * error, 1.0))


def share_interval(share: float, images: int) -> tuple[float, float]:
    """Interval of a share of images (Wilson 1927).

    >>> [round(end, 3) for end in share_interval(1.0, 100)]
    [0.974, 1.0]
    """
    grown = 1 + NORMAL**2 / images
    middle = (share + NORMAL**2 / (2 * images)) / grown
    half = NORMAL * np.sqrt(share * (1 - share) / images + NORMAL**2 / (4 * images**2)) / grown
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))
