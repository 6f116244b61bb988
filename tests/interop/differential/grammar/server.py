"""What concerns the server as a whole: users, settings, commands about commands, watching.

The settings that are changed are those of RESTORED; every run begins with them restored.
"""

from __future__ import annotations

from hypothesis import strategies as st

from tests.interop.differential.grammar.parts import (
    ALL_KEYS,
    Argv,
    call,
    case,
    integer,
    member,
    option,
    pick,
)

USER = pick([b"u1", b"u2"])
RULE = pick(
    [
        b"on", b"off", b"nopass", b">p", b"<p", b"~*", b"~l*", b"%R~s*", b"%W~h1", b"&*", b"&c1",
        b"allkeys", b"resetkeys", b"allchannels", b"resetchannels", b"+@all", b"-@all", b"+@read",
        b"-@dangerous", b"+get", b"-set", b"+config|get", b"-client|list", b"+select|0", b"reset",
        b"clearselectors", b"(+get ~s*)", b"(-@all +set ~*)", b"resetpass", b"sanitize-payload",
    ],
    [b"bogus", b"+nope", b"+@nope", b"(+get", b"#12", b"%X~a", b""],
)  # fmt: skip
CATEGORY = pick([b"read", b"write", b"hash", b"scripting", b"Fast"], [b"nope"])
RESTORED: dict[bytes, bytes] = {
    b"maxmemory-policy": b"noeviction",
    b"lazyfree-lazy-user-del": b"no",
    b"lazyfree-lazy-expire": b"no",
    b"slowlog-max-len": b"128",
    b"latency-monitor-threshold": b"0",
    b"lua-time-limit": b"5000",
}
SETTING = pick(
    [
        b"maxmemory-policy", b"lazyfree-lazy-user-del", b"LAZYFREE-LAZY-EXPIRE", b"slowlog-max-len",
        b"latency-monitor-threshold",
    ],
    [b"nope", b"daemonize"],
)  # fmt: skip
VALUE = pick(
    [b"yes", b"no", b"0", b"128", b"allkeys-lru", b"noeviction"], [b"", b"x", b"-1", b"1e3"]
)
PROFILE = pick([b"max*", b"*-listpack-*", b"lazyfree*", b"slowlog-max-len", b"nope", b"hz"])
COMMAND_NAME = pick(
    [b"get", b"SET", b"latency", b"config|get", b"xgroup|create", b"zunionstore", b"eval"],
    [b"nope", b"get|x", b""],
)


def users() -> list[st.SearchStrategy[Argv]]:
    """ACL."""
    asked = st.one_of(
        st.tuples(case(b"GET"), st.sampled_from(ALL_KEYS)),
        st.tuples(case(b"SET"), st.sampled_from(ALL_KEYS), member),
        st.tuples(case(b"CONFIG"), st.just(b"GET"), st.just(b"hz")),
        st.tuples(case(b"PUBLISH"), pick([b"c1", b"c2"]), member),
        st.tuples(case(b"NOPE", b"GET")),
    )
    return [
        call(b"ACL", case(b"SETUSER"), USER, st.lists(RULE, max_size=3)),
        call(b"ACL", case(b"SETUSER"), USER, st.lists(RULE, min_size=1, max_size=3)),
        call(b"ACL", case(b"GETUSER"), pick([b"u1", b"u2", b"default", b"nobody"])),
        call(b"ACL", case(b"DELUSER"), pick([b"u1", b"u2", b"nobody"], [b"default"])),
        call(b"ACL", case(b"LIST", b"USERS", b"WHOAMI")),
        call(b"ACL", case(b"LIST")),
        call(b"ACL", case(b"USERS")),
        call(b"ACL", case(b"WHOAMI")),
        call(b"ACL", case(b"CAT"), option(CATEGORY)),
        call(b"ACL", case(b"DRYRUN"), USER, asked),
        call(b"ACL", case(b"GENPASS"), option(pick([b"64", b"5", b"4096"], [b"0", b"x", b"5000"]))),
        call(b"ACL", case(b"LOG"), option(pick([b"RESET"], [b"x", b"-1"]))),
        call(b"ACL", case(b"LOAD")),
        call(b"ACL", case(b"SAVE")),
        call(b"ACL", case(b"HELP", b"NOPE")),
    ]


def settings() -> list[st.SearchStrategy[Argv]]:
    """CONFIG."""
    return [
        call(b"CONFIG", case(b"GET"), st.lists(PROFILE, min_size=1, max_size=2)),
        call(b"CONFIG", case(b"SET"), SETTING, VALUE),
        call(b"CONFIG", case(b"SET"), SETTING, VALUE, SETTING, VALUE),
        call(b"CONFIG", case(b"SET"), case(b"maxmemory-policy"), pick([b"allkeys-lfu", b"none"])),
        call(b"CONFIG", case(b"SET"), case(b"lazyfree-lazy-user-del"), case(b"yes", b"no", b"x")),
        call(b"CONFIG", case(b"RESETSTAT")),
        call(b"CONFIG", case(b"REWRITE"), pick([b"x"])),
        call(b"CONFIG", case(b"HELP", b"NOPE")),
        call(b"DEL", st.sampled_from(ALL_KEYS)),
        call(b"SET", st.sampled_from(ALL_KEYS), member, st.just((b"PXAT", b"1"))),
    ]


def about_commands() -> list[st.SearchStrategy[Argv]]:
    """COMMAND."""
    asked = st.one_of(
        st.tuples(case(b"GET"), member),
        st.tuples(case(b"MSET"), member, member, member, member),
        st.tuples(case(b"EVAL"), member, pick([b"1", b"2"], [b"x", b"-1", b"9"]), member, member),
        st.tuples(case(b"SORT"), member, case(b"STORE"), member),
        st.tuples(case(b"ZUNIONSTORE"), member, pick([b"1", b"2"], [b"0", b"x"]), member, member),
        st.tuples(case(b"XREAD"), case(b"STREAMS"), member, member),
        st.tuples(case(b"SET"), member, member, option(case(b"GET"))),
        st.tuples(case(b"PING", b"NOPE", b"GET")),
    )
    return [
        call(b"COMMAND", case(b"COUNT")),
        call(b"COMMAND", case(b"INFO"), st.lists(COMMAND_NAME, min_size=1, max_size=2)),
        call(b"COMMAND", case(b"LIST"), option(FILTER)),
        call(b"COMMAND", case(b"GETKEYS"), asked),
        call(b"COMMAND", case(b"GETKEYSANDFLAGS"), asked),
        st.just((b"COMMAND", b"DOCS", b"nope")),
        call(b"COMMAND", case(b"HELP", b"NOPE")),
    ]


FILTER = st.tuples(
    case(b"FILTERBY"),
    st.one_of(
        st.tuples(case(b"ACLCAT"), CATEGORY),
        st.tuples(case(b"PATTERN"), pick([b"x*", b"*get*", b"config|*", b"nope"])),
        st.tuples(case(b"MODULE"), pick([b"nope"])),
        st.tuples(case(b"NOPE"), pick([b"x"])),
    ),
)


def watching() -> list[st.SearchStrategy[Argv]]:
    """SLOWLOG, LATENCY, MEMORY, DEBUG, and what asks about saving and replication."""
    key = st.sampled_from([*ALL_KEYS, b"none"])
    return [
        call(b"SLOWLOG", case(b"GET"), pick([b"0", b"-1", b"5"], [b"-2", b"x"])),
        call(b"SLOWLOG", case(b"LEN")),
        call(b"SLOWLOG", case(b"RESET")),
        call(b"SLOWLOG", case(b"HELP", b"NOPE")),
        call(b"LATENCY", case(b"LATEST")),
        call(b"LATENCY", case(b"HISTORY"), pick([b"command", b"nope"])),
        call(b"LATENCY", case(b"RESET"), option(pick([b"command", b"nope"]))),
        call(b"LATENCY", case(b"GRAPH"), pick([b"nope"])),
        st.just((b"LATENCY", b"HISTOGRAM", b"nope")),
        call(b"LATENCY", case(b"HELP", b"NOPE")),
        call(b"MEMORY", case(b"USAGE"), key, option(case(b"SAMPLES"), integer)),
        call(b"MEMORY", case(b"PURGE")),
        call(b"MEMORY", case(b"HELP", b"NOPE")),
        call(b"DEBUG", case(b"DIGEST")),
        call(b"DEBUG", case(b"DIGEST-VALUE"), st.lists(key, min_size=1, max_size=2)),
        call(b"DEBUG", case(b"PROTOCOL"), PROTOCOL),
        call(b"DEBUG", case(b"SLEEP"), pick([b"0", b"0.001"])),
        call(b"DEBUG", case(b"RELOAD"), option(case(b"NOSAVE", b"NOPE"), option(case(b"MERGE")))),
        call(b"DEBUG", case(b"NOPE")),
        # Never spoiled: without an argument both do what they say.
        st.tuples(case(b"SHUTDOWN", b"FAILOVER"), case(b"ABORT", b"NOPE")),
        call(b"REPLICAOF", st.just((b"NO", b"ONE"))),
        call(b"SLAVEOF", st.just((b"no", b"one"))),
        call(b"SLAVEOF", pick([b"127.0.0.1"]), pick([b"x", b"-1", b"70000"])),
        st.just((b"PFSELFTEST", b"too many")),
        call(b"SAVE"),
        st.just((b"BGSAVE", b"too", b"many")),
        st.just((b"BGREWRITEAOF", b"too", b"many")),
        st.just((b"MONITOR", b"too", b"many")),
        call(b"SET", key, member),
        call(b"RPUSH", key, member),
        call(b"SADD", key, member),
    ]


PROTOCOL = pick(
    [
        b"string", b"integer", b"double", b"null", b"array", b"set", b"map", b"push",
        b"verbatim", b"true", b"false", b"bignum",
    ],
    [b"nope"],
)  # fmt: skip
"""Not attrib: its attribute would be read as a reply of its own."""
