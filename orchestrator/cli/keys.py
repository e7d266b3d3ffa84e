"""``livemind keys add | list | remove``: the file of API keys, which holds their hashes."""

from __future__ import annotations

import argparse
import json
import os
import secrets
from pathlib import Path
from typing import Any

from ..config.keys import ALL_SCOPES, ApiKey, KeyFile, digest_of, read_key_file
from ..config.problems import problem_lines
from .errors import CommandError


def add(options: argparse.Namespace) -> int:
    """Make a key, store its hash and print the key, which is shown this once."""
    from pydantic import ValidationError

    path: Path = options.file
    keys = read_key_file(path) if path.exists() else ()
    if any(key.name == options.name for key in keys):
        raise CommandError(f"{path}: there is a key {options.name!r} already")
    secret = f"lm-{secrets.token_urlsafe(32)}"
    given = {
        "name": options.name,
        "sha256": digest_of(secret),
        "scopes": options.scope or ALL_SCOPES,
        "max_sessions": options.max_sessions,
        "max_turns": options.max_turns,
        "tokens_per_minute": options.tokens_per_minute,
        "speculated_tokens_per_minute": options.speculated_tokens_per_minute,
        "expires": options.expires,
    }
    try:
        key = ApiKey.model_validate(given)
    except ValidationError as error:
        raise CommandError("; ".join(problem_lines(error, ApiKey)), 2) from None
    _write(path, (*keys, key))
    print(secret)
    return 0


def show(options: argparse.Namespace) -> int:
    """Print the keys' names and what they may do."""
    from rich.console import Console
    from rich.table import Table

    heads = ("sessions", "turns", "tokens/min", "speculated/min")
    table = Table("name", "scopes", *heads, "expires", box=None)
    for key in read_key_file(options.file):
        expires = "never" if key.expires is None else key.expires.isoformat()
        given = (
            key.max_sessions,
            key.max_turns,
            key.tokens_per_minute,
            key.speculated_tokens_per_minute,
        )
        limits = ("-" if number is None else str(number) for number in given)
        table.add_row(key.name, " ".join(key.scopes), *limits, expires)
    Console().print(table)
    return 0


def remove(options: argparse.Namespace) -> int:
    """Take a key out of the file."""
    keys = read_key_file(options.file)
    left = tuple(key for key in keys if key.name != options.name)
    if len(left) == len(keys):
        raise CommandError(f"{options.file}: no key is called {options.name!r}")
    _write(options.file, left)
    return 0


def _write(path: Path, keys: tuple[ApiKey, ...]) -> None:
    """Put the file in place as a whole, for this user alone to read."""
    text = json.dumps(KeyFile(keys=keys).model_dump(mode="json", exclude_none=True), indent=2)
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as exc:
        raise CommandError(f"{path}: {exc.strerror or type(exc).__name__}") from None


def add_arguments(commands: Any) -> None:
    """Declare the arguments of all actions."""
    keys = commands.add_parser(
        "keys",
        help="API keys: add, list, remove",
        description="Keep the file that server.api_keys_file names. It holds no key, only hashes; "
        "a running server reads it again at SIGHUP.",
        epilog="examples:\n  livemind keys add alice --file keys.json --scope ask\n"
        "  livemind keys list --file keys.json",
    )
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_ = actions.add_parser(
        "add",
        help="make a key",
        description="Make a key, store its hash and print the key, this once.",
        epilog="example:\n  livemind keys add alice --file keys.json --max-turns 8 "
        "--expires 2027-01-31",
    )
    add_.add_argument(
        "--scope",
        action="append",
        choices=ALL_SCOPES,
        help="what it may do, again for more (default: all)",
    )
    add_.add_argument("--max-sessions", type=int, metavar="N", help="live sessions at a time")
    add_.add_argument("--max-turns", type=int, metavar="N", help="answers in progress")
    add_.add_argument("--tokens-per-minute", type=int, metavar="N", help="of prompts and answers")
    add_.add_argument(
        "--speculated-tokens-per-minute",
        type=int,
        metavar="N",
        help="computed before they are asked for",
    )
    add_.add_argument("--expires", metavar="TIME", help="ISO 8601, UTC unless it says otherwise")
    list_ = actions.add_parser(
        "list",
        help="list the keys by name",
        description="List names, scopes, limits and expiry.",
        epilog="example:\n  livemind keys list --file keys.json",
    )
    remove_ = actions.add_parser(
        "remove",
        help="remove a key",
        description="Remove a key; send SIGHUP to the server, which then ends its sessions.",
        epilog="example:\n  livemind keys remove alice --file keys.json",
    )
    for parser in (add_, remove_):
        parser.add_argument("name", metavar="NAME")
    for parser, function in ((add_, "add"), (list_, "show"), (remove_, "remove")):
        parser.add_argument("--file", type=Path, required=True, help="the file")
        parser.set_defaults(module="keys", function=function)
