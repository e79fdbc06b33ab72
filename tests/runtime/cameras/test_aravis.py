"""A real GigE Vision camera: Aravis's own, on loopback."""

from __future__ import annotations

import ctypes

import pytest

from stfpm_runtime.errors import OptionError
from stfpm_runtime.sources import aravis

from .conftest import wait_for


def test_camera_killed_and_started_again(gige, start, events):
    source = start("aravis:127.0.0.1", silent_after_s=0)  # 0: it is the camera's control that is seen to be lost
    frames = [source.next(10.0) for _ in range(5)]
    assert [frame.image.shape for frame in frames] == [(512, 512, 3)] * 5
    assert frames[0].image.std() > 10
    gige.kill()
    wait_for(lambda: "lost" in events.kinds())
    assert "does not answer" in events[1].detail
    while source.next(0.1):
        pass
    gige.run()
    assert source.next(20.0).image.shape == (512, 512, 3)
    wait_for(lambda: events.kinds() == ["opened", "lost", "regained"])


def test_silent_camera_is_lost_by_the_watchdog(gige, start, events):
    source = start("aravis:127.0.0.1")
    source.next(10.0)
    gige.kill()
    wait_for(lambda: "lost" in events.kinds())
    assert "no frame for" in events[1].detail


@pytest.mark.parametrize("name", ["Mono8", "Mono16", "BayerRG8", "RGB8"])
def test_pixel_formats_and_features(gige, start, events, name):
    source = start("aravis:127.0.0.1", features=f"PixelFormat={name} Width=128 Height=64")
    frame = source.next(10.0)
    assert (frame.error, frame.image.shape) == ("", (64, 128, 3))
    assert frame.image.std() > 10
    wait_for(lambda: events)
    assert events[0].detail == "128x64"


def test_feature_that_it_does_not_have_is_named(gige, start, events):
    start("aravis:127.0.0.1", features="Nonsense=3")
    wait_for(lambda: events)
    assert events[0].kind == "lost"
    assert "Nonsense" in events[0].detail


def test_camera_that_is_not_there_is_waited_for(gige, start, events):
    start("aravis:no-such-camera")
    wait_for(lambda: events)
    assert "cannot be opened" in events[0].detail


def test_missing_library_is_one_line(start, monkeypatch):
    monkeypatch.setattr(aravis, "LIBRARY", "libaravis-9.9.so.9")
    with pytest.raises(OptionError, match=r"aravis:cam: needs .* apt install libaravis-0\.8-0"):
        start("aravis:cam")


def test_states_of_a_buffer_are_those_of_the_library():
    """A frame that is not complete must not count as one that never came: the numbers differ between versions."""

    class Value(ctypes.Structure):
        _fields_ = (("value", ctypes.c_int), ("name", ctypes.c_char_p), ("nick", ctypes.c_char_p))

    class Class(ctypes.Structure):
        _fields_ = (
            ("type", ctypes.c_size_t), ("minimum", ctypes.c_int), ("maximum", ctypes.c_int), ("count", ctypes.c_uint),
            ("values", ctypes.POINTER(Value)),
        )  # fmt: skip

    try:
        library, gobject = ctypes.CDLL(aravis.LIBRARY), ctypes.CDLL("libgobject-2.0.so.0")
    except OSError:
        pytest.skip("needs libaravis-0.8-0")
    library.arv_buffer_status_get_type.restype = ctypes.c_size_t
    gobject.g_type_class_ref.restype, gobject.g_type_class_ref.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    pointer = gobject.g_type_class_ref(library.arv_buffer_status_get_type())
    states = ctypes.cast(pointer, ctypes.POINTER(Class)).contents
    names = {states.values[n].value: states.values[n].name.decode() for n in range(states.count)}
    of_no_frame = {aravis._UNKNOWN, aravis._SUCCESS, aravis._CLEARED, aravis._ABORTED}
    ends = {names[number].removeprefix("ARV_BUFFER_STATUS_") for number in of_no_frame}
    assert ends == {"UNKNOWN", "SUCCESS", "CLEARED", "ABORTED"}
    assert names.keys() - of_no_frame <= aravis._STATUS.keys()
    assert "MISSING_PACKETS" in names[3]
    assert aravis._STATUS[3] == "packets are missing"
