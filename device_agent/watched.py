"""What watches a run: the live state with its two ports, systemd's watchdog, and why the last run ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.contract.errors import LinesideError
from device_agent.local.live import LiveState
from device_agent.service.last_end import ended, why_last_ended
from device_agent.service.notify import Notifier
from device_agent.service.watchdog import Bounds, Progress, Watchdog

if TYPE_CHECKING:
    from device_agent.classify import Prediction
    from device_agent.contract.manifest import BundleManifest
    from device_agent.frames import Frame
    from device_agent.local.live import StagesUs
    from device_agent.local.settings import MetricsSettings, PreviewSettings
    from device_agent.rungs import Serving

STORED, ACKNOWLEDGED = "stored", "acknowledged"
Event = Callable[[str, str], None]
LOAD_S = 120.0


class Watched:
    """Hears what loop, courier and journal say, and passes it on; nothing here waits.

    `log` is the journal, `state` the state folder, `interval_s` and `fps` what reports and frames are expected by; a
    port without settings stays closed.
    """

    def __init__(
        self,
        log: Event,
        *,
        device: str,
        state: Path,
        interval_s: float,
        fps: float = 30.0,
        preview: PreviewSettings | None = None,
        metrics: MetricsSettings | None = None,
    ) -> None:
        self._log, self._device, self._state = log, device, state
        self._preview, self._metrics = preview, metrics
        self.lives, self.notifier = {device: LiveState()}, Notifier()
        self._fps, self._intervals_s = fps, {device: interval_s}
        self.progress = Progress(Bounds.of(interval_s, fps))
        self.busy()

    def camera(self, device: str) -> LiveState:
        """The live state of a camera; a new one is shown from now on."""
        return self.lives.setdefault(device, LiveState())

    def log(self, kind: str, text: str, device: str | None = None) -> None:
        """A line of the journal, which is also an event of the page and an excuse of the watchdog; `device`: the camera
        that it is about, with its name in the line where there are several."""
        self._log(kind, f"{device}: {text}" if device is not None and len(self.lives) > 1 else text)
        self.camera(device or self._device).event(kind, text)
        self.progress.excuse(kind)

    def retime(self, device: str, interval_s: float) -> None:
        """A camera reports at another interval; what is expected follows the longest one."""
        self._intervals_s[device] = interval_s
        self.progress.fit(Bounds.of(max(self._intervals_s.values()), self._fps))

    def busy(self) -> None:
        """The loop loads or tests a model, which may take up to 120 s."""
        self.progress.busy(LOAD_S)

    def answered(
        self, device: str, frame: Frame, answer: Prediction, decision: str | None, stages_us: StagesUs
    ) -> None:
        """The loop answered a frame of a camera."""
        self.progress.frame()
        self.lives[device].frame(frame.image, answer, decision, stages_us)

    def looked(self, device: str) -> None:
        """A camera that waits for parts has delivered a frame that shows none."""
        self.progress.frame()
        self.lives[device].moment("look")

    def serves(self, device: str, serving: Serving, manifest: BundleManifest) -> None:
        """Another artifact answers for a camera; the first one makes the service ready."""
        labels = [label.name for label in manifest.labels]
        self.lives[device].serves(serving.name, manifest.name, labels, degraded=serving.degraded)
        self.notifier.ready(f"{manifest.name} as {serving.name}")

    def noted(self, device: str, what: str, n: int) -> None:
        """So many reports were `STORED` in the spool, or `ACKNOWLEDGED` by the monitor."""
        live = self.camera(device)
        if what == STORED:
            self.progress.stored()
            live.moment("report")
            live.count("reports", n)
        else:
            self.progress.acked()
            live.moment("ack")
            live.count("acknowledged", n)

    @contextmanager
    def open(self, event: Event) -> Iterator[None]:
        """Ports and watchdog for the time of the block, in which the spool is held. Why the last run did not end in
        order is an event; a port that cannot be opened is another, and stops nothing."""
        if (why := why_last_ended(self._state)) is not None:
            event("restarted", why)
        with ExitStack() as ends:
            ends.callback(ended, self._state)
            ends.callback(self.notifier.stopping)
            for serve in (self._serve_preview, self._serve_metrics):
                try:
                    serve(ends, event)
                except LinesideError as error:
                    event("local_refused", str(error))
            ends.callback(Watchdog(self.notifier, self.progress, event).close)
            yield

    def _serve_preview(self, ends: ExitStack, event: Event) -> None:
        if self._preview is not None:
            from device_agent.local.preview import serve_preview

            server = serve_preview(self._preview, self.lives, state=self._state, event=event)
            ends.callback(server.close)

    def _serve_metrics(self, ends: ExitStack, event: Event) -> None:
        if self._metrics is not None:
            from device_agent.local.scrape import serve_metrics

            ends.callback(serve_metrics(self._metrics, self.lives, event=event).close)
