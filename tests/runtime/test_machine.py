from __future__ import annotations

import pytest

from stfpm_runtime import machine
from stfpm_runtime.engines.onnx_runtime import session_options


@pytest.mark.parametrize(
    ("architecture", "flags", "saturates"),
    [
        ("x86_64", "fpu sse4_2 avx2", True),
        ("x86_64", "fpu avx2 avx512f avx512_vnni", False),
        ("AMD64", "fpu avx2 avx_vnni", False),
        ("aarch64", "asimddp", False),
    ],
)
def test_exact_int8_sums_are_asked_for_where_the_fast_ones_saturate(
    tmp_path, monkeypatch, architecture, flags, saturates
):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.platform, "machine", lambda: architecture)
    machine.may_saturate_int8.cache_clear()
    try:
        assert machine.may_saturate_int8() == saturates
        if saturates:
            assert session_options().get_session_config_entry("session.x64quantprecision") == "1"
    finally:
        machine.may_saturate_int8.cache_clear()
