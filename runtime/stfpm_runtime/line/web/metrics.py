"""What Prometheus asks for, read from the status when it does: the loop counts nothing twice."""

from __future__ import annotations

import time
from collections.abc import Iterator

from stfpm_runtime.errors import MissingExtraError
from stfpm_runtime.line.outputs.worker import OutputWorker

from .api import Api
from .authorizer import Authorizer

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector
except ImportError:
    raise MissingExtraError("prometheus_client", "dashboard") from None

PLACE = ("camera", "region")
MEDIA_TYPE: str = CONTENT_TYPE_LATEST


class LineCollector(Collector):
    """All metrics of a line."""

    def __init__(self, api: Api, access: Authorizer) -> None:
        self._api = api
        self._access = access

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        line, status = self._api.line, self._api.live_status
        verdicts = CounterMetricFamily("stfpm_verdicts", "Verdicts of this run.", labels=[*PLACE, "decision"])
        dropped = CounterMetricFamily("stfpm_dropped_frames", "Frames passed over in this run.", labels=PLACE)
        latency = GaugeMetricFamily(
            "stfpm_latency_seconds", "From frame to journal, of the last 1000.", labels=[*PLACE, "quantile"]
        )
        threshold = GaugeMetricFamily("stfpm_threshold", "Scores above it are rejected.", labels=PLACE)
        for names, place in status.places.items():
            for decision in ("pass", "reject", "fault"):
                verdicts.add_metric([*names, decision], place.decisions[decision])
            dropped.add_metric(names, place.dropped)
            threshold.add_metric(names, line.active_model.thresholds.of(*names))
            if found := place.latency_ms():
                for quantile, value in zip(("0.5", "0.99"), found, strict=True):
                    latency.add_metric([*names, quantile], value / 1e3)
        yield from (verdicts, dropped, latency, threshold)
        yield from self._states()

    def _states(self) -> Iterator[Metric]:
        line, status = self._api.line, self._api.live_status
        cameras = GaugeMetricFamily("stfpm_camera_up", "1 unless the camera is lost or frozen.", labels=["camera"])
        for station in line.cameras:
            cameras.add_metric([station.camera.name], station.state not in ("lost", "frozen"))
        sinks = GaugeMetricFamily("stfpm_sink_up", "1 if the other side can be reached.", labels=["sink"])
        for output in line.outputs:
            if isinstance(output, OutputWorker) and output.name != "json_lines":
                sinks.add_metric([output.name], not output.failure)
        drift = GaugeMetricFamily("stfpm_drift_statistic", "Kolmogorov-Smirnov, 0 to 1.", labels=PLACE)
        alarm = GaugeMetricFamily("stfpm_drift_alarm", "1 while scores of passed parts drift.", labels=PLACE)
        for place, found in list(line.drift.found.items()):
            drift.add_metric(place, found.statistic)
            alarm.add_metric(place, found.alarm)
        yield from (cameras, sinks, drift, alarm)
        yield GaugeMetricFamily("stfpm_journal_up", "1 if it can be written.", float(line.recorder.works))
        yield GaugeMetricFamily("stfpm_loop_age_seconds", "Since it last turned.", time.monotonic() - status.turned_s)
        failed = self._access.failed_tokens
        yield CounterMetricFamily("stfpm_failed_tokens", "Requests to the dashboard with a wrong token.", value=failed)
        model = GaugeMetricFamily("stfpm_model_info", "The model that rules.", labels=["file", "sha256", "precision"])
        ruling = line.active_model.model
        model.add_metric([ruling.path.name, ruling.sha256, ruling.spec.precision], 1)
        yield model


class Metrics:
    """The text that a scrape gets."""

    def __init__(self, api: Api, access: Authorizer) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(LineCollector(api, access))

    def text(self) -> bytes:
        """In Prometheus's format."""
        return generate_latest(self._registry)
