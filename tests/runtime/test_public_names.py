"""The names that `import stfpm_runtime` promises."""

from __future__ import annotations

import stfpm_runtime


def test_public_names():
    names = {
        "Detector", "Engine", "Spec", "StfpmError", "Timings", "Verdict", "open_engine", "preprocess", "read_image",
    }  # fmt: skip
    assert set(stfpm_runtime.__all__) == names
    assert all(hasattr(stfpm_runtime, name) for name in names)
