"""The API against its own OpenAPI document: schemathesis sends unusual requests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import TOKEN

COMMAND = Path(sys.executable).with_name("schemathesis")


@pytest.mark.skipif(not COMMAND.is_file() and not shutil.which("schemathesis"), reason="schemathesis is not installed")
@pytest.mark.slow
def test_the_api_keeps_what_its_document_promises(serve, tmp_path):
    client = serve()
    argv = [
        COMMAND if COMMAND.is_file() else "schemathesis", "run", f"http://127.0.0.1:{client.port}/openapi.json",
        "-H", f"Authorization: Bearer {TOKEN}", "--checks", "all", "--max-examples", "15", "--seed", "1",
        "--suppress-health-check", "all",
        "--request-timeout", "60", "--max-response-time", "60",  # a report is made at a low priority
    ]  # fmt: skip
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=500,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert client.get("/healthz")["status"] == "ok"
    assert not client.running.errors
