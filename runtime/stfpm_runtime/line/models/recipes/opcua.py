"""An OPC UA server with the method SelectRecipe, for PLCs and SCADA systems that are its clients.

ns=2;s=Line.SelectRecipe      method: UInt16 -> UInt16 (0: accepted, else why not, see `status.py`), String (why)
ns=2;s=Line.RequestedRecipe   UInt16: the recipe that was asked for last
ns=2;s=Line.RecipeState       String: none, requested, loading, ready, active, refused
ns=2;s=Line.ActiveRecipe      UInt16: the active recipe; 0: none, and every part is a fault
ns=2;s=Line.RecipeReason      String: why every part is a fault
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from stfpm_runtime.errors import MissingExtraError, UnavailableError
from stfpm_runtime.line.config.server import RecipeServerOptions
from stfpm_runtime.line.journal.rows import LogEvent

from .link import RecipeLink
from .recipes import Recipes

try:
    from asyncua import ua
    from asyncua.common.methods import uamethod
    from asyncua.server.server import Server
    from asyncua.server.user_managers import User, UserManager, UserRole  # type: ignore[attr-defined]
except ImportError:
    raise MissingExtraError("asyncua", "opcua") from None

NAME = "opcua"
NAMESPACE = "urn:stfpm-edge"
POLL_S = 0.02
Kind = ua.VariantType


class _OneUser(UserManager):
    """Lets one user in, by his password, or everybody where there is none."""

    def __init__(self, options: RecipeServerOptions) -> None:
        self._expected = options.user, options.password

    def get_user(
        self, iserver: object, username: str | None = None, password: str | None = None, certificate: object = None
    ) -> User | None:
        """Return who it is; None refuses him."""
        is_known = self._expected == ("", "") or (username, password) == self._expected
        return User(role=UserRole.User, name=username or NAME) if is_known else None


class OpcUaRecipes(RecipeLink):
    """Serves OPC UA clients, in an event loop of its own thread."""

    def __init__(self, options: RecipeServerOptions, recipes: Recipes, log_event: LogEvent) -> None:
        """Store where it listens."""
        super().__init__(NAME, recipes, log_event)
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Any = None
        self._nodes: dict[str, Any] = {}
        self._version = -1
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it logs each client's failure at length

    def open(self) -> None:
        """Listen."""
        self._loop = asyncio.new_event_loop()
        self._version = -1
        try:
            self._loop.run_until_complete(self._open())
        except OSError as error:
            raise UnavailableError(f"{self._options.listen}: cannot listen there ({error.strerror})") from None

    def serve(self) -> None:
        """Answer clients, and write the status where it has changed."""
        assert self._loop is not None, "opened"
        self._loop.run_until_complete(self._serve())

    def close(self) -> None:
        """Stop listening."""
        loop, self._loop = self._loop, None
        server, self._server = self._server, None
        if loop is None:
            return
        try:
            if server is not None:
                loop.run_until_complete(server.stop())
        finally:
            loop.close()

    async def _open(self) -> None:
        server = Server(user_manager=_OneUser(self._options))
        await server.init()
        server.set_endpoint(f"opc.tcp://{self._options.listen}/")
        server.set_server_name("stfpm-inspect")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        if self._options.user:
            server.set_identity_tokens([ua.UserNameIdentityToken])
        index = await server.register_namespace(NAMESPACE)

        def names(text: str) -> tuple[ua.NodeId, str]:
            return ua.NodeId.from_string(f"ns={index};s={text}"), f"{index}:{text.rpartition('.')[2]}"

        line = await server.nodes.objects.add_object(*names("Line"))
        kinds = {"RequestedRecipe": Kind.UInt16, "RecipeState": Kind.String, "ActiveRecipe": Kind.UInt16,
                 "RecipeReason": Kind.String}  # fmt: skip
        for name, kind in kinds.items():
            start = ua.Variant("" if kind is Kind.String else 0, kind)
            self._nodes[name] = await line.add_variable(*names(f"Line.{name}"), start)
        arguments = [Kind.UInt16], [Kind.UInt16, Kind.String]
        await line.add_method(*names("Line.SelectRecipe"), self._select, *arguments)
        await server.start()
        self._server = server

    @uamethod
    def _select(self, parent: object, number: object) -> tuple[ua.Variant, ua.Variant]:
        answer = self.recipes.request(number if type(number) is int else None, self._options.user or NAME, "OPC UA")
        return ua.Variant(answer.code, Kind.UInt16), ua.Variant(answer.reason, Kind.String)

    async def _serve(self) -> None:
        await asyncio.sleep(POLL_S)
        if self.recipes.version == self._version:
            return
        self._version, status = self.recipes.version, self.recipes.status
        values = {"RequestedRecipe": status.requested, "ActiveRecipe": status.active, "RecipeReason": status.reason,
                  "RecipeState": status.state}  # fmt: skip
        for name, value in values.items():
            await self._nodes[name].write_value(
                ua.Variant(value, Kind.String if isinstance(value, str) else Kind.UInt16)
            )
