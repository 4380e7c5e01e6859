"""Samples of a running agent: the loop offers frames, threads of their own seal, keep and send the chosen ones."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Full, Queue
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.classify import Prediction
from device_agent.contract.codec import SCHEMA
from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS
from device_agent.contract.review import Sample
from device_agent.frames import Frame
from device_agent.samples.chooser import Chooser, Chosen, Limits
from device_agent.samples.png import write_png
from device_agent.samples.request import Outcome, put
from device_agent.samples.seal import Content, Head, key_id, read_public, seal
from device_agent.samples.settings import SampleSettings, parse_address
from device_agent.samples.store import Caps, Clocks, Store
from device_agent.samples.taken import Taken
from device_agent.samples.upload import Send, Uploader
from device_agent.samples.zones import hide

MOST_WAITING = 4
EXPIRE_S = 3600.0


class Shot(NamedTuple):
    """A frame that was answered, as the chooser sees it; `image` is (height, width, channels) uint8."""

    image: NDArray[np.uint8]
    cell: int
    log_odds: float
    decision: str
    model: bytes
    wall_ms: int

    @property
    def review(self) -> bool:
        """Does the operating point send the part to a person?"""
        return self.decision == "review"


class Samples:
    """The samples of one device, in `STATE/samples`. `offer` returns at once, and is called from one thread.

    Args:
        credentials: the device's certificate, for an upload; its `ca` is whom to trust.
        uploaded: hears of each sample that the monitor took, from another thread.
        event: hears what a person should know, from any thread.
        send: stands in for the upload in tests.

    Raises:
        NotFound, BadInput: the key is not there or is none; an upload without the device's certificate.
    """

    def __init__(
        self,
        settings: SampleSettings,
        *,
        device: str,
        state: Path,
        credentials: Credentials,
        uploaded: Callable[[Sample], None],
        event: Callable[[str, str], None],
        clocks: Clocks = Clocks(time.monotonic_ns, lambda: time.time_ns() // 1_000_000),  # noqa: B008
        rng: random.Random | None = None,
        send: Send | None = None,
    ) -> None:
        self._settings, self._device, self._event, self._clocks = settings, device, event, clocks
        self._public = read_public(Path(settings.key))
        self._key_id = key_id(self._public)
        if send is None and settings.url is not None:
            send = _sender(settings, device, credentials)
        rng = rng or random.Random()
        caps = Caps(settings.most_mib << 20, int(settings.ttl_days * 86_400e9))
        self._store = Store(state / "samples", caps, clocks, event)
        self._taken = Taken(state / "samples" / "taken.json", settings.per_day)
        self._chooser: Chooser[Shot] = Chooser(_limits(settings), rng, clocks.monotonic_ns())
        self._chooser.restore(self._taken.ages(clocks.wall_ms()), clocks.monotonic_ns())
        self._waiting: Queue[Chosen[Shot] | None] = Queue(MOST_WAITING)
        self._dropped = 0
        self._uploader = send and Uploader(
            self._store, send, uploaded=uploaded, event=event, rng=random.Random(rng.random())
        )
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self._thread.start()

    def offer(self, frame: Frame, answer: Prediction, *, model: bytes, decision: str = "") -> None:
        """A frame that was answered, with the model's id (8 bytes) and the fate of the part, "" without one. The image
        must not be changed afterwards."""
        cell = answer.label * BINS + answer.bin
        shot = Shot(frame.image, cell, answer.log_odds, decision, model, self._clocks.wall_ms())
        for chosen in self._chooser.offer(shot, self._clocks.monotonic_ns()):
            self._hand(chosen)

    def _hand(self, chosen: Chosen[Shot]) -> None:
        try:
            self._waiting.put_nowait(chosen)
        except Full:
            self._dropped += 1
            if self._dropped == 1:
                self._event("samples_dropped", f"the disk does not keep up, {MOST_WAITING} samples wait")

    def _run(self) -> None:
        due_s = time.monotonic() + EXPIRE_S
        while True:
            try:
                chosen = self._waiting.get(timeout=max(0.0, due_s - time.monotonic()))
            except Empty:
                due_s = time.monotonic() + EXPIRE_S
                self._store.expire()
                continue
            if chosen is None:
                return
            self._keep(chosen)

    def _keep(self, chosen: Chosen[Shot]) -> None:
        shot = chosen.frame
        if chosen.reason != "random":
            self._taken.add(self._clocks.wall_ms(), shot.cell)
        png = write_png(hide(shot.image, self._settings.blur, self._settings.crop))
        wall_ms = max(0, shot.wall_ms)
        head = Head(
            SCHEMA, self._device, shot.model, wall_ms, shot.cell, chosen.reason, chosen.probability, self._key_id
        )
        kept = self._store.add(seal(head, Content(SCHEMA, png, shot.log_odds, shot.decision), self._public))
        if kept and self._uploader:
            self._uploader.wake()

    def close(self, timeout_s: float = 2.0) -> None:
        """Keep what is chosen by now, within the time; what was not sent is sent after the next start."""
        for chosen in self._chooser.flush(self._clocks.monotonic_ns()):
            self._hand(chosen)
        try:
            self._waiting.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)
        except Full:  # a disk that hangs
            pass
        if self._uploader:
            self._uploader.close(timeout_s)


def _limits(settings: SampleSettings) -> Limits:
    return Limits(
        settings.per_minute,
        settings.per_hour,
        settings.per_day,
        settings.per_cell,
        settings.random_per_day,
        settings.below,
    )


def _sender(settings: SampleSettings, device: str, credentials: Credentials) -> Send:
    if credentials.cert is None or credentials.key is None:
        raise BadInput("samples.url: the monitor takes samples by the device's certificate: give --cert and --key")
    credentials.context()
    address = parse_address(settings.url or "")

    def send(name: str, content: bytes, stop: threading.Event) -> Outcome:
        path = f"/samples/{device}/{name}"
        return put(address, path, content, credentials, name=name, kib_s=settings.kib_s, stop=stop)

    return send
