"""Publish and subscribe.

The subscriptions themselves are `kvrepl.engine.pubsub`. A command here may answer several times,
once for each channel, so it sends its answers itself and returns NO_REPLY. While a client has any
subscription its gate PUBSUB is raised: in RESP2 it may then only change its subscriptions.

Shard channels exist for clients made for a cluster; on a single server they are one more space of
channels.

Source: Redis 7.0 pubsub.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kvrepl import glob
from kvrepl.engine import gates
from kvrepl.engine.introspection import help_lines, wrong_subcommand
from kvrepl.engine.propagation import REPLICAS
from kvrepl.engine.pubsub import Subscribers
from kvrepl.engine.spec import command, container
from kvrepl.resp.values import NO_REPLY, Push, Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client


def _mark(c: Client) -> None:
    """Raise the gate exactly while there is a subscription of any kind."""
    if c.subscriptions() or c.shard_channels:
        c.raise_gate(gates.PUBSUB)
    else:
        c.lower_gate(gates.PUBSUB)


def _subscribe(
    c: Client,
    argv: list[bytes],
    change: Callable[[Client, bytes], None],
    count: Callable[[], int],
) -> Reply:
    verb = argv[0].lower()
    for name in argv[1:]:
        change(c, name)
        _mark(c)
        c.send(Push([verb, name, count()]))
    return NO_REPLY


def _unsubscribe(
    c: Client,
    argv: list[bytes],
    own: Iterable[bytes],
    change: Callable[[Client, bytes], None],
    count: Callable[[], int],
) -> Reply:
    """Leave the channels named, or all; even somebody who has none is answered once."""
    verb = argv[0].lower()
    names = argv[1:] or list(own)
    for name in names:
        change(c, name)
        _mark(c)
        c.send(Push([verb, name, count()]))
    if not names:
        c.send(Push([verb, None, count()]))
    return NO_REPLY


@command("subscribe", -2, "pubsub noscript loading stale")
def subscribe(c: Client, argv: list[bytes]) -> Reply:
    """Listen for messages on channels. O(channels)."""
    return _subscribe(c, argv, c.engine.pubsub.subscribe, c.subscriptions)


@command("unsubscribe", -1, "pubsub noscript loading stale")
def unsubscribe(c: Client, argv: list[bytes]) -> Reply:
    """Stop listening for messages on channels, or on all of them. O(channels)."""
    return _unsubscribe(c, argv, c.channels, c.engine.pubsub.unsubscribe, c.subscriptions)


@command("psubscribe", -2, "pubsub noscript loading stale")
def psubscribe(c: Client, argv: list[bytes]) -> Reply:
    """Listen for messages on channels that match patterns. O(patterns)."""
    return _subscribe(c, argv, c.engine.pubsub.psubscribe, c.subscriptions)


@command("punsubscribe", -1, "pubsub noscript loading stale")
def punsubscribe(c: Client, argv: list[bytes]) -> Reply:
    """Stop listening for messages on channels that match patterns, or on all. O(patterns)."""
    return _unsubscribe(c, argv, c.patterns, c.engine.pubsub.punsubscribe, c.subscriptions)


@command("ssubscribe", -2, "pubsub noscript loading stale", keys=["not_key @1..-1"])
def ssubscribe(c: Client, argv: list[bytes]) -> Reply:
    """Listen for messages on shard channels. O(channels)."""
    return _subscribe(c, argv, c.engine.pubsub.ssubscribe, lambda: len(c.shard_channels))


@command("sunsubscribe", -1, "pubsub noscript loading stale", keys=["not_key @1..-1"])
def sunsubscribe(c: Client, argv: list[bytes]) -> Reply:
    """Stop listening for messages on shard channels, or on all of them. O(channels)."""
    change = c.engine.pubsub.sunsubscribe
    return _unsubscribe(c, argv, c.shard_channels, change, lambda: len(c.shard_channels))


@command("publish", 3, "pubsub loading stale fast may_replicate")
def publish(c: Client, argv: list[bytes]) -> Reply:
    """Post a message to a channel. O(subscribers + patterns).

    Propagates: itself, to the replicas only, whether or not anybody listens here.
    """
    count = c.engine.pubsub.publish(argv[1], argv[2])
    c.engine.propagation.force(REPLICAS)
    return count


@command("spublish", 3, "pubsub loading stale fast may_replicate", keys=["not_key @1"])
def spublish(c: Client, argv: list[bytes]) -> Reply:
    """Post a message to a shard channel. O(subscribers).

    Propagates: itself, to the replicas only.
    """
    count = c.engine.pubsub.spublish(argv[1], argv[2])
    c.engine.propagation.force(REPLICAS)
    return count


# ------------------------------------------------------------------------ PUBSUB

container("pubsub", summary="A container for Pub/Sub commands")


def _names(subscribers: Subscribers, argv: list[bytes]) -> list[bytes]:
    if len(argv) == 2:
        return list(subscribers)
    return list(filter(glob.compile(argv[2]), subscribers))


def _counts(subscribers: Subscribers, names: list[bytes]) -> list[bytes | int]:
    reply: list[bytes | int] = []
    for name in names:
        reply += (name, len(subscribers.get(name, ())))
    return reply


@command("pubsub|channels", -2, "pubsub loading stale")
def pubsub_channels(c: Client, argv: list[bytes]) -> Reply:
    """List the channels that somebody listens to. O(channels)."""
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    return _names(c.engine.pubsub.channels, argv)


@command("pubsub|numsub", -2, "pubsub loading stale")
def pubsub_numsub(c: Client, argv: list[bytes]) -> Reply:
    """Count the subscribers of each channel, those by pattern left out. O(channels named)."""
    return _counts(c.engine.pubsub.channels, argv[2:])


@command("pubsub|numpat", 2, "pubsub loading stale")
def pubsub_numpat(c: Client, argv: list[bytes]) -> Reply:
    """Count the patterns that somebody is subscribed to. O(1)."""
    return len(c.engine.pubsub.patterns)


@command("pubsub|shardchannels", -2, "pubsub loading stale")
def pubsub_shardchannels(c: Client, argv: list[bytes]) -> Reply:
    """List the shard channels that somebody listens to. O(channels)."""
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    return _names(c.engine.pubsub.shard, argv)


@command("pubsub|shardnumsub", -2, "pubsub loading stale")
def pubsub_shardnumsub(c: Client, argv: list[bytes]) -> Reply:
    """Count the subscribers of each shard channel. O(channels named)."""
    return _counts(c.engine.pubsub.shard, argv[2:])


@command("pubsub|help", 2, "loading stale")
def pubsub_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "PUBSUB",
        ("CHANNELS [<pattern>]", "The channels with subscribers, those that match."),
        ("NUMPAT", "How many patterns there are subscriptions to."),
        ("NUMSUB [<channel> ...]", "The channels with their numbers of subscribers."),
        ("SHARDCHANNELS [<pattern>]", "The shard channels with subscribers, those that match."),
        ("SHARDNUMSUB [<shardchannel> ...]", "The same as NUMSUB, of shard channels."),
    )
