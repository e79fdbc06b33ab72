"""The artifact's contract, there and back, and what is refused of it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from stfpm_runtime.artifact.spec import SCHEMA, Spec
from stfpm_runtime.errors import ArtifactError


@pytest.fixture
def text(make_spec) -> str:
    return make_spec().to_json()


def damaged(text: str, **changes: object) -> str:
    return json.dumps({**json.loads(text), **changes})


def test_round_trip_keeps_everything(make_spec):
    spec = make_spec(
        threshold=0.1 + 0.2, held_out_scores=(0.1, 1e-9, 3), threshold_set_by="conformal", false_alarm_rate=0.01,
        channel_order="RGB", training={"epochs": 3, "losses": [1.5, 0.5]}, parity={"map": {"max": 2e-7}}, name="Gerät",
    )  # fmt: skip
    assert Spec.from_json(spec.to_json(), "model.onnx") == spec


NEW_IN_SCHEMA_4 = ("pairs_fit_int16",)
NEW_IN_SCHEMA_3 = ("recipe", "blur", "top_share", "score_scale", "min_area", "folds")


def test_keys_of_schema_4_are_these(text):
    assert sorted(json.loads(text)) == sorted(
        ["schema", "name", "height", "width", "backbone", "blocks", "teacher", "teacher_sha256", "channel_order",
         "bits", "resize", "precision", "target", "batch", "threshold", "threshold_set_by", "false_alarm_rate",
         "held_out_scores", "training", "parity", *NEW_IN_SCHEMA_3, *NEW_IN_SCHEMA_4]
    )  # fmt: skip
    assert json.loads(text)["schema"] == SCHEMA == 4


def test_files_of_schema_1_stay_readable(text):
    older = json.loads(text) | {"schema": 1}
    for key in ("bits", *NEW_IN_SCHEMA_3, *NEW_IN_SCHEMA_4):
        del older[key]
    assert Spec.from_json(json.dumps(older), "m.onnx").bits is None


def test_files_of_schema_2_have_the_papers_head(text):
    older = json.loads(text) | {"schema": 2}
    for key in (*NEW_IN_SCHEMA_3, *NEW_IN_SCHEMA_4):
        del older[key]
    spec = Spec.from_json(json.dumps(older), "m.onnx")
    assert (spec.recipe, spec.blur, spec.top_share, spec.score_scale, spec.min_area) == ("paper", 0.0, None, 1.0, 1)


@pytest.mark.parametrize("bits", [8, 17, 12.0, True, "12"])
def test_bits_out_of_range_are_refused(text, bits):
    with pytest.raises(ArtifactError, match=f"bits is {bits!r}, expected 9 to 16, or null"):
        Spec.from_json(damaged(text, bits=bits), "m.onnx")


def test_optional_keys_may_be_missing(text):
    required = {"schema", "name", "height", "width", "backbone", "blocks", "teacher", "teacher_sha256"}
    spec = Spec.from_json(json.dumps({key: json.loads(text)[key] for key in required}), "model.onnx")
    assert (spec.threshold, spec.channel_order, spec.precision) == (None, "BGR", "fp32")


def test_input_shape_is_height_width_channels(make_spec):
    assert make_spec(height=24, width=32).input_shape == (24, 32, 3)


def test_newer_schema_is_refused_by_name(text):
    with pytest.raises(ArtifactError, match=r"m.onnx: its metadata has schema 5, this stfpm-edge reads up to 4; upgra"):
        Spec.from_json(damaged(text, schema=5, something_new=1), "m.onnx")


@pytest.mark.parametrize("schema", [None, "1", 1.5, True])
def test_schema_that_is_none_is_refused(text, schema):
    with pytest.raises(ArtifactError, match="names no schema version; export the model again"):
        Spec.from_json(damaged(text, schema=schema), "m.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.onnx: its metadata is not JSON"),
        ('{"schema": 1', "m.onnx: its metadata is not JSON"),
        ("[1]", "m.onnx: its metadata names no schema version"),
        ('{"schema": 1}', "m.onnx: its metadata is damaged .*missing"),
    ],
)
def test_what_is_no_spec_is_refused(text, message):
    with pytest.raises(ArtifactError, match=message):
        Spec.from_json(text, "m.onnx")


def test_unknown_keys_are_refused_by_name(text):
    with pytest.raises(ArtifactError, match=r"has unknown keys \['colour', 'zoom'\]; export the model again"):
        Spec.from_json(damaged(text, zoom=1, colour="red"), "m.onnx")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 5),
        ("height", 0),
        ("width", -16),
        ("height", 8.0),
        ("width", True),
        ("blocks", []),
        ("blocks", [2, 2]),
        ("blocks", [3, 2]),
        ("blocks", [1, 2]),
        ("blocks", 3),
        ("channel_order", "GBR"),
        ("channel_order", ["BGR"]),
        ("resize", None),
        ("pairs_fit_int16", 1),
        ("threshold", "high"),
        ("threshold", True),
        ("threshold", float("nan")),
        ("threshold", float("inf")),
        ("held_out_scores", 0.5),
        ("held_out_scores", [0.5, None]),
        ("held_out_scores", [float("nan")]),
        ("training", None),
        ("parity", [1]),
    ],
)
def test_damaged_value_is_refused_with_its_key(text, key, value):
    with pytest.raises(ArtifactError, match=f"m.onnx: its metadata is damaged .{key} is .*expected .*export the model"):
        Spec.from_json(damaged(text, **{key: value}), "m.onnx")


def test_nan_cannot_be_made_or_written(make_spec):
    with pytest.raises(ValueError, match="threshold is nan, expected a finite number or null"):
        make_spec(threshold=float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_spec(parity={"map": float("nan")}).to_json()


def test_spec_is_frozen(make_spec):
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_spec().threshold = 1.0
