"""What a driver of cameras offers to the thread that reads them."""

from __future__ import annotations

from typing import Protocol

from ..preprocessing import Image


class CameraError(Exception):
    """The camera is gone, or was never there. The text has no secrets in it."""


class Camera(Protocol):
    """One camera, opened once and thrown away when it is lost."""

    def open(self) -> None:
        """Begin to take frames; may block for seconds. Raises CameraError."""
        ...

    def read(self) -> Image | None:
        """The next frame, uint8 or uint16 [H, W, 3] BGR or [H, W] grey, blocking until it comes.

        None where none came for a while, so that the thread can look around. Raises CameraError when it is gone.
        """
        ...

    def close(self) -> None:
        """Give it back. Raises nothing; closing twice is fine."""
        ...
