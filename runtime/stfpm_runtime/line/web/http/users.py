"""The file of users: names, roles and the hashes of their tokens. A token itself is shown once and stored nowhere."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from stfpm_runtime.errors import ConfigError, OptionError
from stfpm_runtime.files import atomic_path
from stfpm_runtime.line.journal.rows import utc

Role = Literal["view", "operate", "engineer", "administer"]
"""Each may do what the one before may. view: look at everything; operate: trigger, label parts and confirm faults;
engineer: change thresholds, regions and models; administer: everything."""
ROLES: tuple[Role, ...] = get_args(Role)
NAME = re.compile(r"[\w.,'@-][\w.,'@ -]{0,79}")


@dataclass(frozen=True)
class User:
    """Who sends a request."""

    name: str
    """The name that the journal records; empty for the one token of the configuration, whose bearer names himself."""
    role: Role
    token_sha256: str = ""
    since: str = ""
    """When the token was made, UTC."""

    def may(self, role: Role) -> bool:
        """Return whether the user may do what needs this role."""
        return ROLES.index(self.role) >= ROLES.index(role)


def read_users(path: Path) -> list[User]:
    """Return the users of a file. Raises ConfigError."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["users"]
        users = [User(**row) for row in rows]
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); make it with stfpm-users {path} add NAME"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: is no file of users; make a new one with stfpm-users {path} add NAME") from None
    for user in users:
        is_sound = NAME.fullmatch(user.name) and user.role in ROLES and re.fullmatch(r"[0-9a-f]{64}", user.token_sha256)
        if not is_sound:
            raise ConfigError(f"{path}: {user.name!r:.60} is no valid user; remove and add the user again")
    return users


def write_users(path: Path, users: list[User]) -> None:
    """Write the file, which the line reads anew at the next request. Raises OutputError."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(
            json.dumps({"users": [asdict(user) for user in users]}, indent=1) + "\n", encoding="utf-8"
        )


def add_user(users: list[User], name: str, role: Role) -> tuple[list[User], str]:
    """Return the users with one more, or with a new token and role for a known name, and the token.

    Raises OptionError for a name that the journal cannot hold.
    """
    if not NAME.fullmatch(name):
        raise OptionError(f"got the name {name!r:.60}; expected letters, digits, spaces and . , ' @ -, up to 80")
    token = secrets.token_urlsafe(24)
    others = [user for user in users if user.name != name]
    return [*others, User(name, role, hash_of(token), utc())], token


def remove_user(users: list[User], name: str) -> list[User]:
    """Return the users without this one, whose token is refused from the next request on. Raises OptionError."""
    if name not in [user.name for user in users]:
        raise OptionError(f"there is no user {name!r:.60}; expected one of {', '.join(user.name for user in users)}")
    return [user for user in users if user.name != name]


def hash_of(token: str) -> str:
    """Return the SHA-256 of a token: it has 192 random bits, so that no salt is needed."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
