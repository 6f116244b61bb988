"""MIGRATE: keys sent to another server as RESTORE, and deleted here once it has them.

    values -> DUMP payloads -> host.migrate (one connection, everything in one go) -> replies
    a key whose RESTORE was answered with OK is deleted; the others stay, whatever went wrong

The server waits for the other one, as Redis does: nothing else is served until it has answered or
its time is up. What is deleted propagates as one DEL.

Source: Redis 7.0 cluster.c (migrateCommand).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import REDACTED, integer
from kvrepl.config.notify import NOTIFY_GENERIC
from kvrepl.engine.spec import command
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp.values import OK, Reply, Status

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

NOT_EMPTY_WITH_KEYS: Final = CommandError(
    b"ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"
)
DEFAULT_TIMEOUT_MS: Final = 1000
"""What a timeout of zero or less means."""


@dataclass(slots=True)
class _Options:
    keys: list[bytes]
    copy: bool = False
    replace: bool = False
    auth: list[bytes] = field(default_factory=list)


def _migrate_keys(argv: list[bytes]) -> list[int]:
    """The one key, or where it is empty those after KEYS, which is looked for from the end."""
    if not argv[3]:
        for i in range(len(argv) - 1, 5, -1):
            if argv[i].upper() == b"KEYS":
                return list(range(i + 1, len(argv)))
    return [3]


@command(
    "migrate",
    -6,
    "write movablekeys",
    keys=["RW access delete @3", "RW access delete incomplete KEYS@-2..-1"],
    acl="keyspace dangerous",
    tips=["nondeterministic_output"],
    get_keys=_migrate_keys,
)
def migrate(c: Client, argv: list[bytes]) -> Reply:
    """Move keys to another server. O(elements), and the time until it has them.

    Propagates: the deletion of the keys that were moved.

    Raises:
        CommandError: IOERR where the other server could not be reached, or said nothing in time;
            what it refused otherwise. Keys that it has taken before are moved all the same.
    """
    options = _read_options(argv)
    timeout_ms = integer(argv[5])
    db_there = integer(argv[4])
    requests = _restores(c, options)
    if not requests:
        return Status(b"NOKEY")
    prelude = [options.auth] if options.auth else []
    prelude.append([b"SELECT", b"%d" % db_there])
    replies, lost = c.engine.host.migrate(
        (argv[1], argv[2]),
        timeout_ms if timeout_ms > 0 else DEFAULT_TIMEOUT_MS,
        [*prelude, *requests],
    )
    refused = next((reply for reply in replies if isinstance(reply, CommandError)), None)
    is_let_in = not any(isinstance(reply, CommandError) for reply in replies[: len(prelude)])
    if is_let_in and not options.copy:
        answered = zip(requests, replies[len(prelude) :], strict=False)
        _delete(c, [argv[1] for argv, reply in answered if not isinstance(reply, CommandError)])
    if refused is not None:
        raise CommandError(b"ERR Target instance replied with error: " + refused.text)
    if lost is not None:
        raise lost
    return OK


def _read_options(argv: list[bytes]) -> _Options:
    options = _Options([argv[3]])
    at = 6
    while at < len(argv):
        word, left = argv[at].upper(), len(argv) - at - 1
        if word == b"COPY":
            options.copy = True
        elif word == b"REPLACE":
            options.replace = True
        elif word == b"AUTH" and left >= 1:
            options.auth = [b"AUTH", argv[at + 1]]
            argv[at + 1] = REDACTED
            at += 1
        elif word == b"AUTH2" and left >= 2:
            options.auth = [b"AUTH", *argv[at + 1 : at + 3]]
            argv[at + 1 : at + 3] = [REDACTED, REDACTED]
            at += 2
        elif word == b"KEYS":
            if argv[3]:
                raise NOT_EMPTY_WITH_KEYS
            options.keys = argv[at + 1 :]
            break
        else:
            raise SYNTAX
        at += 1
    return options


def _restores(c: Client, options: _Options) -> list[list[bytes]]:
    """A RESTORE for each of the keys that is there."""
    dump = c.engine.commands["dump"].handler
    restores = []
    for key in options.keys:
        payload = dump(c, [b"DUMP", key])
        if payload is None:
            continue
        expires_at_ms = c.db.expires_at_ms(key)
        ttl_ms = 0 if expires_at_ms is None else max(1, expires_at_ms - c.engine.keyspace.now_ms)
        restores.append([b"RESTORE", key, b"%d" % ttl_ms, payload])
        if options.replace:
            restores[-1].append(b"REPLACE")
    return restores


def _delete(c: Client, keys: list[bytes]) -> None:
    if not keys:
        return
    for key in keys:
        c.db.delete(key)
        c.db.changed(key, NOTIFY_GENERIC, b"del")
    c.engine.propagation.instead([b"DEL", *keys])
