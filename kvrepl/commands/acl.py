"""ACL: users, what they may do, and what was denied to them.

The model is `kvrepl.engine.acl`; the ACL file is read and written by the host. Whatever may hold a
password is taken out of the request before the slow log can see it; MONITOR shows no ACL command.

Source: Redis 7.0 acl.c (aclCommand).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kvrepl.commands.arguments import REDACTED, integer
from kvrepl.config.text import to_bytes
from kvrepl.engine.acl.access import DEFAULT
from kvrepl.engine.acl.judge import COMMAND, KEY, judge
from kvrepl.engine.acl.log import Entry
from kvrepl.engine.acl.selector import RuleError, Selector, has_spaces
from kvrepl.engine.acl.user import merged
from kvrepl.engine.acl.userfile import UserFileError
from kvrepl.engine.introspection import ACL_CATEGORIES, help_lines, walk, wrong_subcommand
from kvrepl.engine.spec import command, container
from kvrepl.errors import CommandError, StorageError
from kvrepl.resp.values import OK, Reply, SetReply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

BAD_NAME: Final = CommandError(b"ERR Usernames can't contain spaces or null characters")
KEEP_DEFAULT: Final = CommandError(b"ERR The 'default' user cannot be removed")
NO_FILE: Final = CommandError(
    b"ERR This Redis instance is not configured to use an ACL file. You may want to specify users"
    b" via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis"
    b" configuration file set) in order to store users in the Redis configuration."
)
NOT_SAVED: Final = CommandError(
    b"ERR There was an error trying to save the ACLs. Please check the server logs for more"
    b" information"
)

GENPASS_BITS: Final = 256
GENPASS_MAX_BITS: Final = 4096
GENPASS_RANGE: Final = CommandError(
    b"ERR ACL GENPASS argument must be the number of bits for the output password, a positive"
    b" number up to %d" % GENPASS_MAX_BITS
)

LOG_COUNT: Final = 10
CATEGORY_SHOWN_BYTES: Final = 128

container("acl", summary="A container for Access List Control commands")


# ------------------------------------------------------------------------ users


@command("acl|whoami", 2, "noscript loading stale")
def acl_whoami(c: Client, argv: list[bytes]) -> Reply:
    """Get the name of the user of the current connection. O(1)."""
    return None if c.user is None else c.user.name


@command("acl|users", 2, "admin noscript loading stale")
def acl_users(c: Client, argv: list[bytes]) -> Reply:
    """List the names of the users. O(users)."""
    return sorted(c.engine.acl.users)


@command("acl|list", 2, "admin noscript loading stale")
def acl_list(c: Client, argv: list[bytes]) -> Reply:
    """List the users as a configuration declares them. O(users * commands)."""
    return c.engine.acl.lines()


@command("acl|getuser", 3, "admin noscript loading stale")
def acl_getuser(c: Client, argv: list[bytes]) -> Reply:
    """Get the rules of a user. O(commands)."""
    user = c.engine.acl.users.get(argv[2])
    if user is None:
        return None
    return {
        b"flags": SetReply(user.flags()),
        b"passwords": list(user.passwords),
        **_described(user.root),
        b"selectors": [_described(selector) for selector in user.selectors[1:]],
    }


def _described(selector: Selector) -> dict[bytes, Any]:
    return {
        b"commands": selector.describe_commands(),
        b"keys": selector.describe_keys(),
        b"channels": selector.describe_channels(),
    }


@command("acl|setuser", -3, "admin noscript loading stale")
def acl_setuser(c: Client, argv: list[bytes]) -> Reply:
    """Make or change a user by rules; all of them are followed, or none. O(rules * commands)."""
    name, *words = argv[2:]
    argv[2:] = [REDACTED] * (len(argv) - 2)
    if has_spaces(name):
        raise BAD_NAME
    try:
        rules = merged(words)
    except RuleError as error:
        raise CommandError(b"ERR " + error.reason) from None
    c.engine.acl.set_user(name, rules, c)
    return OK


@command("acl|deluser", -3, "admin noscript loading stale")
def acl_deluser(c: Client, argv: list[bytes]) -> Reply:
    """Delete users, and end the connections that are logged in as them. O(connections)."""
    if DEFAULT in argv[2:]:
        raise KEEP_DEFAULT
    return c.engine.acl.delete(argv[2:], c)


# ------------------------------------------------------------------------- file


@command("acl|load", 2, "admin noscript loading stale")
def acl_load(c: Client, argv: list[bytes]) -> Reply:
    """Take the users of the ACL file in place of those there are. O(file + connections)."""
    engine = c.engine
    name = engine.config.aclfile
    if not name:
        raise NO_FILE
    try:
        engine.acl.replace(name, engine.host.read_acl_file(), c)
    except UserFileError as error:
        raise CommandError(b"ERR " + error.text) from None
    except StorageError as error:
        reason = f"Error loading ACLs, opening file '{name}': {error.cause.strerror}"
        raise CommandError(b"ERR " + to_bytes(reason)) from None
    return OK


@command("acl|save", 2, "admin noscript loading stale")
def acl_save(c: Client, argv: list[bytes]) -> Reply:
    """Write the users to the ACL file. O(users * commands)."""
    engine = c.engine
    if not engine.config.aclfile:
        raise NO_FILE
    try:
        engine.host.write_acl_file(b"".join(line + b"\n" for line in engine.acl.lines()))
    except StorageError:
        raise NOT_SAVED from None
    return OK


# ---------------------------------------------------------------------- looking


@command("acl|cat", -2, "noscript loading stale")
def acl_cat(c: Client, argv: list[bytes]) -> Reply:
    """List the categories, or the commands of one. O(commands)."""
    if len(argv) == 2:
        return [name.encode() for name in ACL_CATEGORIES]
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    category = argv[2].decode("latin-1").lower()
    if category not in ACL_CATEGORIES:
        raise CommandError(b"ERR Unknown category '%b'" % argv[2][:CATEGORY_SHOWN_BYTES])
    commands = walk(list(c.engine.commands.values()))
    return [each.name.encode() for each in commands if category in each.acl]


@command("acl|dryrun", -4, "admin noscript loading stale")
def acl_dryrun(c: Client, argv: list[bytes]) -> Reply:
    """Say whether a user may run a request, without running it. O(arguments)."""
    user = c.engine.acl.users.get(argv[2])
    if user is None:
        raise CommandError(b"ERR User '%b' not found" % argv[2])
    request = argv[3:]
    called = c.engine.resolve(request)
    if called is None:
        raise CommandError(b"ERR Command '%b' not found" % request[0])
    name = called.name.encode()
    if not called.least <= len(request) <= called.most:
        raise CommandError(b"ERR wrong number of arguments for '%b' command" % name)
    denial = judge(user, called, request)
    if denial is None:
        return OK
    if denial.reason == COMMAND:
        return b"This user has no permissions to run the '%b' command" % name
    kind = b"key" if denial.reason == KEY else b"channel"
    return b"This user has no permissions to access the '%b' %b" % (request[denial.at], kind)


@command("acl|log", -2, "admin noscript loading stale")
def acl_log(c: Client, argv: list[bytes]) -> Reply:
    """Show what was denied lately, or forget it. O(entries)."""
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    entries = c.engine.acl.log.entries
    count = LOG_COUNT
    if len(argv) == 3:
        if argv[2].lower() == b"reset":
            entries.clear()
            return OK
        count = max(integer(argv[2]), 0)
    now_ms = c.engine.keyspace.now_ms
    return [_logged(entry, now_ms) for entry in islice(entries, count)]


def _logged(entry: Entry, now_ms: int) -> dict[bytes, Any]:
    return {
        b"count": entry.count,
        b"reason": entry.reason.encode(),
        b"context": entry.context.encode(),
        b"object": entry.subject,
        b"username": entry.username,
        b"age-seconds": (now_ms - entry.at_ms) / 1000,
        b"client-info": entry.client,
    }


@command("acl|genpass", -2, "noscript loading stale")
def acl_genpass(c: Client, argv: list[bytes]) -> Reply:
    """Make a password of random hexadecimal digits. O(bits)."""
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    bits = integer(argv[2]) if len(argv) == 3 else GENPASS_BITS
    if not 0 < bits <= GENPASS_MAX_BITS:
        raise GENPASS_RANGE
    digits = (bits + 3) // 4
    secret: bytes = c.engine.host.random_bytes((digits + 1) // 2)
    return secret.hex()[:digits].encode()


@command("acl|help", 2, "loading stale")
def acl_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "ACL",
        ("CAT [<category>]", "The categories of commands, or the commands of one."),
        ("DELUSER <username> [<username> ...]", "Delete users and end their connections."),
        ("DRYRUN <username> <command> [<arg> ...]", "Whether a user may run this."),
        ("GENPASS [<bits>]", "A random password, of 256 bits where nothing is said."),
        ("GETUSER <username>", "The rules of a user."),
        ("LIST", "The users as a configuration declares them."),
        ("LOAD", "Read the ACL file again."),
        ("LOG [<count> | RESET]", "What was denied lately; RESET forgets it."),
        ("SAVE", "Write the users to the ACL file."),
        ("SETUSER <username> <rule> [<rule> ...]", "Make or change a user."),
        ("USERS", "The names of the users."),
        ("WHOAMI", "The user of this connection."),
    )
