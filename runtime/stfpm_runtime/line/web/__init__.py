"""What people beside the line look at, and machines ask: pages, pictures, an API, metrics. See docs/dashboard.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stfpm_runtime.line.config.dashboard import DashboardOptions

if TYPE_CHECKING:
    from stfpm_runtime.line.config.line import LineOptions
    from stfpm_runtime.line.loop import Line

    from .server import Dashboard

__all__ = ["DashboardOptions", "open_dashboard"]


def open_dashboard(dashboard: DashboardOptions, line: Line, options: LineOptions) -> Dashboard:
    """Begin to listen. Raises MissingExtraError without the extra, OutputError where the port cannot be had."""
    from .server import Dashboard  # late: a line without a dashboard needs none of its packages

    return Dashboard(dashboard, line, options)
