"""Who is subscribed to what, and the delivery of messages.

    channels   channel -> subscribers          patterns   glob -> subscribers
    shard      shard channel -> subscribers    (one node: shard channels are just another space)

Each client keeps its own side (`Client.channels`, ...); both are changed together, here only.

Source: Redis 7.0 pubsub.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvrepl.engine import gates
from kvrepl.glob import compile as compile_glob
from kvrepl.resp import encode
from kvrepl.resp.values import Push

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

Subscribers = dict[bytes, dict["Client", None]]


class PubSub:
    """The subscriptions of one engine."""

    __slots__ = ("_matchers", "channels", "patterns", "shard")

    def __init__(self) -> None:
        self.channels: Subscribers = {}
        self.patterns: Subscribers = {}
        self.shard: Subscribers = {}
        self._matchers: dict[bytes, Callable[[bytes], object]] = {}

    def subscribe(self, client: Client, channel: bytes) -> None:
        """Subscribe a client to a channel."""
        _join(self.channels, client.channels, client, channel)

    def unsubscribe(self, client: Client, channel: bytes) -> None:
        """End a client's subscription to a channel."""
        _part(self.channels, client.channels, client, channel)

    def psubscribe(self, client: Client, pattern: bytes) -> None:
        """Subscribe a client to every channel that matches a glob."""
        if pattern not in self.patterns:
            self._matchers[pattern] = compile_glob(pattern)
        _join(self.patterns, client.patterns, client, pattern)

    def punsubscribe(self, client: Client, pattern: bytes) -> None:
        """End a client's subscription to a glob."""
        _part(self.patterns, client.patterns, client, pattern)
        if pattern not in self.patterns:
            self._matchers.pop(pattern, None)

    def ssubscribe(self, client: Client, channel: bytes) -> None:
        """Subscribe a client to a shard channel."""
        _join(self.shard, client.shard_channels, client, channel)

    def sunsubscribe(self, client: Client, channel: bytes) -> None:
        """End a client's subscription to a shard channel."""
        _part(self.shard, client.shard_channels, client, channel)

    def drop(self, client: Client) -> None:
        """A client is gone: end all its subscriptions."""
        for channel in list(client.channels):
            self.unsubscribe(client, channel)
        for pattern in list(client.patterns):
            self.punsubscribe(client, pattern)
        for channel in list(client.shard_channels):
            self.sunsubscribe(client, channel)

    def publish(self, channel: bytes, message: bytes) -> int:
        """Deliver a message. O(subscribers + patterns).

        Returns:
            How many clients got it, counting one per matching subscription.
        """
        count = 0
        subscribers = self.channels.get(channel)
        if subscribers:
            count += _deliver(subscribers, Push([b"message", channel, message]))
        for pattern, subscribers in self.patterns.items():
            if self._matchers[pattern](channel):
                count += _deliver(subscribers, Push([b"pmessage", pattern, channel, message]))
        return count

    def spublish(self, channel: bytes, message: bytes) -> int:
        """Deliver a message on a shard channel; returns how many clients got it."""
        subscribers = self.shard.get(channel)
        return _deliver(subscribers, Push([b"smessage", channel, message])) if subscribers else 0


def _deliver(subscribers: dict[Client, None], message: Push) -> int:
    wires: dict[int, bytes] = {}
    for client in subscribers:
        if client.gates & gates.CLOSING:
            continue
        wire = wires.get(client.resp)
        if wire is None:
            wire = wires[client.resp] = encode(message, client.resp)
        client.out.append(wire)
        client.stir()
    return len(subscribers)


def _join(all_of: Subscribers, own: dict[bytes, None], client: Client, name: bytes) -> None:
    own[name] = None
    all_of.setdefault(name, {})[client] = None


def _part(all_of: Subscribers, own: dict[bytes, None], client: Client, name: bytes) -> None:
    if name in own:
        del own[name]
        subscribers = all_of[name]
        del subscribers[client]
        if not subscribers:
            del all_of[name]
