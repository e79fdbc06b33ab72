"""The recipes of a line as the API gives them."""

from __future__ import annotations

import dataclasses
from typing import Any

from stfpm_runtime.line.models.recipes.recipes import Recipes


def recipe_state(recipes: Recipes) -> dict[str, Any] | None:
    """Return the fields of `RecipeState`; None on a line without recipes."""
    if not recipes.has_recipes:
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
