"""What a wrong answer costs, and what the line really makes: the share of each class there, not in the data set."""

from __future__ import annotations

import math
import re

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import Label

ROLES = ("good", "defect")
RAREST = 1e-9  # of a class that the line is said never to make


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """In any one currency: of a defect that passes as good, of a good part that is rejected, and of a part that a
    person looks at, who is taken to be right. Without `review` no part goes to a person."""

    escape: float
    overkill: float
    review: float | None = None

    def check(self) -> None:
        """Refuse costs that no choice can be made by.

        Raises:
            BadInput: not finite, or not > 0 (a review may cost nothing).
        """
        for name, value in (("escape", self.escape), ("overkill", self.overkill)):
            if not (math.isfinite(value) and value > 0):
                raise BadInput(f"the {name} cost must be a number > 0, got {value:g}")
        if self.review is not None and not (math.isfinite(self.review) and self.review >= 0):
            raise BadInput(f"the review cost must be a number >= 0, got {self.review:g}")


_PART = re.compile(r".+?=[^=,]*(?:,|$)|.+")  # of a list with commas, which a name may have too


def read_prevalence(texts: tuple[str, ...]) -> dict[str, float]:
    """Shares of classes on the line from "class=share" texts, one or several with commas, each share 0 to 1.

    >>> read_prevalence(("good=0.99,crack=0.002", "pit=0.001"))
    {'good': 0.99, 'crack': 0.002, 'pit': 0.001}

    Raises:
        BadInput: a text of another form, or a class twice.
    """
    stated: dict[str, float] = {}
    for text in (part.removesuffix(",") for each in texts for part in _PART.findall(each)):
        name, _, value = text.strip().rpartition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not name or not 0 <= share <= 1:
            raise BadInput(f'a prevalence must read like "good=0.99" with a share from 0 to 1, got {text!r}')
        if name in stated:
            raise BadInput(f"the prevalence of {name} is stated twice")
        stated[name] = share
    return stated


def shares_on_line(stated: dict[str, float], labels: list[Label], counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """The share of each class on the line, adding up to 1: what is stated, and the rest as the data have it.

    Args:
        stated: share of a class, or of "good" or "defect" where no class has that name: all classes of the role.
        labels: (classes,) of the run.
        counts: (classes,) images of each class.

    >>> labels = [Label("good", "good"), Label("crack", "defect"), Label("pit", "defect")]
    >>> shares_on_line({"good": 0.99}, labels, np.array([50, 30, 10])).round(4).tolist()
    [0.99, 0.0075, 0.0025]

    Raises:
        BadInput: a class that there is not; shares over 1, or under 1 with nothing left to take the rest; no good
            class, or no defect; no image of a class that the line makes.
    """
    good = good_classes(labels)
    names, roles = [label.name for label in labels], np.array([label.role for label in labels])
    shares = np.full(len(labels), np.nan)
    for name, share in stated.items():
        if name in names:
            shares[names.index(name)] = share
        elif name not in ROLES:
            raise BadInput(f"the prevalence names {name}, which is no class; known are {', '.join(names)}")
    for role in ROLES:
        if role in stated and role not in names:
            _fill(shares, roles == role, stated[role], counts, what=f"the {role} classes")
    left = 1 - float(np.nansum(shares))
    _fill(shares, np.isnan(shares), left, counts, what="the classes whose share is not stated")
    if abs(shares.sum() - 1) > 1e-3:
        raise BadInput(f"the stated prevalences add up to {shares.sum():g}, must be 1")
    lacking = [name for name, share, count in zip(names, shares, counts, strict=True) if share > 0 and not count]
    if lacking:
        raise BadInput(f"no validation image of {', '.join(lacking)}, which the line makes: nothing is known of it")
    if not 0 < shares[good].sum() < shares.sum():
        raise BadInput("the line must make good parts and defects; the stated prevalence leaves one of them none")
    return np.asarray(shares / shares.sum())


def _fill(
    shares: NDArray[np.float64], where: NDArray[np.bool_], total: float, counts: NDArray[np.integer], *, what: str
) -> None:
    """Share `total` less what is stated already among the classes of `where` that have none yet."""
    free = where & np.isnan(shares)
    rest = total - float(np.nansum(shares[where]))
    if rest < -1e-6:
        raise BadInput(f"the stated prevalences leave {rest:.3g} for {what}")
    if not free.any():
        return
    images = counts[free].sum()
    if rest > 1e-6 and not images:
        raise BadInput(f"{what} make {rest:.3g} of the line, but have no validation image; state the others as all")
    shares[free] = max(rest, 0.0) * counts[free] / max(images, 1)


def good_classes(labels: list[Label]) -> NDArray[np.bool_]:
    """Which classes (classes,) are good.

    Raises:
        BadInput: none is, or all are.
    """
    good = np.array([label.role == "good" for label in labels])
    if not good.any() or good.all():
        lacks = "no good class" if not good.any() else "no defect class"
        raise BadInput(f"{lacks} among {', '.join(label.name for label in labels)}: there is nothing to tell apart")
    return good


def prior_shift(shares: NDArray[np.float64], counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """What to add to calibrated logits (classes,) so that they hold where the classes have other shares than in the
    data that they were calibrated on (Saerens et al. 2002); a class without an image gets nothing.

    >>> prior_shift(np.array([0.9, 0.1]), np.array([50, 50])).round(4).tolist()
    [0.5878, -1.6094]
    """
    there = np.asarray(counts) > 0
    data = np.where(there, counts, 1) / np.asarray(counts).sum()
    return np.where(there, np.log(np.maximum(shares, RAREST) / data), 0.0)
