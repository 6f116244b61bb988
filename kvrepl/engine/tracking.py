"""Server-assisted client-side caching: who may hold which key, and who is told when it changes.

    default     what a tracking client reads is remembered      keys: name -> ids of clients
                and forgotten with the message that invalidates it
    BCAST       it hears of every change below its prefixes     prefixes: prefix -> who, and what
                at the end of the turn, one message a prefix   changed in this turn

Names of keys stand for those of all databases, as in Redis. A message is a push in RESP3; a client
that speaks RESP2 has it redirected to another one, which is subscribed to __redis__:invalidate.

A client must not find an invalidation in front of the answer to the very command that caused it.
Every command of a tracking client therefore takes the engine's careful way (the gate TRACKING):
`current` is that client while its command runs, and what concerns it waits in `pending` until the
answer has been given. For all others `current` is None, which is all that needs to be known.

The ids of clients that are gone, or track no more, stay in the table until their keys change: who
tracks again is told of what it had read before.

Source: Redis 7.0 tracking.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final

from kvrepl.engine import gates
from kvrepl.engine.introspection import find_keys
from kvrepl.errors import CommandError
from kvrepl.resp.values import Push

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.engine.spec import Command
    from kvrepl.keyspace.keyspace import Keyspace

CHANNEL: Final = b"__redis__:invalidate"
NO_REDIRECTION: Final = 0
EVERY_KEY: Final = None
"""What a message names after a FLUSHALL, instead of keys."""
LIMIT_EFFORT: Final = 100
"""Keys forgotten by one call of `limit`, times the calls in a row that did not suffice."""

_NOT_REMEMBERED: Final = frozenset(("eval_ro", "evalsha_ro", "fcall_ro"))
"""Their keys are remembered when the script reads them."""


NOT_TRACKING: Final = -1
"""What stands for the id of a redirection where nothing is tracked."""


@dataclass(slots=True)
class Mode:
    """How one client tracks.

    Attributes:
        redirect: id of the client that gets the messages, 0 for itself.
        bcast: by prefix, not by what was read; prefixes: which.
        optin, optout: CLIENT CACHING decides on the next command; caching: it has.
        noloop: its own changes are not reported to it.
        broken: the client of `redirect` is gone, as a message showed.
    """

    redirect: int = NO_REDIRECTION
    bcast: bool = False
    optin: bool = False
    optout: bool = False
    noloop: bool = False
    caching: bool = False
    broken: bool = False
    prefixes: dict[bytes, None] = field(default_factory=dict)

    @property
    def remembers(self) -> bool:
        """Whether the keys of the command that runs now are remembered."""
        if self.bcast or (self.optin and not self.caching):
            return False
        return not (self.optout and self.caching)


@dataclass(slots=True)
class Prefix:
    """What happened below a prefix in this turn.

    Attributes:
        clients: who is told.
        changed: key -> the tracking client that changed it last, None for anybody else.
    """

    clients: dict[Client, None] = field(default_factory=dict)
    changed: dict[bytes, Client | None] = field(default_factory=dict)


class Tracking:
    """The tracking clients of one engine.

    Args:
        keyspace: reports changes while its `tracking` is set.
        clients_by_id: the engine's clients.

    Attributes:
        clients: those that track.
        keys: name -> ids of the clients that may hold it.
        items: ids in `keys`, all together.
        current: the tracking client whose command runs now.
        inside: the client that is in the middle of an EXEC, whose answer nothing may stand in.
    """

    __slots__ = (
        "_by_id", "_keyspace", "_over", "clients", "current", "inside", "items", "keys", "late",
        "pending", "prefixes",
    )  # fmt: skip

    def __init__(self, keyspace: Keyspace, clients_by_id: dict[int, Client]) -> None:
        self._keyspace = keyspace
        self._by_id = clients_by_id
        self._over = 0
        self.clients: dict[Client, None] = {}
        self.keys: dict[bytes, set[int]] = {}
        self.prefixes: dict[bytes, Prefix] = {}
        self.items = 0
        self.current: Client | None = None
        self.inside: Client | None = None
        self.pending: list[bytes | None] = []
        self.late: list[tuple[Client, Push]] = []

    # ------------------------------------------------------------------ who tracks

    def enable(self, client: Client, mode: Mode, prefixes: Sequence[bytes]) -> None:
        """Have a client track; prefixes are added to those it has.

        Raises:
            CommandError: prefixes of one client overlap.
        """
        held: Mode | None = client.tracking
        if mode.bcast:
            kept = held.prefixes if held is not None else {}
            _check_overlap(list(kept), prefixes)
            mode.prefixes = {**kept, **dict.fromkeys(prefixes or (b"",))}
            for prefix in mode.prefixes:
                self.prefixes.setdefault(prefix, Prefix()).clients[client] = None
        if held is not None:
            mode.caching = held.caching
        client.tracking = mode
        client.raise_gate(gates.TRACKING)
        self.clients[client] = None
        self._keyspace.tracking = True

    def disable(self, client: Client) -> None:
        """A client tracks no more, or is gone."""
        mode: Mode | None = client.tracking
        if mode is None:
            return
        for prefix in mode.prefixes:
            below = self.prefixes[prefix]
            del below.clients[client]
            if not below.clients:
                del self.prefixes[prefix]
        client.tracking = None
        client.lower_gate(gates.TRACKING)
        del self.clients[client]
        self._rest()

    def _rest(self) -> None:
        """Hear of no more changes where nobody is left to be told."""
        if not self.clients and not self.keys:
            self._keyspace.tracking = False

    def redirection(self, client: Client) -> Client | None:
        """The client that gets the messages for `client`; None where it is gone, which is noted."""
        mode: Mode = client.tracking
        if mode.redirect == NO_REDIRECTION:
            return client
        target = self._by_id.get(mode.redirect)
        if target is None:
            mode.broken = True
        return target

    # ------------------------------------------------------------------ what is read

    def remember(self, client: Client, command: Command, argv: list[bytes]) -> None:
        """A read command has run for a tracking client. O(keys of the command)."""
        if not client.tracking.remembers or command.name in _NOT_REMEMBERED:
            return
        if "pubsub" in command.flags:
            return
        for at in find_keys(command, argv) or ():
            holders = self.keys.setdefault(argv[at.position], set())
            self.items += client.id not in holders
            holders.add(client.id)

    # --------------------------------------------------------------- what is changed

    def invalidate(self, key: bytes, by: Client | None) -> None:
        """A key has changed. O(clients that may hold it + prefixes).

        Args:
            by: the tracking client that changed it; None for anybody else, for a script, and where
                time did.
        """
        for prefix, below in self.prefixes.items():
            if key.startswith(prefix):
                below.changed[key] = by
        self._forget(key)

    def _forget(self, key: bytes) -> None:
        holders = self.keys.pop(key, None)
        if holders is None:
            return
        self.items -= len(holders)
        for client_id in holders:
            client = self._by_id.get(client_id)
            if client is None or client.tracking is None or client.tracking.bcast:
                continue
            if client is not self.current:
                self._tell(client, [key])
            elif not client.tracking.noloop:
                self.pending.append(key)
        self._rest()

    def flushed(self) -> None:
        """Databases were emptied: nobody holds any key now. O(tracking clients)."""
        for client in self.clients:
            if client is self.current:
                self.pending.append(EVERY_KEY)
            else:
                self._tell(client, EVERY_KEY)
        self.keys.clear()
        self.items = 0
        self._rest()

    def tell_current(self, client: Client) -> None:
        """The client has been answered: tell it what its own command invalidated."""
        pending, self.pending = self.pending, []
        if client.tracking is None:
            return
        for key in pending:
            self._tell(client, EVERY_KEY if key is None else [key])

    def broadcast(self) -> None:
        """The turn ends: tell of all that changed below each prefix."""
        if self.late:
            late, self.late = self.late, []
            for client, message in late:
                client.send(message)
        if not self.prefixes:
            return
        for below in map(self.prefixes.__getitem__, sorted(self.prefixes)):
            if not below.changed:
                continue
            changed, below.changed = below.changed, {}
            keys = sorted(changed)
            for client in below.clients:
                if not client.tracking.noloop:
                    self._tell(client, keys)
                elif others := [key for key in keys if changed[key] is not client]:
                    self._tell(client, others)

    def limit(self, max_keys: int, rng: Random) -> None:
        """Forget some keys where more than `max_keys` (0 for any number) are remembered.

        Whoever holds them is told so. The longer it does not suffice, the more are forgotten.
        """
        if not max_keys or len(self.keys) <= max_keys:
            self._over = 0
            return
        self._over += 1
        count = min(len(self.keys) - max_keys, LIMIT_EFFORT * self._over)
        for key in rng.sample(list(self.keys), count):
            self._forget(key)

    def _tell(self, client: Client, keys: list[bytes] | None) -> None:
        target = self.redirection(client)
        if target is None:
            if client.resp == 3:
                client.send(Push([b"tracking-redir-broken", client.tracking.redirect]))
            return
        message: list[Any]
        if target.resp == 3:
            message = [b"invalidate", keys]
        elif target is not client and target.gates & gates.PUBSUB:
            message = [b"message", CHANNEL, keys]
        else:
            return  # it would take the message for an answer
        if target is self.inside:
            self.late.append((target, Push(message)))
        else:
            target.send(Push(message))


def redirected_to(client: Client) -> int:
    """The id that CLIENT LIST and CLIENT GETREDIR show: 0 for the client itself."""
    mode: Mode | None = client.tracking
    return NOT_TRACKING if mode is None else mode.redirect


def _check_overlap(held: Sequence[bytes], added: Sequence[bytes]) -> None:
    for number, prefix in enumerate(added):
        for others, which in ((held, b"an existing"), (added[number + 1 :], b"another provided")):
            for other in others:
                if prefix.startswith(other) or other.startswith(prefix):
                    raise CommandError(
                        b"ERR Prefix '%b' overlaps with %b prefix '%b'. Prefixes for a single"
                        b" client must not overlap." % (prefix, which, other)
                    )
