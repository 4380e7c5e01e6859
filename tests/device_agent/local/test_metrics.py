"""Every line that /metrics gives is what the text format allows, and says what happened."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from device_agent.classify import Prediction
from device_agent.contract.latency import BUCKETS, bucket_of, upper_ms
from device_agent.contract.report import STAGES
from device_agent.local.live import LiveState
from device_agent.local.metrics import AGES, COUNTERS, GAUGES, exposition
from device_agent.local.scrape import serve_metrics
from device_agent.local.settings import MetricsSettings

_spec = importlib.util.spec_from_file_location("exposition_reader", Path(__file__).with_name("exposition.py"))
reader = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = reader
_spec.loader.exec_module(reader)
ANY = MetricsSettings(listen="127.0.0.1:0")


OURS = (("device", "press-1"),)


def test_every_camera_has_its_own_numbers(live, answer_frame, get):
    answer_frame()
    other = LiveState()
    families = reader.read(exposition({"press-1": live.view(), "press-2": other.view()}))
    assert families["lineside_frames_total"].samples == {
        ("lineside_frames_total", OURS): 1,
        ("lineside_frames_total", (("device", "press-2"),)): 0,
    }
    server = serve_metrics(ANY, {"press-1": live, "press-2": other}, event=nothing)
    try:
        assert get(server, "/healthz")[::2] == (503, b"press-2: no frame was answered yet\n")
    finally:
        server.close()


def nothing(_kind: str, _text: str) -> None:
    """No event is expected to matter."""


def test_a_state_without_a_frame_is_well_formed(live):
    families = reader.read(exposition({"press-1": live.view()}, version="1.0"))
    assert families["lineside_frames_total"].samples == {("lineside_frames_total", OURS): 0}
    assert "lineside_temperature_celsius" not in families, "what is not known is left out"
    assert all(name.startswith("lineside_") and family.help for name, family in families.items())


def test_everything_that_can_be_said_is_well_formed(live, answer_frame):
    for label in (0, 1, 0):
        answer_frame(label)
    for name in GAUGES:
        live.gauge(name, 1.5)
    for name in COUNTERS:
        live.count(name, 3)
    for name in AGES:
        live.moment(name)
    for kind in ('quo"te', "back\\slash", "line\nfeed", "ümlaut", "camera_lost"):
        live.event(kind, "text")
    families = reader.read(exposition({"press-1": live.view()}, version='1"0'))
    assert len(families) == len(GAUGES) + len(COUNTERS) + len(AGES) + 5
    kinds = {dict(labels)["kind"] for _, labels in families["lineside_events_total"].samples}
    assert kinds == {'quo"te', "back\\slash", "line\nfeed", "ümlaut", "camera_lost"}
    decisions = {dict(labels)["decision"]: n for (_, labels), n in families["lineside_decisions_total"].samples.items()}
    assert decisions == {"pass": 2, "reject": 1}
    assert families["lineside_frames_total"].samples["lineside_frames_total", OURS] == 6


def test_the_histogram_is_that_of_the_agent():
    live, spent = LiveState(), np.geomspace(20, 2e7, 57)
    for us in spent:
        live.frame(np.zeros((1, 1, 3), np.uint8), Prediction(0, 0.9, 2.0, 8), None, (us, 1.0, 1.0, 1.0))
    samples = reader.read(exposition({"press-1": live.view()}))["lineside_stage_seconds"].samples
    counted = {
        dict(labels)["le"]: value
        for (name, labels), value in samples.items()
        if name.endswith("_bucket") and dict(labels)["stage"] == "capture"
    }
    assert len(counted) == BUCKETS and counted["+Inf"] == 57
    for bucket in range(BUCKETS - 1):
        edge = next(le for le in counted if le != "+Inf" and abs(float(le) * 1e3 / upper_ms(bucket) - 1) < 1e-4)
        assert counted[edge] == sum(bucket_of(us) <= bucket for us in spent)
    assert samples["lineside_stage_seconds_sum", (*OURS, ("stage", "capture"))] == pytest.approx(spent.sum() / 1e6)
    assert {dict(labels)["stage"] for _, labels in samples} == set(STAGES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300, 1e-300, -0.0, 2.0**60, 0.1])
def test_any_number_is_written_so_that_it_is_read(live, value):
    live.gauge("temperature_celsius", value)
    family = reader.read(exposition({"press-1": live.view()}))["lineside_temperature_celsius"]
    (found,) = family.samples.values()
    assert found == value or (found != found and value != value)


def test_the_reader_refuses_what_the_format_forbids():
    good = '# HELP a_total x\n# TYPE a_total counter\na_total{b="c"} 1\n'
    assert reader.read(good)["a_total"].samples == {("a_total", (("b", "c"),)): 1}
    for bad in (
        good[:-1],
        good + good,
        good.replace("counter", "count"),
        good.replace('"c"', '"c"d"'),
        good.replace('"c"', r'"\c"'),
        good.replace(" 1", " one"),
        good.replace("a_total{", "b{"),
        good + 'a_total{b="c"} 2\n',
        good.replace("1\n", "1\r\n"),
        good.replace('b="c"', "b=c"),
        '# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n',
        '# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 1\nh_count 1\n',
    ):
        with pytest.raises((ValueError, KeyError)):
            reader.read(bad)


def test_prometheus_gets_the_type_it_asks_for_and_a_supervisor_its_reason(live, answer_frame, get):
    server = serve_metrics(ANY, {"press-1": live}, event=nothing)
    try:
        status, headers, content = get(server, "/metrics")
        assert status == 200 and headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "lineside_build_info" in reader.read(content.decode())
        assert get(server, "/healthz")[::2] == (503, b"no frame was answered yet\n")
        answer_frame()
        assert get(server, "/healthz")[::2] == (200, b"ok\n")
        assert get(server, "/metrics", Host="evil.example")[0] == 421
        assert [get(server, path)[0] for path in ("/", "/frame.png", "/parts")] == [404] * 3
    finally:
        server.close()


def test_a_reason_stays_on_its_line(live, get):
    server = serve_metrics(ANY, {"press-1": live}, event=nothing, health=lambda: "no\r\nartifact\nserves")
    try:
        assert get(server, "/healthz")[::2] == (503, b"no artifact serves\n")
    finally:
        server.close()


def test_metrics_for_the_network_are_said(live):
    said = []
    server = serve_metrics(
        MetricsSettings(listen="0.0.0.0:0", expose=True),
        {"press-1": live},
        event=lambda kind, text: said.append((kind, text)),
    )
    server.close()
    assert said == [("metrics_exposed", f"the metrics listen on 0.0.0.0:{server.port}, for the whole network")]
