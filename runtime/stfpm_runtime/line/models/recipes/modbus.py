"""A PLC asks for recipes by six of its holding registers, which the line reads 20 times a second.

    offset  written by  contents
    0       PLC         number of the request: another one than in register 2 is a new request
    1       PLC         the recipe that is asked for; 0: none
    2       line        number of the request that was answered
    3       line        state: 0 none, 1 requested, 2 loading, 3 ready, 4 active, 5 refused
    4       line        the active recipe; 0: none, and every part is a fault
    5       line        why the request was refused: 0 it was not, 1 no such recipe, 2 another one is being loaded,
                        3 its model may not be used

The PLC writes registers 0 and 1 in one request, waits until register 2 is its number and register 3 is 4, and only then
lets parts of the new product come. The line writes 2 to 5 in one request, also after the PLC has lost them.
"""

from __future__ import annotations

from typing import Any

from stfpm_runtime.errors import UnavailableError
from stfpm_runtime.line.clients.modbus import ModbusClient
from stfpm_runtime.line.config.outputs import RECIPE_REGISTERS, ModbusOptions
from stfpm_runtime.line.journal.rows import LogEvent

from .link import RecipeLink
from .recipes import Recipes
from .status import STATES

POLL_S = 0.05
ANSWERED = 2
"""The offset of the registers that the line writes."""


class ModbusRecipes(RecipeLink):
    """Serves one PLC, over a connection of its own."""

    def __init__(self, options: ModbusOptions, address: int, recipes: Recipes, log_event: LogEvent) -> None:
        """Store where the registers are."""
        super().__init__(options.name, recipes, log_event)
        self._address = address
        self._client = ModbusClient(options)
        self._where = self._client.where
        self._version = 0
        self._code = 0
        """What was said to the PLC's last request at once."""

    def open(self) -> None:
        """Connect."""
        self._client.open()

    def serve(self) -> None:
        """Read the registers, pass a new request on, and write what has changed."""
        answer = self._call("read_holding_registers", self._address, count=RECIPE_REGISTERS)
        if len(answer.registers) != RECIPE_REGISTERS:
            raise UnavailableError(f"{self._where} answers with {len(answer.registers)} registers; expected 6")
        number, recipe, *shown = answer.registers
        if number != shown[0]:
            self._code = self.recipes.request(recipe, self.name, "Modbus").code
        status = self.recipes.status
        current = [number, STATES.index(status.state), status.active, self._code or status.code]
        if current != shown:
            self._call("write_registers", self._address + ANSWERED, values=current)
        self._version = self.recipes.wait_for_change(self._version, POLL_S)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _call(self, function: str, address: int, **arguments: Any) -> Any:  # noqa: ANN401
        answer = self._client.call(function, address, **arguments)
        if answer.isError():
            last = self._address + RECIPE_REGISTERS - 1
            raise UnavailableError(f"{self._where} refuses the registers {self._address} to {last}: {answer}")
        return answer
