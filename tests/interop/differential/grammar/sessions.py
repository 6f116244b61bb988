"""What a connection is: its transactions, subscriptions, name, protocol, user, tracking.

Some of these leave a client in a state where it may do little more, and so are seldom. CLIENT REPLY
comes with the commands that it silences, as one item.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.interop.differential.grammar.parts import (
    BAD_INTEGERS,
    Argv,
    call,
    case,
    flat,
    integer,
    keys,
    member,
    option,
    pick,
)

CHANNEL = pick([b"c1", b"c2", b"news.it", b"", b"\x00\xff"])
PATTERN = pick([b"c*", b"news.*", b"?1", b"[", b"\\c1"])
NAME = pick([b"me", b"you", b""], [b"two words", b"line\n", b"\xff"])
USER = pick([b"u1", b"u2", b"nobody"])
PASSWORD = pick([b"p", b"q", b""])
UNKNOWN_ID = pick([b"999999999", b"0"], [b"-1", b"x", b""])


def transactions() -> list[st.SearchStrategy[Argv]]:
    """Transactions, and commands of every kind of outcome within."""
    key = keys(b"str")
    return [
        call(b"MULTI"),
        call(b"MULTI"),
        call(b"EXEC"),
        call(b"EXEC"),
        call(b"DISCARD"),
        call(b"WATCH", st.lists(key, min_size=1, max_size=2)),
        call(b"UNWATCH"),
        call(b"SET", key, member),
        call(b"SET", st.just(b"str1")),
        call(b"INCR", key),
        call(b"NOSUCH", option(member)),
        call(b"PING"),
    ]


def connection() -> list[st.SearchStrategy[Argv]]:
    """The connection itself."""
    return [
        call(b"PING", option(member)),
        call(b"ECHO", member),
        call(b"HELLO", option(pick([b"2", b"3"], [b"1", b"4", b"x", b""]))),
        call(b"HELLO", pick([b"2", b"3"]), case(b"SETNAME"), NAME),
        call(b"HELLO", pick([b"2", b"3"]), case(b"AUTH"), pick([b"default", b"u1"]), PASSWORD),
        call(b"AUTH", option(pick([b"default", b"nobody"])), PASSWORD),
        call(b"SELECT", pick([b"0"], [b"1", b"-1", b"x", b"99"])),
        call(b"RESET"),
        call(b"QUIT"),
        call(b"READONLY"),
        call(b"READWRITE"),
        call(b"ASKING"),
        call(b"TIME"),
        call(b"LASTSAVE"),
        st.just((b"ROLE", b"too many")),
        call(b"LOLWUT", case(b"VERSION"), pick([b"1", b"2"], [b"x"])),
        call(b"REPLCONF", pick([b"listening-port", b"nope", b"capa"]), pick([b"12"], [b"x"])),
        call(b"NOSUCH", option(member), option(integer)),
        call(b"", option(member)),
        call(b"\x00\xff\r\n", option(member)),
        call(b"GET", keys(b"str")),
        call(b"SET", keys(b"str"), member),
    ]


def clients() -> list[st.SearchStrategy[Any]]:
    """CLIENT, and what depends on it."""
    key = keys(b"str")
    return [
        call(b"CLIENT", case(b"GETNAME")),
        call(b"CLIENT", case(b"SETNAME"), NAME),
        call(b"CLIENT", case(b"ID")),
        call(b"CLIENT", case(b"LIST"), case(b"TYPE"), pick([b"master"], [b"nope", b"slaves"])),
        call(b"CLIENT", case(b"LIST"), case(b"ID"), UNKNOWN_ID),
        st.just((b"CLIENT", b"LIST", b"nope")),
        call(b"CLIENT", case(b"KILL"), pick([b"1.2.3.4:5", b""])),
        call(b"CLIENT", case(b"KILL"), case(b"ID"), UNKNOWN_ID),
        call(b"CLIENT", case(b"KILL"), case(b"ADDR", b"LADDR"), pick([b"1.2.3.4:5"])),
        call(b"CLIENT", case(b"KILL"), case(b"USER"), pick([b"u1", b"nobody"])),
        call(b"CLIENT", case(b"KILL"), case(b"TYPE"), pick([b"master"], [b"nope"])),
        call(
            b"CLIENT",
            case(b"KILL"),
            case(b"TYPE"),
            pick([b"master"]),
            case(b"SKIPME"),
            pick([b"yes", b"no"], [b"x"]),
        ),
        call(b"CLIENT", case(b"PAUSE"), pick([b"0", b"1"], BAD_INTEGERS[:3]), PAUSED),
        call(b"CLIENT", case(b"UNPAUSE")),
        call(b"CLIENT", case(b"UNBLOCK"), UNKNOWN_ID, option(case(b"TIMEOUT", b"ERROR", b"X"))),
        call(b"CLIENT", case(b"NO-EVICT"), case(b"ON", b"OFF", b"X")),
        call(b"CLIENT", case(b"REPLY"), case(b"ON", b"NOPE")),
        call(b"CLIENT", case(b"GETREDIR")),
        call(b"CLIENT", case(b"TRACKINGINFO")),
        call(b"CLIENT", case(b"CACHING"), case(b"YES", b"NO", b"X")),
        call(b"CLIENT", case(b"TRACKING"), case(b"ON", b"OFF", b"X"), TRACKED),
        call(b"CLIENT", case(b"TRACKING"), case(b"ON"), case(b"BCAST", b"OPTIN", b"OPTOUT")),
        call(b"CLIENT", case(b"HELP", b"NOPE")),
        silenced(),
        call(b"GET", key),
        call(b"SET", key, member),
        call(b"MGET", key, key),
    ]


PAUSED = option(case(b"ALL", b"WRITE", b"X"))
TRACKED = st.lists(
    st.one_of(
        case(b"BCAST", b"OPTIN", b"OPTOUT", b"NOLOOP"),
        st.tuples(case(b"PREFIX"), pick([b"str", b"l", b""])),
        st.tuples(case(b"REDIRECT"), UNKNOWN_ID),
    ),
    max_size=3,
)


def silenced() -> st.SearchStrategy[list[Argv]]:
    """CLIENT REPLY with the commands that are not answered."""
    key = keys(b"str")
    quiet = st.one_of(
        st.tuples(st.just(b"SET"), key, member).map(flat),
        st.tuples(st.just(b"GET"), key).map(flat),
        st.tuples(st.just(b"NOSUCH")),
    )
    off = st.lists(quiet, max_size=2).map(
        lambda some: [(b"CLIENT", b"REPLY", b"OFF"), *some, (b"CLIENT", b"REPLY", b"ON")]
    )
    return st.one_of(off, quiet.map(lambda one: [(b"CLIENT", b"REPLY", b"SKIP"), one]))


def pubsub() -> list[st.SearchStrategy[Argv]]:
    """Subscriptions, and messages to oneself where the protocol allows it."""
    some = st.lists(CHANNEL, max_size=2)
    patterns = st.lists(PATTERN, max_size=2)
    return [
        call(b"SUBSCRIBE", some),
        call(b"UNSUBSCRIBE", some),
        call(b"UNSUBSCRIBE"),
        call(b"PSUBSCRIBE", patterns),
        call(b"PUNSUBSCRIBE", patterns),
        call(b"PUNSUBSCRIBE"),
        call(b"SSUBSCRIBE", some),
        call(b"SUNSUBSCRIBE", some),
        call(b"SUNSUBSCRIBE"),
        call(b"PUBLISH", CHANNEL, member),
        call(b"PUBLISH", CHANNEL, member),
        call(b"SPUBLISH", CHANNEL, member),
        call(b"PUBSUB", case(b"CHANNELS", b"SHARDCHANNELS"), option(PATTERN)),
        call(b"PUBSUB", case(b"NUMSUB", b"SHARDNUMSUB"), some),
        call(b"PUBSUB", case(b"NUMPAT")),
        call(b"PUBSUB", case(b"HELP", b"NOPE")),
        call(b"PING", option(member)),
        call(b"GET", keys(b"str")),
        call(b"RESET"),
    ]
