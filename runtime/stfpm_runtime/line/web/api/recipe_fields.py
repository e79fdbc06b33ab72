"""The values of the API about recipes; `fields` has the others."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from stfpm_runtime.line.config.recipe import LARGEST_ID

from .fields import Change, RecipeState, whole_number


class RecipeFields(BaseModel):
    """A recipe of the configuration."""

    id: int
    name: str
    model: str
    loaded: bool
    """True where its model is in memory: a request for the recipe then makes it active within milliseconds."""
    problem: str
    """Why its model may not be used, as far as that was tried."""


class RecipeList(RecipeState):
    """The state, and all recipes."""

    recipes: list[RecipeFields]


class RecipeBody(Change):
    """A request for a recipe; 0 withdraws the one that is active."""

    id: Annotated[int, Field(ge=0, le=LARGEST_ID), BeforeValidator(whole_number)]
