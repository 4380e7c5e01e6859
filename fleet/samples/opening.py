"""Sealed samples into pictures, by whoever holds samples.key."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from device_agent.contract.errors import BadInput, LinesideError, NotFound, TrustFailed
from device_agent.contract.files import write_whole
from device_agent.contract.reading import read_plain
from device_agent.samples.png import png_size
from device_agent.samples.seal import MOST_BYTES, file_name, read_private, unseal
from fleet.samples.archive import Row, place


class Opened(msgspec.Struct, frozen=True):
    """A picture that was written, and what the device said of it. `cell` is class * 24 + bin."""

    file: str
    sha256: str
    device: str
    model: str
    at_ms: int
    cell: int
    reason: str
    probability: float | None
    log_odds: float
    decision: str
    height: int
    width: int


def open_samples_into(out: Path, rows: Iterable[Row], folder: Path, key: Path) -> tuple[list[Opened], list[str]]:
    """Write each sample as a PNG file into `out`; what was written, and a sentence for each that could not be opened.

    Raises:
        NotFound, BadInput: the key is not there or is none.
        NotWritable: a picture cannot be written.
    """
    private = read_private(key)
    opened, failed = [], []
    for row in rows:
        try:
            sealed = _read(folder, row)
            head, content = unseal(sealed, private)
            if head.device != row.device:
                raise TrustFailed(f"says that it is of {head.device!r}")
            height, width = png_size(content.png)
        except LinesideError as error:
            failed.append(f"{row.device} {row.sha256[:12]}: {error}")
            continue
        path = out / f"{row.device}-{row.at_ms}-{row.sha256[:12]}.png"
        write_whole(path, content.png)
        opened.append(
            Opened(
                str(path),
                row.sha256,
                row.device,
                row.model,
                row.at_ms,
                row.cell,
                row.reason,
                row.probability,
                content.log_odds,
                content.decision,
                height,
                width,
            )
        )
    return opened, failed


def _read(folder: Path, row: Row) -> bytes:
    path = place(folder, row.device, row.sha256)
    try:
        sealed = read_plain(path, MOST_BYTES)
    except FileNotFoundError:
        raise NotFound(f"{path} is not there") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if file_name(sealed) != row.sha256:
        raise TrustFailed("was changed after it was received")
    return sealed
