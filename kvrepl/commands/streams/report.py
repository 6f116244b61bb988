"""XINFO: what there is to know of a stream, its groups and their consumers.

Source: Redis 7.0 t_stream.c (xinfoCommand, xinfoReplyWithStreamInfo, streamReplyWithCGLag).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kvrepl.commands.arguments import integer
from kvrepl.commands.streams.ids import entry_replies, text_of
from kvrepl.commands.streams.shared import no_such_group
from kvrepl.datatypes.streams import UNKNOWN, Group, StreamValue
from kvrepl.engine.introspection import help_lines, wrong_subcommand
from kvrepl.engine.spec import command, container
from kvrepl.errors import NO_SUCH_KEY
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

DEFAULT_COUNT: Final = 10
"""Entries, and pending entries, that FULL lists where COUNT does not say."""

container("xinfo", summary="A container for stream introspection commands")

_KEY: Final = ["RO access @2"]


@command("xinfo|stream", -3, "readonly", keys=_KEY, acl="stream")
def xinfo_stream(c: Client, argv: list[bytes]) -> Reply:
    """Show the counters of a stream, with FULL also its entries and groups. O(nodes) at worst."""
    value = _stream(c, argv)
    full, count = _full(argv)
    reply: dict[bytes, Any] = {
        b"length": value.length,
        b"radix-tree-keys": value.count_nodes(),
        b"radix-tree-nodes": value.radix_nodes(),
        b"last-generated-id": text_of(value.last_id),
        b"max-deleted-entry-id": text_of(value.max_deleted_id),
        b"entries-added": value.entries_added,
        b"recorded-first-entry-id": text_of(value.first_id),
    }
    if full:
        reply[b"entries"] = entry_replies(value.range(count=count))
        reply[b"groups"] = [
            _full_group(value, name, group, count) for name, group in sorted(value.groups.items())
        ]
    else:
        reply[b"groups"] = len(value.groups)
        first, last = value.range(count=1), value.reverse_range(count=1)
        reply[b"first-entry"] = entry_replies(first)[0] if first else None
        reply[b"last-entry"] = entry_replies(last)[0] if last else None
    return reply


def _full(argv: list[bytes]) -> tuple[bool, int]:
    """Whether FULL is given, and how much it lists, 0 for all."""
    options = argv[3:]
    if not options:
        return False, 0
    if len(options) not in (1, 3) or options[0].upper() != b"FULL":
        raise wrong_subcommand(argv)
    if len(options) == 1:
        return True, DEFAULT_COUNT
    if options[1].upper() != b"COUNT":
        raise wrong_subcommand(argv)
    count = integer(options[2])
    return True, DEFAULT_COUNT if count < 0 else count


def _full_group(value: StreamValue, name: bytes, group: Group, count: int) -> dict[bytes, Any]:
    limit = count or None
    pending = group.pending
    return {
        b"name": name,
        b"last-delivered-id": text_of(group.last_id),
        b"entries-read": _read(group),
        b"lag": value.lag(group),
        b"pel-count": len(pending),
        b"pending": [
            [text_of(i), pending[i].owner, pending[i].delivered_at_ms, pending[i].deliveries]
            for i in islice(group.pending_ids(), limit)
        ],
        b"consumers": [
            {
                b"name": consumer.name,
                b"seen-time": consumer.seen_ms,
                b"pel-count": len(consumer.pending),
                b"pending": [
                    [text_of(i), pending[i].delivered_at_ms, pending[i].deliveries]
                    for i in islice(consumer.pending, limit)
                ],
            }
            for consumer in group.sorted_consumers()
        ],
    }


@command("xinfo|groups", 3, "readonly", keys=_KEY, acl="stream")
def xinfo_groups(c: Client, argv: list[bytes]) -> Reply:
    """Show the groups of a stream. O(groups * log groups)."""
    value = _stream(c, argv)
    return [
        {
            b"name": name,
            b"consumers": len(group.consumers),
            b"pending": len(group.pending),
            b"last-delivered-id": text_of(group.last_id),
            b"entries-read": _read(group),
            b"lag": value.lag(group),
        }
        for name, group in sorted(value.groups.items())
    ]


@command(
    "xinfo|consumers",
    4,
    "readonly",
    keys=_KEY,
    acl="stream",
    tips=["nondeterministic_output"],
)
def xinfo_consumers(c: Client, argv: list[bytes]) -> Reply:
    """Show the consumers of a group. O(consumers * log consumers)."""
    group = _stream(c, argv).groups.get(argv[3])
    if group is None:
        raise no_such_group(argv[2], argv[3])
    now_ms = c.engine.keyspace.now_ms
    return [
        {
            b"name": consumer.name,
            b"pending": len(consumer.pending),
            b"idle": max(now_ms - consumer.seen_ms, 0),
        }
        for consumer in group.sorted_consumers()
    ]


@command("xinfo|help", 2, "loading stale", acl="stream")
def xinfo_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "XINFO",
        ("CONSUMERS <key> <groupname>", "The consumers of a group."),
        ("GROUPS <key>", "The groups of a stream."),
        (
            "STREAM <key> [FULL [COUNT <count>]]",
            "The counters of a stream; FULL adds entries and groups (default 10 of each, 0: all).",
        ),
    )


def _stream(c: Client, argv: list[bytes]) -> StreamValue:
    value = c.db.read(argv[2], StreamValue)
    if value is None:
        raise NO_SUCH_KEY
    return value


def _read(group: Group) -> int | None:
    return None if group.entries_read == UNKNOWN else group.entries_read
