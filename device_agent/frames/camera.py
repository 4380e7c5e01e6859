"""Cameras, streams and video files through OpenCV. A read may block for ever: the capture process can be killed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from device_agent.contract.errors import BadInput, NotFound, Unreachable
from device_agent.contract.optional import require
from device_agent.frames import Frame, SourceEnded, read_options
from device_agent.frames.line import Fps, Seconds

OPEN_TIMEOUT_MS = 4000
_CAMERA = re.compile(r"[0-9]{1,4}")


Silent = Annotated[float, Meta(ge=1, le=86_400)]
"""Seconds without a frame after which a camera is taken for hung: more for one that hardware triggers."""


class CameraOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to ask of a camera: frames per second, its own picture size in px, and how long it may be silent."""

    fps: Fps | None = None
    silent_s: Silent | None = None
    width: Annotated[int, Meta(ge=16, le=16384)] | None = None
    height: Annotated[int, Meta(ge=16, le=16384)] | None = None


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frames per second that are kept of a stream, from the command line."""

    fps: Fps | None = None
    silent_s: Silent | None = None


class VideoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to play a file: frames per second (without it each frame waits for its reader), where to begin in seconds,
    and whether to end with the file instead of beginning again."""

    fps: Fps | None = None
    start: Seconds = 0.0
    once: bool = False


class Camera:
    """A V4L2 or CSI camera by its number: camera:0 is /dev/video0."""

    live = True

    @staticmethod
    def check(target: str, options: dict[str, str]) -> msgspec.Struct:
        """The options; raises BadInput."""
        if not _CAMERA.fullmatch(target):
            raise BadInput(f"source camera:{target[:40]}: must be a number from 0 to 9999, 0 is /dev/video0")
        return read_options(options, CameraOptions, where=f"source camera:{target}")

    def __init__(self, target: str, options: dict[str, str], clock: Callable[[], int]) -> None:
        self.check(target, options)
        wanted = read_options(options, CameraOptions, where=f"source camera:{target}")
        self.fps = wanted.fps
        self._name, self._clock, self._stamp = f"camera {target}", clock, 0
        self._cv2 = require("cv2", extra="camera")
        self._capture = self._cv2.VideoCapture(int(target))
        for setting, value in (("WIDTH", wanted.width), ("HEIGHT", wanted.height)):
            if value:
                self._capture.set(getattr(self._cv2, f"CAP_PROP_FRAME_{setting}"), value)
        _check_open(self._capture, self._name)

    def read(self) -> Frame:
        """The next frame; raises Unreachable when the camera gives none."""
        got, image = self._capture.read()
        if not got:
            raise Unreachable(f"{self._name} gives no frame")
        frame = Frame(self._rgb(image), self._stamp, self._clock())
        self._stamp += 1
        return frame

    def _rgb(self, image: Any) -> Any:
        try:
            return np.asarray(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), np.uint8)
        except self._cv2.error as error:
            raise Unreachable(f"{self._name} gives a frame that is no picture: {error.err}") from error

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


class Stream(Camera):
    """RTSP, or MJPEG over HTTP."""

    @staticmethod
    def check(_target: str, options: dict[str, str]) -> msgspec.Struct:
        """The options; raises BadInput."""
        return read_options(options, StreamOptions, where="source stream")

    def __init__(self, target: str, options: dict[str, str], clock: Callable[[], int]) -> None:
        self.fps = read_options(options, StreamOptions, where="source stream").fps
        self._name, self._clock, self._stamp = without_password(target), clock, 0
        self._cv2 = cv2 = require("cv2", extra="camera")
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, OPEN_TIMEOUT_MS]
        self._capture = cv2.VideoCapture(target, cv2.CAP_FFMPEG, limits)
        _check_open(self._capture, self._name)


class Video(Camera):
    """A video file, played again and again unless `once`."""

    live = False

    @staticmethod
    def check(target: str, options: dict[str, str]) -> msgspec.Struct:
        """The options; raises BadInput."""
        return read_options(options, VideoOptions, where=f"source video:{target}")

    def __init__(self, target: str, options: dict[str, str], clock: Callable[[], int]) -> None:
        wanted = read_options(options, VideoOptions, where=f"source video:{target}")
        if not Path(target).is_file():
            raise NotFound(f"source video: {target} is no file")
        self.fps, self._once = wanted.fps, wanted.once
        self._name, self._clock, self._stamp = target, clock, 0
        self._cv2 = require("cv2", extra="camera")
        self._capture = self._cv2.VideoCapture(target)
        if not self._capture.isOpened():
            raise BadInput(f"source video: {target} is no video that can be decoded")
        self._capture.set(self._cv2.CAP_PROP_POS_MSEC, wanted.start * 1000)

    def read(self) -> Frame:
        """The next frame; raises SourceEnded after the last with `once`, BadInput when there is none at all."""
        got, image = self._capture.read()
        if not got and self._stamp and self._once:
            raise SourceEnded
        if not got:
            self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, 0)
            got, image = self._capture.read()
        if not got:
            raise BadInput(f"source video: {self._name} holds no frame that can be decoded")
        frame = Frame(self._rgb(image), self._stamp, self._clock())
        self._stamp += 1
        return frame


def without_password(url: str) -> str:
    """The address of a stream as it may be shown.

    >>> without_password("rtsp://admin:secret@10.0.0.7/live")
    'rtsp://10.0.0.7/live'
    """
    scheme, _, rest = url.partition("://")
    server, slash, path = rest.partition("/")
    return f"{scheme}://{server.rpartition('@')[2]}{slash}{path}"


def _check_open(capture: Any, name: str) -> None:
    if not capture.isOpened():
        raise Unreachable(f"{name} cannot be opened")
