"""The values of the API about models and reviews; `fields` has the others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from stfpm_runtime.line.journal.models.states import Action

from .fields import PRINTABLE, Change, Count, Decision, Model, Reason, VerdictFields

Score = Annotated[float, Field(allow_inf_nan=False)]


class ModelInUse(BaseModel):
    """The model in use."""

    model: Model


class ModelResult(ModelInUse):
    """The model in use after an action, and what was done in words."""

    message: str


class AbilityVerdict(BaseModel):
    """What a model decides about a picture."""

    decision: Decision
    relative_score: float | None


class AbilityCase(BaseModel):
    """A picture that two models decide differently, or the new one wrongly."""

    picture: str
    must: Literal["reject", "pass"] | None
    new: AbilityVerdict
    old: AbilityVerdict | None = None


class AbilityFields(BaseModel):
    """What a model does on pictures with known answers, beside the model that was active at that time."""

    passes: bool
    failures: list[str]
    false_alarm_rate: float
    false_alarms_allowed: Count
    known_defects: Count
    escaped: Count
    still_passed: Count
    good: Count
    false_alarms: Count
    pictures: Count
    changed: list[AbilityCase]


class ShadowSums(BaseModel):
    """What a model has done as the shadow."""

    compared: Count
    disagreed: Count
    would_reject: Count
    left_out: Count


class ModelFileFields(BaseModel):
    """A model file next to the active one, its state, and what is known of it.

    The counts are those of the newest verdicts that it has made.
    """

    file: str
    sha256: str
    is_present: bool
    state: Literal["new", "candidate", "shadow", "approved", "active", "retired", "refused"]
    time: str
    who: str
    note: str
    ability: AbilityFields | None
    shadow: ShadowSums | None
    passed: Count
    rejected: Count
    faults: Count


class Models(ModelInUse):
    """The model in use, the names of the files that could replace it, and the state of each."""

    candidates: list[str]
    models: list[ModelFileFields]


class DefectsFound(BaseModel):
    """What the training found of synthetic defects of one kind and size, a share of the picture's short side.

    Of a model of an earlier version the scores are not known, and the size is a share of the picture's long side.
    """

    kind: str
    size: float
    found: Count
    drawn: Count
    relative_scores: list[Score]


class ModelCalibration(BaseModel):
    """Where a model's own threshold comes from: scores of good pictures held out, and of synthetic defects.

    All scores are relative to that threshold, and rise. `folds`: other students made those of the good pictures.
    """

    file: str
    sha256: str
    threshold: float | None
    threshold_set_by: str
    false_alarm_rate: float | None
    folds: Count
    held_out: list[Score]
    synthetic_defects: list[DefectsFound]
    too_hard: bool


class ReviewedVerdict(VerdictFields):
    """A verdict with the reason why it is worth a look."""

    why: str


class Review(BaseModel):
    """The parts that are most worth a look, and what the labels say so far, in words."""

    queue: list[ReviewedVerdict]
    confusion: list[str]


class ModelBody(Change):
    """What is done with a model."""

    action: Action = Field("activate", description="rollback takes no file")
    file: str = Field("", max_length=255, description="a file in the folder of the model in use")
    override: str = Field(
        "", max_length=200, pattern=PRINTABLE, description="why a model is used that the gate refuses; empty: it is not"
    )
    reason: Reason = ""
