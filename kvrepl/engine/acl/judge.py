"""What is denied to a user in a request: the command, a key, or a channel.

A request passes where one selector allows all of it. Where none does, one reason is told: that of
the selector that came furthest, a key or channel rather than the command, and the last one named.

Keys come from the command's key specifications, with what is done to each: `access` needs READ,
`insert`, `update` and `delete` need WRITE, and what looks at no content (EXISTS) needs either. A
request whose keys cannot be told names none; its handler refuses it. PSUBSCRIBE must name a
pattern of the user's word for word, for no glob can be told to lie within another.

Source: Redis 7.0 acl.c (ACLCheckAllUserCommandPerm, ACLSelectorCheckCmd,
ACLUserCheckCmdWithUnrestrictedPerms).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

from kvrepl.engine.acl.selector import READ, WRITE, Selector
from kvrepl.engine.acl.user import User
from kvrepl.engine.introspection import find_keys
from kvrepl.engine.spec import Command, KeyAt

COMMAND: Final = 1
KEY: Final = 2
CHANNEL: Final = 3


class Denial(NamedTuple):
    """What is denied; the greater of two is the one to tell.

    Attributes:
        reason: COMMAND, KEY or CHANNEL.
        at: the argument that is the key or the channel.
    """

    reason: int
    at: int


_NEEDS: Final = {"access": READ, "insert": WRITE, "update": WRITE, "delete": WRITE}
_ONE_CHANNEL: Final = frozenset(("publish", "spublish"))
_ALL_CHANNELS: Final = frozenset(("subscribe", "ssubscribe", "psubscribe"))


def judge(user: User, command: Command, argv: list[bytes]) -> Denial | None:
    """What is denied to a user in a request, None where nothing is.

    Args:
        user: who asks.
        command: what argv calls.
        argv: the request.

    Cost: O(selectors * (keys * patterns)), keys found once.
    """
    keys = _keys_for(user, command, argv)
    told: Denial | None = None
    for selector in user.selectors:
        denial = _denied_by(selector, command, argv, keys)
        if denial is None:
            return None
        if told is None or denial > told:
            told = denial
    return told


def reads_every_key(user: User, command: Command, argv: list[bytes]) -> bool:
    """Whether the request may also read keys that it does not name (SORT with BY or GET)."""
    keys = _keys_for(user, command, argv)
    return any(
        selector.allows_every_key(READ) and _denied_by(selector, command, argv, keys) is None
        for selector in user.selectors
    )


def _keys_for(user: User, command: Command, argv: list[bytes]) -> Sequence[KeyAt]:
    """The keys of a request, where any selector has to look at them."""
    for selector in user.selectors:
        if not selector.all_keys:
            return find_keys(command, argv) or ()
    return ()


@cache
def access_of(flags: tuple[str, ...]) -> int:
    """What a key's flags ask for: READ, WRITE, both or 0. There are few flags, and fewer sets."""
    access = 0
    for flag in flags:
        access |= _NEEDS.get(flag, 0)
    return access


def _denied_by(
    selector: Selector, command: Command, argv: list[bytes], keys: Sequence[KeyAt]
) -> Denial | None:
    if not selector.allows(command, argv):
        return Denial(COMMAND, 0)
    if not selector.all_keys:
        for at, flags in keys:
            if not selector.allows_key(argv[at], access_of(flags)):
                return Denial(KEY, at)
    if not selector.all_channels and "pubsub" in command.flags:
        literally = command.name == "psubscribe"
        for at in range(1, _last_channel(command.name, argv) + 1):
            if not selector.allows_channel(argv[at], literally=literally):
                return Denial(CHANNEL, at)
    return None


def _last_channel(name: str, argv: list[bytes]) -> int:
    """The last argument that is a channel, counted from 1 on; 0 where none is."""
    if name in _ONE_CHANNEL:
        return 1
    return len(argv) - 1 if name in _ALL_CHANNELS else 0
