"""Several products on one line: which recipe judges, and who can ask for another one."""

from __future__ import annotations

from collections.abc import Iterator

from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.rows import LogEvent

from .link import RecipeLink
from .recipes import Recipes


def open_recipe_listeners(options: LineOptions, recipes: Recipes, log_event: LogEvent) -> Iterator[RecipeLink]:
    """Yield what receives requests for recipes from brokers and PLCs, not started.

    Raises StfpmError for a package that is not installed.
    """
    if options.mqtt and options.mqtt.recipes:
        from .mqtt import MqttRecipes

        yield MqttRecipes(options.mqtt, recipes, log_event)
    for plc in options.modbus:
        if plc.recipe_address is not None:
            from .modbus import ModbusRecipes

            yield ModbusRecipes(plc, plc.recipe_address, recipes, log_event)
    if options.recipe_server:
        from .opcua import OpcUaRecipes

        yield OpcUaRecipes(options.recipe_server, recipes, log_event)
