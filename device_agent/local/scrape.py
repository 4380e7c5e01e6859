"""/metrics for Prometheus and /healthz for a supervisor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from importlib.metadata import version

from device_agent.local.http import Answer, LocalServer, Request
from device_agent.local.live import LiveState
from device_agent.local.metrics import CONTENT_TYPE, exposition
from device_agent.local.settings import MetricsSettings, parse_listen


def serve_metrics(
    settings: MetricsSettings,
    lives: Mapping[str, LiveState],
    *,
    event: Callable[[str, str], None],
    health: Callable[[], str] | None = None,
) -> LocalServer:
    """The metrics of cameras by their names, listening from now on. `health()` is why the agent does not serve, "" if
    it does; by default why one of the cameras has no answers.

    Raises:
        NotWritable: the address cannot be listened on.
    """
    ours, well = version("lineside"), health or (lambda: _fault(lives))

    def show_metrics(_request: Request) -> Answer:
        views = {device: live.view() for device, live in lives.items()}
        return Answer(exposition(views, version=ours).encode(), CONTENT_TYPE)

    def show_health(_request: Request) -> Answer:
        why = " ".join(well().split())
        return Answer(f"{why or 'ok'}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK)

    listen = parse_listen(settings.listen)
    server = LocalServer(listen, {"/metrics": show_metrics, "/healthz": show_health}, settings.allow_host)
    if not listen.loopback:
        where = f"{settings.listen.rpartition(':')[0]}:{server.port}"
        event("metrics_exposed", f"the metrics listen on {where}, for the whole network")
    return server


def _fault(lives: Mapping[str, LiveState]) -> str:
    """Why cameras have no answers, "" if all have."""
    faults = {device: fault for device, live in lives.items() if (fault := live.fault())}
    return "; ".join(f"{device}: {fault}" if len(lives) > 1 else fault for device, fault in faults.items())
