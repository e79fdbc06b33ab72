"""Takes models that were trained elsewhere: the golden file and then the .onnx file, as the body of one request.

They are written into a folder next to the models, checked there, and moved to their places; neither is held in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi import Path as PathValue
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from stfpm_runtime.artifact.golden import MAX_GOLDEN_BYTES, golden_path
from stfpm_runtime.errors import OptionError, OutputError, StfpmError
from stfpm_runtime.line.loop import Line
from stfpm_runtime.line.models.trial import answer_s
from stfpm_runtime.line.web.http.connections import BODY_S, connection_of

from .fields import WHO
from .routes import REFUSED, needs, refuse_unknown

MODEL_BYTES = 1 << 30
"""The largest model that is taken, in bytes."""
MIN_FREE_BYTES = 1 << 28
"""What an upload leaves free on the disk, in bytes."""
UPLOAD_S = 1800.0
"""The longest time that the files may take to come, in seconds."""
LINGER_S = 10.0
"""After a refusal the rest of the upload is read for so many seconds: a browser reads no answer while it sends."""
PART = 1 << 20
"""Bytes that are written at once."""
FOLDER = ".upload-"
"""The beginning of the name of an upload's folder."""
BODY = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


class UploadedModel(BaseModel):
    """A model file that was taken, and in words what comes next."""

    file: str
    sha256: str
    message: str


class ModelUpload:
    """Takes one upload at a time."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._busy = threading.Lock()

    async def receive(self, request: Request, file: str, golden_bytes: int, who: str) -> UploadedModel:
        """Write the files of a request, check the model, and put both into their places.

        Raises HTTPException where it is refused, and OutputError where it cannot be written. For the event loop.
        """
        body = _Body(request)
        try:
            length = _length(request, golden_bytes)
            with self._exclusively(), self._folder(file, length) as folder:
                path = folder / file
                await _write(body, golden_path(path), golden_bytes)
                await _write(body, path, length - golden_bytes)
                if connection := connection_of(request.scope):
                    connection.extend(answer_s(path, self._line.model_swap.options.device) + BODY_S)
                return await run_in_threadpool(self._take, path, who)
        except ClientDisconnect:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "the body ended before its Content-Length") from None
        except (HTTPException, OutputError):
            with contextlib.suppress(HTTPException, ClientDisconnect, asyncio.TimeoutError):
                await asyncio.wait_for(_skip(body), LINGER_S)
            raise

    def _take(self, path: Path, who: str) -> UploadedModel:
        """Check a model that was written, and move it next to the others; the journal records who sent it."""
        swap, log_event = self._line.model_swap, self._line.recorder.log_event
        try:
            digest = swap.check_file(path)
            target = self._target(path.name)  # asked again: it may have been made meanwhile
            golden_path(path).replace(golden_path(target))  # first: a model without its golden file could not be used
            path.replace(target)
        except OSError as error:
            raise OutputError(f"{path.name}: cannot be written ({error.strerror}); try again") from None
        except StfpmError as error:
            said = str(error).replace(f"{path.parent}{os.sep}", "")
            log_event("model", f"upload of {path.name} refused, by {who}: {said}")
            raise HTTPException(HTTPStatus.CONFLICT, f"{path.name} was not taken: {said}") from None
        log_event("model", f"{target.name} ({digest[:12]}): none -> uploaded, by {who}")
        following = "check it and put it to use" if self._line.active_model.exists else "start the line again"
        message = f"{target.name} repeats its golden results on this machine; {following}"
        return UploadedModel(file=target.name, sha256=digest, message=message)

    def _target(self, name: str) -> Path:
        """Return where a model of that name is put. Raises OptionError where it cannot be."""
        target = self._line.model_swap.new_path(name)
        if self._line.training.makes(target):
            raise OptionError(f"{name}: a training makes this file; choose another name")
        return target

    @contextlib.contextmanager
    def _folder(self, file: str, length: int) -> Iterator[Path]:
        """Yield a folder for files of `length` bytes next to the models, which is gone at the end."""
        try:
            beside = self._target(file).parent
        except OptionError as error:
            raise HTTPException(HTTPStatus.CONFLICT, str(error)) from None
        try:
            _remove_old(beside)
            if shutil.disk_usage(beside).free - length < MIN_FREE_BYTES:
                raise HTTPException(HTTPStatus.CONFLICT, f"there is no room on the disk for {length} bytes; free space")
            with tempfile.TemporaryDirectory(prefix=FOLDER, dir=beside, ignore_cleanup_errors=True) as name:
                yield Path(name)
        except OSError as error:
            raise OutputError(f"{beside}: cannot be written ({error.strerror}); free space or permit it") from None

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise HTTPException(HTTPStatus.CONFLICT, "another model is being uploaded; wait until it has been")
        try:
            yield
        finally:
            self._busy.release()


class _Body:
    """The body of a request, read in parts of any size."""

    def __init__(self, request: Request) -> None:
        self._stream = request.stream()
        self._connection = connection_of(request.scope)
        self._until_s = time.monotonic() + UPLOAD_S
        self._ahead = bytearray()
        self._is_whole = False

    async def take(self, count: int) -> bytes:
        """Return the next `count` bytes, or what is left. Raises HTTPException where they do not come in time."""
        while len(self._ahead) < count and not self._is_whole:
            part = await self._next()
            self._ahead += part
            self._is_whole = not part
        taken = bytes(self._ahead[:count])
        del self._ahead[:count]
        return taken

    async def _next(self) -> bytes:
        try:
            part = await asyncio.wait_for(anext(self._stream, b""), min(BODY_S, self._until_s - time.monotonic()))
        except asyncio.TimeoutError:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the files did not come in time; try again") from None
        if self._connection:
            self._connection.extend(2 * BODY_S)
        return part


def _length(request: Request, golden_bytes: int) -> int:
    """Return how many bytes come. Raises HTTPException where they cannot be a golden file and a model."""
    header = request.headers
    if "Content-Length" not in header:
        raise HTTPException(HTTPStatus.LENGTH_REQUIRED, "expected the header Content-Length")
    length = int(header["Content-Length"])  # the server has checked that it is a number
    if header.get("Content-Type") != "application/octet-stream":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/octet-stream")
    if length <= golden_bytes:
        said = f"golden_bytes: got {golden_bytes} of {length} bytes; expected the golden file and then the model"
        raise HTTPException(HTTPStatus.CONFLICT, said)
    if length - golden_bytes > MODEL_BYTES:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a model of up to {MODEL_BYTES} bytes")
    return length


async def _write(body: _Body, path: Path, length: int) -> None:
    """Write the next `length` bytes into a new file, so that they outlive a power cut."""
    with await run_in_threadpool(path.open, "xb", buffering=0) as file:
        while length > 0:
            part = await body.take(min(length, PART))
            await run_in_threadpool(file.write, part)
            length -= len(part)
        await run_in_threadpool(os.fsync, file.fileno())


async def _skip(body: _Body) -> None:
    while await body.take(PART):
        pass


def _remove_old(folder: Path) -> None:
    """Remove what uploads have left that were ended by a kill or a power cut."""
    for old in folder.glob(f"{FOLDER}*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > 2 * UPLOAD_S:
                shutil.rmtree(old)


async def upload_of(request: Request) -> ModelUpload:
    """Return what takes uploads of the line that this server shows."""
    upload = request.app.state.upload
    assert isinstance(upload, ModelUpload), "set with the routes"
    return upload


ROLE: dict[str, Any] = needs("engineer", is_upload=True)
router = APIRouter(responses=REFUSED, dependencies=[Depends(refuse_unknown)])


@router.put(
    "/model/{file}",
    response_model=UploadedModel,
    dependencies=ROLE["dependencies"],
    openapi_extra={**ROLE["openapi_extra"], "requestBody": BODY},
)
async def put_model(
    request: Request,
    upload: Annotated[ModelUpload, Depends(upload_of)],
    file: Annotated[str, PathValue(min_length=6, max_length=120, description="the .onnx file to make")],
    golden_bytes: Annotated[
        int, Query(ge=1, le=MAX_GOLDEN_BYTES, description="how many bytes of the body are the golden file")
    ],
    who: Annotated[
        str, Query(min_length=1, max_length=80, pattern=WHO, description="the name that the journal records")
    ],
) -> UploadedModel:
    """Take a model that was trained elsewhere: FILE.golden.npz and FILE.onnx, one after the other, as the body."""
    return await upload.receive(request, file, golden_bytes, who)
