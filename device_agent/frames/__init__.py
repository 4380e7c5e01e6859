"""Frame sources behind one Protocol: an address in, RGB frames out. OpenCV is imported by the source that needs it.

folder:DIR[:k=v,...]   camera:0[:k=v,...]   video:FILE[:k=v,...]   rtsp://...   http://... (MJPEG)   synthetic[:k=v,...]
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from device_agent.contract.plugins import Seam
from device_agent.frames.region import Region

Image = NDArray[np.uint8]
T = TypeVar("T", bound=msgspec.Struct)

SOURCES = Seam(
    "sources",
    {
        "folder": "device_agent.frames.folder:Folder",
        "synthetic": "device_agent.frames.synthetic:Synthetic",
        "camera": "device_agent.frames.camera:Camera",
        "video": "device_agent.frames.camera:Video",
        "stream": "device_agent.frames.camera:Stream",
    },
)
LIVE = ("camera", "stream")
"""Kinds that deliver at their own rate."""
_STREAM = re.compile(r"(rtsps?|https?)://.+")
_OPTIONS = re.compile(r"[a-z_]+=[^:,]*(,[a-z_]+=[^:,]*)*")


class Frame(NamedTuple):
    """One frame: `image` uint8 (height, width, 3) RGB as captured, or fitted to the model's input; `stamp` counts the
    frames of the source from 0; `captured_ns` on the monotonic clock; `part` counts the parts, None where the source
    cannot tell them apart. `capture_us` and `preprocess_us` are what the capture process spent on it; `camera` is the
    number of the camera in an agent that has several."""

    image: Image
    stamp: int
    captured_ns: int
    part: int | None = None
    capture_us: float = 0.0
    preprocess_us: float = 0.0
    camera: int = 0


class SourceEnded(Exception):
    """The source has no more frames, and that is no fault."""


class Frames(Protocol):
    """Where the loop's frames come from, fitted to an input: `capture.Capture`, several of them, or a fake."""

    def next(self, timeout_s: float) -> Frame | None:
        """A frame, None when none came within the time; raises SourceEnded."""
        ...

    def refit(self, spec: InputSpec) -> None:
        """Deliver frames for another input."""
        ...


class FrameSource(Protocol):
    """One camera, folder or drawing. A static `check(target, options)`, where it has one, raises `BadInput` for options
    that are none without opening anything.

    Constructed as `Source(target, options, clock)`, options as text; raises `BadInput` for an option or target that is
    none, `Unreachable` where another attempt may help. `live` sources deliver at their own rate, the others wait for
    the reader unless `fps` says otherwise.
    """

    live: bool
    fps: float | None

    def read(self) -> Frame:
        """The next frame; raises SourceEnded after the last, Unreachable when the camera is gone."""
        ...

    def close(self) -> None:
        """Release the camera or the files."""
        ...


class Address(NamedTuple):
    """A source as the command line names it, and the region of its frames that is looked at."""

    kind: str
    target: str
    options: dict[str, str]
    region: Region | None = None


def parse_source(text: str) -> Address:
    """The parts of a source's address.

    >>> parse_source("folder:shots/steel:good=0.99,seed=1")
    Address(kind='folder', target='shots/steel', options={'good': '0.99', 'seed': '1'}, region=None)
    >>> parse_source("rtsp://10.0.0.7:554/live").kind
    'stream'

    Raises:
        BadInput: no source that exists, or one without its target.
    """
    if _STREAM.fullmatch(text):
        return Address("stream", text, {})
    kind, _, rest = text.partition(":")
    head, _colon, tail = rest.rpartition(":")
    target, options = (head, tail) if _OPTIONS.fullmatch(tail) else (rest, "")
    if kind not in SOURCES.names() or kind == "stream":
        raise BadInput(
            f"source {text!r}: must begin with folder:, camera:, video:, rtsp://, http:// or synthetic, "
            f"for example folder:images:once=1"
        )
    if kind != "synthetic" and not target:
        raise BadInput(f"source {text!r}: {kind}: must be followed by what to open")
    if kind == "synthetic" and target:
        raise BadInput(f"source {text!r}: options must read like synthetic:seed=1,fps=10")
    pairs = [pair.partition("=") for pair in options.split(",") if pair]
    address = Address(kind, target, {name: value for name, _, value in pairs})
    check = getattr(SOURCES.load(kind), "check", None)
    if check is not None:
        check(address.target, address.options)
    return address


def open_source(address: Address, clock: Callable[[], int] = time.monotonic_ns) -> FrameSource:
    """The source at `address`, opened.

    Raises:
        BadInput: an option or target that is none.
        MissingPackage: OpenCV is needed and not installed.
        Unreachable: the camera does not answer.
    """
    source: FrameSource = SOURCES.load(address.kind)(address.target, address.options, clock)
    return source


def read_options(options: dict[str, str], kind: type[T], *, where: str) -> T:
    """The options as a Struct of `kind`.

    Raises:
        BadInput: an unknown name, or a value that is out of range or of another type.
    """
    try:
        return msgspec.convert(options, kind, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(kind))
        said, _, name = str(error).lower().partition(" - at `$.")
        name = name.rstrip("`")
        came = f"{name}={options[name]}: " if name in options else ""
        raise BadInput(f"{where}: {came}{said}; options are {known}") from error
