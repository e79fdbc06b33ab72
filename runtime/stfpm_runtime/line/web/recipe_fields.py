"""The values of the API about recipes; `fields` has the others."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from stfpm_runtime.line.config.recipe import LARGEST_ID
from stfpm_runtime.line.models.recipes.recipes import Recipes

from .fields import WHO, RecipeState, whole_number


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


class RecipeBody(BaseModel):
    """A request for a recipe; 0 withdraws the one that is active."""

    model_config = ConfigDict(extra="forbid", strict=True)
    id: Annotated[int, Field(ge=0, le=LARGEST_ID), BeforeValidator(whole_number)]
    who: str = Field(min_length=1, max_length=80, pattern=WHO, description="the name that the journal records")


def recipe_state(recipes: Recipes) -> dict[str, Any] | None:
    """Return the fields of `RecipeState`; None on a line without recipes."""
    if not recipes.exist:
        return None
    status = recipes.status
    found = recipes.options.get(status.requested)
    return {**dataclasses.asdict(status), "name": found[0].name if found else ""}


def recipe_list(recipes: Recipes) -> dict[str, Any]:
    """Return the fields of `RecipeList`."""
    rows = [
        {"id": number, "name": recipe.name, "model": recipe.model.name, "loaded": number in recipes.loaded,
         "problem": recipes.problems.get(number, "")}
        for number, (recipe, _) in recipes.options.items()
    ]  # fmt: skip
    return {**dataclasses.asdict(recipes.status), "name": "", **(recipe_state(recipes) or {}), "recipes": rows}
