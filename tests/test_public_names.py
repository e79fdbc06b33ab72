"""The names that the packages promise; those of stfpm_runtime are in tests/runtime/test_public_names.py."""

from __future__ import annotations

import pytest

import stfpm_edge
import stfpm_export

EDGE = {
    "Checkpoint", "Pyramid", "Stfpm", "TorchEngine", "TrainOptions", "load_checkpoint", "load_teacher",
    "save_checkpoint", "train_student",
}  # fmt: skip
EXPORT = {"AnomalibOptions", "ExportOptions", "ParityReport", "export_checkpoint", "read_anomalib"}


@pytest.mark.parametrize(("package", "names"), [(stfpm_edge, EDGE), (stfpm_export, EXPORT)])
def test_public_names(package, names):
    assert set(package.__all__) == names
    assert all(getattr(package, name).__module__.startswith(package.__name__) for name in names)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="export_nothing"):
        stfpm_export.export_nothing  # noqa: B018
