from __future__ import annotations

import pytest

from stfpm_runtime import machine
from stfpm_runtime.engines.onnx_runtime import session_options


@pytest.mark.parametrize(
    ("architecture", "flags", "saturates", "has_bfloat16"),
    [
        ("x86_64", "fpu sse4_2 avx2", True, False),
        ("x86_64", "fpu avx2 avx512f avx512_vnni", False, False),
        ("x86_64", "fpu avx2 avx512_vnni amx_tile amx_bf16", False, True),
        ("AMD64", "fpu avx2 avx_vnni avx512_bf16", False, True),
        ("aarch64", "asimddp bf16", False, False),
    ],
)
def test_the_instruction_sets_decide_about_int8_sums_and_bfloat16(
    tmp_path, monkeypatch, make_spec, architecture, flags, saturates, has_bfloat16
):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.platform, "machine", lambda: architecture)
    machine.may_saturate_int8.cache_clear()
    machine.computes_bfloat16.cache_clear()
    try:
        assert machine.may_saturate_int8() == saturates
        assert machine.computes_bfloat16() == has_bfloat16
        if saturates:
            exact = session_options(make_spec(precision="int8"))
            assert exact.get_session_config_entry("session.x64quantprecision") == "1"
        for fast in (make_spec(precision="fp32"), make_spec(precision="int8", pairs_fit_int16=True)):
            with pytest.raises(RuntimeError):
                session_options(fast).get_session_config_entry("session.x64quantprecision")
    finally:
        machine.may_saturate_int8.cache_clear()
        machine.computes_bfloat16.cache_clear()
