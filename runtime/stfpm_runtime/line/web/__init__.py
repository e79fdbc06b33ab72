"""The line's web server: pages, pictures, an API, metrics and HTTP triggers. See docs/dashboard.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stfpm_runtime.line.config.line import LineOptions
    from stfpm_runtime.line.config.server import ServerOptions
    from stfpm_runtime.line.loop import Line

    from .http.server import WebServer


def check_server(server: ServerOptions) -> None:
    """Raise StfpmError where the extra `dashboard` is missing, the users cannot be read or the port cannot be used."""
    from .http import app  # noqa: F401 (it reports a missing package)
    from .http.server import listen
    from .http.users import read_users

    if server.users:
        read_users(server.users)
    listen(server).close()


def open_server(server: ServerOptions, line: Line, options: LineOptions, config: Path | None = None) -> WebServer:
    """Start the web server of a line and return it; `config` is the line's TOML file, if it has one.

    Raises MissingExtraError without the extra `dashboard`, and OutputError where the port cannot be used.
    """
    from .http.app import (
        make_app,  # here, as a line without a server needs none of these packages; it reports a missing one
    )

    from stfpm_runtime.line.triggers.base import QueuedTrigger  # isort: skip
    from stfpm_runtime.line.triggers.http import answer_limit_s, make_trigger_router  # isort: skip

    from .api.model_upload import ModelUpload
    from .api.model_upload import router as upload_router
    from .api.routes import needs, open_router, router
    from .api.setup_routes import router as setup_router
    from .http.server import WebServer
    from .views.setup_view import SetupView
    from .views.view import LineView

    triggers = {
        worker.camera.name: worker.trigger
        for worker in line.cameras
        if worker.camera.trigger == "http" and isinstance(worker.trigger, QueuedTrigger)
    }
    limit_s = answer_limit_s(options.camera)
    routers = [
        router,
        setup_router,
        upload_router,
        make_trigger_router(triggers, limit_s, needs("operate", is_machine=True)["dependencies"]),
    ]
    app = make_app(server, routers, [open_router], LineView(line, options))
    app.state.setup = SetupView(line, config)
    app.state.upload = ModelUpload(line)
    web_server = WebServer(server, app, limit_s)
    web_server.start()
    return web_server
