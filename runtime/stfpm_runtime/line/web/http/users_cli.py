"""`stfpm-users users.json add Ada --role engineer`: who may do what on a line's dashboard and API."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stfpm_runtime.cli import run

from .users import ROLES, add_user, read_users, remove_user, write_users

COMMAND = "stfpm-users"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Manage the users of a line. Each role has the rights of those before it: view; operate (label "
        "parts, acknowledge faults); engineer (change thresholds, regions and models); administer.",
        epilog="example: stfpm-users users.json add Ada --role engineer",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="what the key users of the table [dashboard] names")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|add|remove")
    actions.add_parser("list", help="print names and roles")
    add = actions.add_parser("add", help="print a token for a person, once; an older one of the same name ends")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--role", choices=ROLES, default="operate", help="what the person may do (operate)")
    remove = actions.add_parser("remove", help="refuse a person's token from now on")
    remove.add_argument("name", metavar="NAME")
    return run(COMMAND, lambda: _act(parser.parse_args(argv)))


def _act(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    users = read_users(path) if arguments.action != "add" or path.exists() else []
    if arguments.action == "list":
        for user in users:
            print(f"{user.name}\t{user.role}\tsince {user.since}")
    elif arguments.action == "remove":
        write_users(path, remove_user(users, arguments.name))
    else:
        users, token = add_user(users, arguments.name, arguments.role)
        write_users(path, users)
        print(token)
        print(f"this is the token of {arguments.name}; it is not shown again", file=sys.stderr)
    return 0
