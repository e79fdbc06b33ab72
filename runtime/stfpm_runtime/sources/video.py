"""Compressed video, of network streams and files, through PyAV.

FFmpeg conceals damage with pixels of other frames. PyAV gives the marks and errors that show which frames those are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import av
import av.error
import numpy as np

from stfpm_runtime.errors import ImageError
from stfpm_runtime.imaging.preprocessing import Image

from .address import Address
from .base import Pixels, SourceOptions
from .camera import NEVER_S, NOT_WHOLE, CameraLostError, RawFrame, damaged_frame, jpeg_frame, lost_after

STRICT = {"err_detect": "crccheck+explode"}
"""Options by which the decoder reports errors that it would conceal otherwise."""


class VideoReader:
    """The frames of a stream or a file. Raises `av.error.FFmpegError` where it cannot be opened, or breaks off.

    A frame that depends on a damaged one is damaged, too: all frames up to the next key frame.
    """

    def __init__(
        self, target: str, threads: int, max_megapixels: float, timeouts_s: tuple[float, float] | None = None
    ) -> None:
        self._max_megapixels = max_megapixels
        options = {"rtsp_transport": "tcp"} if target.startswith("rtsp") else {}
        self.container = av.open(target, options=options, timeout=timeouts_s, metadata_errors="replace")
        if not self.container.streams.video:
            self.container.close()
            raise av.error.InvalidDataError(0, "no video stream")
        self.stream = self.container.streams.video[0]
        self._context = self.stream.codec_context
        self._context.thread_count = threads
        self._context.options = STRICT
        self._damage = ""
        self._damaged_pts: set[int | None] = set()
        self._clean_keys: set[int | None] = set()
        """Time stamps of key frames that were sent to the decoder after the last damage and did not come out yet."""
        self._began = False

    def __iter__(self) -> Iterator[RawFrame]:
        """Yield all frames, and a damaged one for each damaged packet that gives none."""
        for packet in self.container.demux(self.stream):
            if self._context.name == "mjpeg" and packet.size:
                yield jpeg_frame(bytes(packet), self._max_megapixels)
            else:
                yield from self._decode(packet)

    def close(self) -> None:
        """Close the file or the connection."""
        self.container.close()

    def _decode(self, packet: av.Packet[Any]) -> Iterator[RawFrame]:
        damage = ""
        frames: list[av.VideoFrame] = []
        if packet.is_corrupt:
            damage = "a packet is incomplete or some before it are missing"
            self._damaged_pts.add(packet.pts)
        try:
            frames = self._context.decode(packet if packet.size else None)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            damage = f"the decoder reports damaged data ({error.strerror})"
            self._damaged_pts.add(packet.pts)
        if damage:
            self._damage = damage
            self._clean_keys.clear()
        elif packet.is_keyframe:
            self._clean_keys.add(packet.pts)
        self._began = self._began or bool(frames)
        if not self._began:  # a stream that is joined in its middle begins with the next key frame
            return
        if damage and not frames:
            yield _damaged(damage)
        for frame in frames:
            damage = self._damage_of(frame)
            yield _damaged(damage) if damage else _raw_frame(frame)

    def _damage_of(self, frame: av.VideoFrame) -> str:
        """Return why the frame must not be judged; empty if it may be."""
        if frame.is_corrupt or frame.pts in self._damaged_pts:
            self._damaged_pts.discard(frame.pts)
            self._damage = self._damage or "the decoder marks it as damaged"
            return self._damage
        if frame.key_frame:  # a decoder that reorders frames may give one from before the damage
            if not self._clean_keys.isdisjoint((frame.pts, None)):
                self._damage = ""
            self._clean_keys -= {frame.pts, None}
            return ""
        return self._damage and f"it depends on a damaged one: {self._damage}"


class VideoCamera:
    """An open network stream. Raises CameraLostError where there is none, without FFmpeg's text about it."""

    on_demand = False
    unchecked = ""

    def __init__(self, address: Address, options: SourceOptions) -> None:
        self._options = options
        limits_s = (options.open_timeout_s, options.silent_after_s or NEVER_S)
        began_s = time.monotonic()
        try:
            self._reader = VideoReader(address.target, options.decoder_threads, options.max_megapixels, limits_s)
        except (av.error.FFmpegError, OSError, ValueError):
            after_s = time.monotonic() - began_s
            remedy = "check address, user and password, and that the peer runs"
            raise CameraLostError(f"cannot be opened, after {after_s:.1f} s; {remedy}") from None
        self._frames = iter(self._reader)

    def read(self) -> RawFrame | None:
        """Return the next frame; wait for it as long as `silent_after_s` allows."""
        began_s = time.monotonic()
        try:
            frame = next(self._frames, None)
        except (av.error.FFmpegError, OSError):
            frame = None
        if frame is None:
            raise lost_after(time.monotonic() - began_s, self._options.silent_after_s)
        return frame

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


def read_video(path: str, max_megapixels: float) -> Iterator[tuple[Image | None, str]]:
    """Yield pixels or error of each frame of a video file, nothing of a file that is no video."""
    try:
        reader = VideoReader(path, 0, max_megapixels)
    except (av.error.FFmpegError, OSError, ValueError):
        return
    try:
        for frame in reader:
            try:
                yield frame.decode(frame.raw), ""
            except ImageError as error:
                yield None, str(error)
    except av.error.FFmpegError as error:
        yield None, f"the file cannot be read further ({error.strerror}); copy it again"
    finally:
        reader.close()


def _raw_frame(frame: av.VideoFrame) -> RawFrame:
    """Return a frame that gives uint8 [H, W, 3], BGR, not rotated, when it is decoded."""
    pixels = lambda raw: frame.to_ndarray(format="bgr24", interpolation="BICUBIC")  # noqa: E731
    return RawFrame(_luma(frame), pixels, f"{frame.width}x{frame.height}", number=frame.pts)


def _damaged(damage: str) -> RawFrame:
    return damaged_frame(f"the frame is not whole: {damage}; {NOT_WHOLE}")


def _luma(frame: av.VideoFrame) -> Pixels:
    """Return the bytes of the frame's first plane, uint8 [H, bytes]: the brightness, or all channels where packed."""
    plane, layout = frame.planes[0], frame.format
    bits = layout.padded_bits_per_pixel if len(frame.planes) == 1 else 8 * -(-layout.components[0].bits // 8)
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width * bits // 8]  # what fills a line up belongs to no pixel
