"""Pictures that are there twice: equal pixels, or the same picture scaled, compressed or lit otherwise.

Near copies are looked for among pictures whose 64-bit perceptual hashes differ in at most RADIUS bits, through an index
of their bytes (Norouzi et al. 2012, Fast search in Hamming space with multi-index hashing), so that the work grows with
the number of pictures and not with its square. A hash is the coarse look of a picture, which all pictures of one even
product have in common; so a candidate counts only when the detail is the same too, and of each picture only the nearest
are looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.data.images import Progress

RADIUS = 11  # bits of 64; a pair is met where two of the eight bytes are equal: always up to 6 bits, mostly up to 11
_BUCKET = 300  # pictures of two equal bytes that are compared with each other; of more, each with the next in order
_FEWEST, _AT_ONCE = 20, 1_000_000  # in a large set fewer, down to these, so that a turn compares so many pairs
NEAREST = 8  # candidates of one picture, by thumb: where one camera looks at one scene, all are alike at first sight
_HELD = 2_000_000  # candidates in memory
_THUMB_ALIKE = 0.85  # correlation of two thumbs
_DETAIL_ALIKE = 0.6  # correlation of what is finer than DETAIL_PX at COMPARE px
COMPARE, _DETAIL_PX = 96, 6.0
_FLAT = 1.0  # grey levels: with less detail than this there is nothing to compare

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)

Pairs = NDArray[np.int64]
Greys = Callable[[int], NDArray[np.uint8]]


def exact_sets(digests: list[bytes]) -> list[list[int]]:
    """Rows of equal digests, two or more each, in order of the first.

    >>> exact_sets([b"a", b"b", b"a", b"c", b"b"])
    [[0, 2], [1, 4]]
    """
    rows: dict[bytes, list[int]] = {}
    for row, digest in enumerate(digests):
        rows.setdefault(digest, []).append(row)
    return [same for same in rows.values() if len(same) > 1]


def near_pairs(
    digests: list[bytes],
    hashes: NDArray[np.uint64],
    thumbs: NDArray[np.uint8],
    grey_of: Greys,
    *,
    progress: Progress | None = None,
) -> Pairs:
    """Pairs of near copies, (pairs, 2) rows with the lower first; exact copies are taken as one picture.

    Args:
        digests, hashes (n,) uint64, thumbs (n, side, side) uint8: as in `looks.Looks`.
        grey_of: the picture of a row as (h, w) uint8, for the last comparison.
    """
    if len(digests) < 2:
        return np.empty((0, 2), np.int64)
    _, first = np.unique(np.array(digests), return_index=True)
    held: dict[int, NDArray[np.float32]] = {}

    def detail(row: int) -> NDArray[np.float32]:
        if row not in held:
            if len(held) > 2000:
                held.clear()
            held[row] = _detail(grey_of(row))
        return held[row]

    pairs = _candidates(np.sort(first), hashes, _shapes(thumbs), progress)
    found = [pair for pair in pairs.tolist() if alike(detail(pair[0]), detail(pair[1]))]
    return np.array(found, np.int64).reshape(-1, 2)


def alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two details, see `_detail`, are of one picture; one may be a few pixels off."""
    if not one.any() or not other.any():
        return False
    if float((one * other).sum()) >= _DETAIL_ALIKE:
        return True
    (right, down), _ = cv2.phaseCorrelate(one, other)
    shift = round(right), round(down)
    if shift == (0, 0) or max(map(abs, shift)) > COMPARE // 8:
        return False
    edge = COMPARE // 8
    moved = np.roll(one, (shift[1], shift[0]), axis=(0, 1))
    inner = _normal(np.stack([each[edge:-edge, edge:-edge].ravel() for each in (moved, other)]))
    return float((inner[0] * inner[1]).sum()) >= _DETAIL_ALIKE


def _detail(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What is finer than a few pixels, at COMPARE px, of length 1; zero where there is next to nothing.

    It is of one strength all over the picture: the same strong spot in two pictures does not make them copies when the
    grain around it is another.
    """
    small = cv2.resize(grey, (COMPARE, COMPARE), interpolation=cv2.INTER_AREA).astype(np.float32)
    smooth = cv2.GaussianBlur(small, (0, 0), 1.0)  # what JPEG leaves of the grain
    fine = smooth - cv2.GaussianBlur(smooth, (0, 0), _DETAIL_PX)
    if fine.std() < _FLAT / 2:
        return np.zeros_like(fine)
    strength = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), _DETAIL_PX))
    return np.asarray(_normal((fine / (strength + _FLAT / 2)).reshape(1, -1)).reshape(fine.shape), np.float32)


def _normal(rows: NDArray[np.generic]) -> NDArray[np.float32]:
    """Rows of mean 0 and length 1; those without any spread are zero."""
    values = rows.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.where(length > 0, length, 1), np.float32)


def _candidates(
    rows: NDArray[np.int64], hashes: NDArray[np.uint64], shapes: NDArray[np.float32], progress: Progress | None
) -> Pairs:
    """Pairs of rows within the radius whose shapes are alike, in ascending order, each once."""
    found = _Candidates()
    octets = hashes[rows].astype(">u8").view(np.uint8).reshape(-1, 8).astype(np.uint32)
    bucket = min(_BUCKET, max(_FEWEST, _AT_ONCE // max(1, len(rows))))
    for turn, (first, second) in enumerate(itertools.combinations(range(8), 2), 1):
        if progress is not None:
            progress(turn, 28)
        key = octets[:, first] << 8 | octets[:, second]
        place = np.lexsort((hashes[rows], key))
        order, keys = rows[place], key[place]
        longest = int(np.bincount(key).max(initial=1))
        for step in range(1, min(longest, bucket)):
            pairs = np.column_stack((order[:-step], order[step:]))[keys[:-step] == keys[step:]]
            pairs = pairs[_distance(hashes[pairs[:, 0]], hashes[pairs[:, 1]]) <= RADIUS]
            alike = _correlation(shapes, pairs)
            close = alike >= _THUMB_ALIKE
            found.add(np.sort(pairs[close], axis=1), alike[close])
    return found.nearest()


class _Candidates:
    """Pairs and how alike they are; those that are not among the nearest go when there are many."""

    def __init__(self) -> None:
        self._pairs, self._scores, self._held = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)], 0

    def add(self, pairs: Pairs, scores: NDArray[np.float32]) -> None:
        self._pairs.append(pairs)
        self._scores.append(scores)
        self._held += len(pairs)
        if self._held > _HELD:
            self.nearest()

    def nearest(self) -> Pairs:
        pairs, scores = _nearest(np.concatenate(self._pairs), np.concatenate(self._scores))
        self._pairs, self._scores, self._held = [pairs], [scores], len(pairs)
        return pairs


def _nearest(pairs: Pairs, scores: NDArray[np.float32]) -> tuple[Pairs, NDArray[np.float32]]:
    """The pairs, each once, that are among the NEAREST of one of their two pictures.

    >>> _nearest(np.array([[0, 1], [0, 1], [0, 2]]), np.array([0.9, 0.9, 0.95], np.float32))[0].tolist()
    [[0, 1], [0, 2]]
    """
    _, first = np.unique(pairs[:, 0] << 32 | pairs[:, 1], return_index=True)
    pairs, scores = pairs[first], scores[first]
    picture, pair = pairs.T.ravel(), np.tile(np.arange(len(pairs)), 2)
    order = np.lexsort((-scores[pair], picture))
    ranked = picture[order]
    place = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
    kept = np.unique(pair[order[place < NEAREST]])
    return pairs[kept], scores[kept]


def _shapes(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Thumbs at half their side, (n, pixels) of mean 0 and length 1; made few at a time, so that memory stays small."""
    side = thumbs.shape[1] // 2
    out = np.empty((len(thumbs), side * side), np.float32)
    for at in range(0, len(thumbs), 4096):
        fours = thumbs[at : at + 4096].reshape(-1, side, 2, side, 2)
        out[at : at + 4096] = _normal(fours.mean(axis=(2, 4), dtype=np.float32).reshape(len(fours), -1))
    return out


def _correlation(shapes: NDArray[np.float32], pairs: Pairs) -> NDArray[np.float32]:
    """Of the two shapes of each pair: (pairs,); few at a time."""
    out = np.empty(len(pairs), np.float32)
    for at in range(0, len(pairs), 4096):
        one, other = pairs[at : at + 4096].T
        out[at : at + 4096] = np.einsum("ij,ij->i", shapes[one], shapes[other])
    return out


def _distance(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Bits that differ."""
    bits: NDArray[np.int64] = _BITS[(one ^ other).view(np.uint8).reshape(-1, 8)].sum(axis=1)
    return bits
