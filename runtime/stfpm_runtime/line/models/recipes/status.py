"""What became of a request for a recipe.

none       no recipe was asked for since the start, or it was withdrawn; every part is a fault
requested  accepted; its model is not loaded
loading    its model is loaded and checked
ready      its model is loaded; the loop uses it before the next frame
active     parts are judged by it
refused    there is no such recipe, or its model may not be used; every part is a fault
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["none", "requested", "loading", "ready", "active", "refused"]
STATES: tuple[State, ...] = ("none", "requested", "loading", "ready", "active", "refused")
BUSY: tuple[State, ...] = ("requested", "loading", "ready")
ACCEPTED, UNKNOWN, IS_BUSY, UNUSABLE = range(4)
"""Why a request is refused, as a PLC reads it: it is not; there is no such recipe; another one is being loaded; its
model may not be used."""


@dataclass(frozen=True)
class RecipeStatus:
    """The newest request, and what became of it."""

    state: State
    requested: int = 0
    """The number of the recipe that was asked for last; 0: none."""
    active: int = 0
    """The number of the recipe that judges; 0: none, every part is a fault."""
    code: int = ACCEPTED
    """Why the request was refused, see `ACCEPTED`."""
    reason: str = ""
    """Why every part is a fault; empty while a recipe is active."""
    who: str = ""
    """The name of the person or PLC that asked for the recipe, and by which connection: `Ada by HTTP`."""


@dataclass(frozen=True)
class RecipeAnswer:
    """What is said to a request at once."""

    code: int = ACCEPTED
    """See `ACCEPTED`."""
    reason: str = ""
    """Why it is refused; empty where it is not."""
