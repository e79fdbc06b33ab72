"""The models of recipes that are in memory, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.models.active_model import ChosenModel, load_recipe

LoadRecipe = Callable[[LineOptions], ChosenModel]
PAGE_BYTES = 4096


@dataclass(frozen=True, eq=False)
class _Loaded:
    chosen: ChosenModel
    mb: float


class LoadedModels:
    """Models by the number of their recipe. The caller has the lock for all but `load`."""

    def __init__(self, budget_mb: float, load: LoadRecipe = load_recipe) -> None:
        self.budget_mb = budget_mb
        self._load = load
        self._models: dict[int, _Loaded] = {}
        """The one that was used longest ago is the first."""

    def __contains__(self, number: int) -> bool:
        return number in self._models

    def __getitem__(self, number: int) -> ChosenModel:
        return self._models[number].chosen

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the recipes whose models are loaded. For any thread."""
        return tuple(self._models)

    @property
    def is_too_large(self) -> bool:
        """Return whether the models need more than the budget."""
        return self._size_mb() > self.budget_mb

    def load(self, options: LineOptions) -> tuple[ChosenModel, float]:
        """Load and check a recipe's model, and return it with the MB that it needs. Raises StfpmError.

        These are how far the process grew meanwhile, and at least the size of the file. For one thread at a time.
        """
        before_mb = _resident_mb()
        chosen = self._load(options)
        return chosen, max(_resident_mb() - before_mb, _file_mb(chosen.model.path))

    def add(self, number: int, chosen: ChosenModel, mb: float = 0.0) -> None:
        """Keep a model, which counts as not used yet."""
        self._models = {number: _Loaded(chosen, mb or _file_mb(chosen.model.path)), **self._models}

    def use(self, number: int) -> None:
        """Count a model as the last one used."""
        self._models[number] = self._models.pop(number)

    def has_room(self, path: Path) -> bool:
        """Return whether the model of this file, not loaded yet, may fit beside the others."""
        return self._size_mb() + _file_mb(path) <= self.budget_mb

    def take_out(self, used: Collection[int]) -> list[tuple[int, ChosenModel]]:
        """Return models beyond the budget, the one used longest ago first, and keep them no more; never a used one."""
        taken = []
        for number in [number for number in self._models if number not in used]:
            if self.is_too_large:
                taken.append((number, self._models.pop(number).chosen))
        return taken

    def close(self) -> None:
        """Close all engines."""
        models, self._models = list(self._models.values()), {}
        for one in models:
            one.chosen.model.engine.close()

    def _size_mb(self) -> float:
        return sum(one.mb for one in self._models.values())


def _file_mb(path: Path) -> float:
    try:
        return path.stat().st_size / 1e6
    except OSError:  # loading it says what is wrong
        return 0.0


def _resident_mb() -> float:
    """Return the memory of this process in MB; 0 where the system does not tell it."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES / 1e6
    except OSError:
        return 0.0
