"""A real RTSP server, killed, halted and started again."""

from __future__ import annotations

import signal
import time

from .conftest import wait_for


def test_server_killed_and_started_again(rtsp, start, events):
    server, port = rtsp()
    source = start(f"rtsp://127.0.0.1:{port}/line")
    assert source.next(10.0).image.shape == (240, 320, 3)
    server.kill()
    wait_for(lambda: "lost" in events.kinds())
    rtsp(port)
    assert wait_for(lambda: source.next(1.0)).image.shape == (240, 320, 3)
    wait_for(lambda: events.kinds() == ["opened", "lost", "regained"])


def test_server_that_hangs_is_lost_and_close_does_not_wait_for_it(rtsp, start, events):
    server, port = rtsp()
    source = start(f"rtsp://127.0.0.1:{port}/line")
    source.next(10.0)
    server.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: "lost" in events.kinds())
    assert "no frame for 1." in events[1].detail
    server.process.send_signal(signal.SIGCONT)
    wait_for(lambda: source.next(0.1))
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)  # now the fixture closes the source, and looks at the clock


def test_credentials_let_in_and_stay_unseen(rtsp, start, events):
    _, port = rtsp(0, "viewer", "secret")
    assert start(f"rtsp://viewer:secret@127.0.0.1:{port}/line").next(10.0).source == f"rtsp://127.0.0.1:{port}/line"
    refused = start(f"rtsp://viewer:wrong@127.0.0.1:{port}/line", name="other")
    wait_for(lambda: "lost" in events.kinds())
    assert refused.next(0.1) is None
    assert not any(word in str(list(events)) for word in ("viewer", "secret", "wrong"))


def test_slow_reader_of_rtsp_gets_fresh_frames(rtsp, start):
    _, port = rtsp()
    source = start(f"rtsp://127.0.0.1:{port}/line")
    source.next(10.0)
    ages_ms = []
    for _ in range(8):
        time.sleep(0.3)
        ages_ms.append((time.monotonic_ns() - source.next(5.0).arrived_ns) / 1e6)
    assert sorted(ages_ms)[4] < 1000 / 30 + 15
    assert max(ages_ms) < 250
