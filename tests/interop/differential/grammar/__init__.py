"""Commands as hypothesis strategies: mostly right, sometimes wrong in one place.

parts        pools of arguments, and what commands are put together from
collections  lists, hashes, sets, sorted sets      strings  bits  geo  streams
keys         keys of any type, their times, SORT, databases
sessions     transactions, subscriptions, clients  scripts  functions
server       users, settings, commands about commands, watching
exempt       what is not asked for, and why

A family works on keys of its own, and now and then on another's, for WRONGTYPE. Values come from
small pools, so that commands meet the same members again, and so that the pools hold every spelling
that parses in a special way. `test_grammar.py` holds that every command of the table is drawn.
"""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from tests.interop.differential.grammar import (
    bits,
    collections,
    geo,
    keys,
    scripts,
    server,
    sessions,
    streams,
    strings,
)
from tests.interop.differential.grammar.parts import Argv

Family = list[st.SearchStrategy[Any]]
"""Strategies for one argv, or for a list of them that stays together."""

DATA: Final[dict[str, Family]] = {
    "lists": collections.lists(),
    "hashes": collections.hashes(),
    "sets": collections.sets(),
    "sorted_sets": collections.sorted_sets(),
    "sorted_set_algebra": collections.sorted_set_algebra()
    + collections.sorted_sets()[:12]
    + collections.sets()[6:9],
    "lexical": collections.lexical(),
    "strings": strings.strings(),
}
"""The families whose answers need no clock and no server around the engine."""

FAMILIES: Final[dict[str, Family]] = DATA | {
    "bits": [*bits.BITS, bits.FAILING.map(bits.grown)],
    "hyperloglogs": bits.HYPERLOGLOGS,
    "lcs": bits.SUBSEQUENCES,
    "geo": geo.GEO,
    "streams": streams.ENTRIES + streams.GROUPED + streams.FUTURE + streams.HELP,
    "keys": keys.fillers() + keys.on_keys(),
    "sorting": keys.fillers() + keys.sorting(),
    "timed": keys.timed(),
    "databases": keys.databases(),
    "transactions": sessions.transactions(),
    "connection": sessions.connection(),
    "clients": sessions.clients(),
    "pubsub": sessions.pubsub(),
    "scripts": scripts.scripts(),
    "functions": scripts.functions(),
    "users": server.users(),
    "settings": server.settings(),
    "about_commands": server.about_commands(),
    "watching": server.watching(),
}
"""Every command, but for those of `exempt`."""


def sequence(*families: str, size: int = 40) -> st.SearchStrategy[list[Argv]]:
    """Commands of these families, with a few on keys of any type among them."""
    commands = [each for family in families for each in FAMILIES[family]]
    return st.lists(st.one_of(*commands, *keys.any_key()), min_size=1, max_size=size)
