"""A connection to the registers of a PLC by Modbus TCP."""

from __future__ import annotations

from typing import Any

from stfpm_runtime.errors import MissingExtraError, UnavailableError
from stfpm_runtime.line.config.outputs import ModbusOptions

try:
    from pymodbus.client import ModbusTcpClient
    from pymodbus.exceptions import ModbusException
except ImportError:
    raise MissingExtraError("pymodbus", "modbus") from None


class ModbusClient:
    """Connects, calls, and raises UnavailableError where the PLC does not answer."""

    def __init__(self, options: ModbusOptions) -> None:
        """Store the address; `open` connects."""
        self.where = f"the PLC {options.host}"
        """What messages call it."""
        self._options = options
        self._client: Any = None  # pymodbus has no types

    def open(self) -> None:
        """Connect."""
        options = self._options
        self._client = ModbusTcpClient(options.host, port=options.port, timeout=options.timeout_s, retries=0)
        if not self._client.connect():
            raise UnavailableError(f"{self.where}:{options.port} cannot be reached")

    def call(self, function: str, address: int, **arguments: Any) -> Any:  # noqa: ANN401
        """Return the answer to a request of pymodbus' name `function`; it may be a refusal."""
        try:
            return getattr(self._client, function)(address, device_id=self._options.unit, **arguments)
        except (ModbusException, OSError) as error:
            raise UnavailableError(f"{self.where} does not answer ({error})") from None

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None
