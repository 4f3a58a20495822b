"""Metrics: what a Prometheus server would read of a run, from Ray's own metrics agent."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator

import pytest

from heal.agents.on_ray.prometheus import RunMetrics, metrics_address
from tests.agents.made_ticks import made_tick, troubled_tick

Samples = dict[tuple[str, tuple[str, ...]], float]
# Ray's, of all metrics, and of no interest here.
RAYS_TAGS = {"Component", "NodeAddress", "SessionName", "Version", "WorkerId", "JobId", "NodeId"}
PATIENCE_S = 60.0


@pytest.fixture
def local_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray whose metrics are up to date within half a second."""
    from heal.agents.on_ray.cluster import start_ray, stop_ray

    monkeypatch.setenv("RAY_metrics_report_interval_ms", "500")
    assert start_ray(metrics_port=0)
    yield
    stop_ray()


def scrape(address: str) -> Samples:
    """Our samples by name and by the values of their own tags, in the order of the tags' names."""
    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(address, timeout=10) as page:
        text = page.read().decode("utf-8")
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            tags = {k: v for k, v in sample.labels.items() if k not in RAYS_TAGS and not k.startswith("otel_")}
            if sample.name.startswith("ray_heal_"):
                found[sample.name, tuple(tags[key] for key in sorted(tags))] = sample.value
    return found


def scrape_until(address: str, name: str, value: float) -> Samples:
    """Samples of the first page on which a metric without tags has a value; the last page if it never has."""
    ends, found = time.monotonic() + PATIENCE_S, scrape(address)
    while found.get((name, ())) != value and time.monotonic() < ends:
        time.sleep(0.2)
        found = scrape(address)
    return found


def test_without_ray_nothing_is_served() -> None:
    assert metrics_address() is None


@pytest.mark.ray
def test_what_prometheus_reads_is_what_happened(local_ray: None) -> None:
    metrics, address = RunMetrics(), metrics_address()
    assert isinstance(metrics, RunMetrics) and address is not None
    for result in (made_tick(0), made_tick(1, b="lost"), troubled_tick(2)):
        metrics.add(result)
    found = scrape_until(address, "ray_heal_ticks_total", 3)
    expected: Samples = {
        ("ray_heal_ticks_total", ()): 3,
        ("ray_heal_messages_total", ("m2", "used")): 1,
        ("ray_heal_messages_total", ("m2", "lost")): 1,
        ("ray_heal_messages_total", ("m2", "late")): 1,
        ("ray_heal_messages_total", ("m5", "used")): 2,
        ("ray_heal_messages_total", ("m5", "rejected")): 1,
        ("ray_heal_message_bytes_total", ("m2",)): 6000,
        ("ray_heal_message_bytes_total", ("m5",)): 1500,
        ("ray_heal_rejections_total", ("wrong base",)): 1,
        ("ray_heal_rejections_total", ("stale",)): 1,
        ("ray_heal_held_maps_total", ("m2",)): 1,
        ("ray_heal_faults_total", ("agent crashed",)): 1,
        ("ray_heal_faults_total", ("fusion node hung",)): 1,
        ("ray_heal_faults_total", ("fusion node restarted",)): 1,
        ("ray_heal_link_latency_ms_count", ("m2",)): 2,
        ("ray_heal_link_latency_ms_bucket", ("m5", "20.0")): 0,
        ("ray_heal_link_latency_ms_bucket", ("m5", "50.0")): 3,
        ("ray_heal_stage_latency_ms_count", ("encode",)): 9,
        ("ray_heal_stage_latency_ms_count", ("fuse",)): 2,
        ("ray_heal_stage_latency_ms_bucket", ("20.0", "fuse")): 0,
        ("ray_heal_stage_latency_ms_bucket", ("50.0", "fuse")): 2,
        ("ray_heal_detections", ()): 1,
        ("ray_heal_labelled", ()): 3,
        ("ray_heal_agents", ()): 3,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert {key for key in found if key[0] == "ray_heal_messages_total"} == {
        key for key in expected if key[0].endswith("messages_total")
    }
