"""The metrics for Prometheus, read from the live status at each request: nothing is counted twice."""

from __future__ import annotations

import time
from collections.abc import Iterator

from stfpm_runtime.errors import MissingExtraError
from stfpm_runtime.line.outputs.worker import OutputWorker
from stfpm_runtime.line.web.http.authorizer import Authorizer
from stfpm_runtime.line.web.views.view import LineView

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
    """Collects all metrics of a line."""

    def __init__(self, view: LineView, authorizer: Authorizer) -> None:
        self._view = view
        self._authorizer = authorizer

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, once for each request."""
        line, status = self._view.line, self._view.live_status
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
        line, status = self._view.line, self._view.live_status
        cameras = GaugeMetricFamily("stfpm_camera_up", "1 unless the camera is lost or frozen.", labels=["camera"])
        for worker in line.cameras:
            cameras.add_metric([worker.camera.name], worker.state not in ("lost", "frozen"))
        outputs = GaugeMetricFamily("stfpm_output_up", "1 if the output can be reached.", labels=["output"])
        for output in line.outputs:
            if isinstance(output, OutputWorker) and output.name != "json_lines":
                outputs.add_metric([output.name], not output.failure)
        drift = GaugeMetricFamily("stfpm_drift_statistic", "Kolmogorov-Smirnov, 0 to 1.", labels=PLACE)
        alarm = GaugeMetricFamily("stfpm_drift_alarm", "1 while scores of passed parts drift.", labels=PLACE)
        for place, found in list(line.drift.found.items()):
            drift.add_metric(place, found.statistic)
            alarm.add_metric(place, found.alarm)
        yield from (cameras, outputs, drift, alarm)
        yield GaugeMetricFamily("stfpm_journal_up", "1 if the journal can be written.", float(line.recorder.works))
        yield GaugeMetricFamily("stfpm_loop_age_seconds", "Age of its last turn.", time.monotonic() - status.turned_s)
        failed = self._authorizer.failed_tokens
        yield CounterMetricFamily("stfpm_failed_tokens", "Requests to the dashboard with a wrong token.", value=failed)
        model = GaugeMetricFamily("stfpm_model_info", "The model in use.", labels=["file", "sha256", "precision"])
        model_in_use = line.active_model.model
        model.add_metric([model_in_use.path.name, model_in_use.sha256, model_in_use.spec.precision], 1)
        yield model


def metrics_text(view: LineView, authorizer: Authorizer) -> bytes:
    """Return all metrics in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LineCollector(view, authorizer))
    return generate_latest(registry)
