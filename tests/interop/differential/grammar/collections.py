"""Lists, hashes, sets and sorted sets.

Commands by lexicographical order are only sent to sorted sets with equal scores, for with others
the result is whatever the structure gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.interop.differential.grammar.parts import (
    MEMBERS,
    Argv,
    Part,
    call,
    case,
    integer,
    keys,
    lex_bound,
    member,
    members,
    numkeys,
    option,
    pick,
    score,
    score_bound,
    small_count,
    timeout,
)


def lists() -> list[st.SearchStrategy[Argv]]:
    """The list commands."""
    key, side = keys(b"l"), case(b"LEFT", b"RIGHT")
    count = option(case(b"COUNT"), integer)
    pushes = [
        call(name, key, members) for name in (b"LPUSH", b"RPUSH", b"LPUSHX", b"RPUSHX", b"RPUSH")
    ]
    return [
        *pushes,
        call(b"LPOP", key, option(integer)),
        call(b"RPOP", key, option(integer)),
        call(b"LLEN", key),
        call(b"LINDEX", key, integer),
        call(b"LSET", key, integer, member),
        call(b"LRANGE", key, integer, integer),
        call(b"LRANGE", key, st.just((b"0", b"-1"))),
        call(b"LTRIM", key, integer, integer),
        call(b"LREM", key, integer, member),
        call(b"LINSERT", key, case(b"BEFORE", b"AFTER"), member, member),
        call(
            b"LPOS",
            key,
            member,
            option(case(b"RANK"), integer),
            count,
            option(case(b"MAXLEN"), integer),
        ),
        call(b"LMOVE", key, key, side, side),
        call(b"RPOPLPUSH", key, key),
        call(b"LMPOP", numkeys(key), side, count),
        call(b"BLPOP", st.lists(key, min_size=1, max_size=2), timeout),
        call(b"BRPOP", st.lists(key, min_size=1, max_size=2), timeout),
        call(b"BLMOVE", key, key, side, side, timeout),
        call(b"BRPOPLPUSH", key, key, timeout),
        call(b"BLMPOP", timeout, numkeys(key), side, count),
    ]


def hashes() -> list[st.SearchStrategy[Argv]]:
    """The hash commands."""
    key = keys(b"h")
    entries = st.lists(st.tuples(member, member), min_size=1, max_size=4)
    one_key = [call(name, key) for name in (b"HGETALL", b"HKEYS", b"HVALS", b"HLEN")]
    one_field = [call(name, key, member) for name in (b"HGET", b"HEXISTS", b"HSTRLEN")]
    return [
        *one_key,
        *one_field,
        call(b"HSET", key, entries),
        call(b"HSET", key, entries),
        call(b"HMSET", key, entries),
        call(b"HSETNX", key, member, member),
        call(b"HMGET", key, members),
        call(b"HDEL", key, members),
        call(b"HINCRBY", key, member, integer),
        call(b"HINCRBYFLOAT", key, member, score),
        call(b"HRANDFIELD", key, option(small_count, option(case(b"WITHVALUES")))),
        call(b"HSCAN", key, scan()),
    ]


def sets() -> list[st.SearchStrategy[Argv]]:
    """The set commands."""
    key = keys(b"s")
    some = st.lists(key, min_size=1, max_size=4)
    limit = option(case(b"LIMIT"), integer)
    algebra = [call(name, some) for name in (b"SINTER", b"SUNION", b"SDIFF")]
    stores = [call(name, key, some) for name in (b"SINTERSTORE", b"SUNIONSTORE", b"SDIFFSTORE")]
    return [
        *algebra,
        *stores,
        call(b"SADD", key, members),
        call(b"SADD", key, st.lists(st.sampled_from(MEMBERS[6:12]), min_size=1, max_size=6)),
        call(b"SREM", key, members),
        call(b"SMEMBERS", key),
        call(b"SISMEMBER", key, member),
        call(b"SMISMEMBER", key, members),
        call(b"SCARD", key),
        call(b"SMOVE", key, key, member),
        call(b"SINTERCARD", numkeys(key), limit),
        # Whole sets only, and never spoiled: what chance picks would part the two datasets.
        st.tuples(st.just(b"SPOP"), key, pick([b"0", b"100"], [b"-1", b"x"])),
        call(b"SRANDMEMBER", key, option(small_count)),
        call(b"SSCAN", key, scan()),
    ]


def scan() -> Part:
    """A cursor and options that make one step the whole."""
    pattern = pick([b"*", b"?", b"[a-c]", b"*0*", b"a", b"\\a"])
    return st.tuples(
        pick([b"0", b""], [b"x", b" 0", b"-x"]),
        option(case(b"MATCH"), pattern),
        st.tuples(case(b"COUNT"), pick([b"1000"], [b"0", b"x"])),
    )


def sorted_sets() -> list[st.SearchStrategy[Argv]]:
    """The sorted set commands, those by lexicographical order apart."""
    key = keys(b"z")
    flags = st.lists(case(b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"), max_size=2)
    entries = st.lists(st.tuples(score, member), min_size=1, max_size=4)
    with_scores = option(case(b"WITHSCORES"))
    limit = option(case(b"LIMIT"), integer, integer)
    popped = option(case(b"COUNT"), integer)
    end = case(b"MIN", b"MAX")
    by_rank = [call(n, key, integer, integer, with_scores) for n in (b"ZRANGE", b"ZREVRANGE")]
    by_score = [
        call(name, key, score_bound, score_bound, with_scores, limit)
        for name in (b"ZRANGEBYSCORE", b"ZREVRANGEBYSCORE")
    ]
    waiting = [
        call(name, st.lists(key, min_size=1, max_size=2), timeout)
        for name in (b"BZPOPMIN", b"BZPOPMAX")
    ]
    one_member = [call(name, key, member) for name in (b"ZSCORE", b"ZRANK", b"ZREVRANK")]
    return [
        *by_rank,
        *by_score,
        *waiting,
        *one_member,
        call(b"ZADD", key, entries),
        call(b"ZADD", key, entries),
        call(b"ZADD", key, flags, entries),
        call(b"ZADD", key, flags, score, member),
        call(b"ZINCRBY", key, score, member),
        call(b"ZREM", key, members),
        call(b"ZCARD", key),
        call(b"ZMSCORE", key, members),
        call(b"ZCOUNT", key, score_bound, score_bound),
        call(b"ZRANGE", key, integer, integer, option(case(b"REV")), with_scores, limit),
        call(b"ZRANGE", key, st.just((b"0", b"-1", b"WITHSCORES"))),
        call(
            b"ZRANGE",
            key,
            score_bound,
            score_bound,
            case(b"BYSCORE"),
            option(case(b"REV", b"BYSCORE")),
            limit,
            with_scores,
        ),
        call(b"ZRANGESTORE", key, key, integer, integer, option(case(b"REV"))),
        call(
            b"ZRANGESTORE",
            key,
            key,
            score_bound,
            score_bound,
            st.just(b"BYSCORE"),
            option(case(b"REV")),
            limit,
        ),
        call(b"ZREMRANGEBYRANK", key, integer, integer),
        call(b"ZREMRANGEBYSCORE", key, score_bound, score_bound),
        call(b"ZPOPMIN", key, option(integer)),
        call(b"ZPOPMAX", key, option(integer)),
        call(b"ZMPOP", numkeys(key), end, popped),
        call(b"BZMPOP", timeout, numkeys(key), end, popped),
        call(b"ZRANDMEMBER", key, option(small_count, option(case(b"WITHSCORES")))),
        call(b"ZSCAN", key, scan()),
    ]


def sorted_set_algebra() -> list[st.SearchStrategy[Argv]]:
    """ZUNION and its kin, over sorted sets and plain sets."""
    source = st.one_of(keys(b"z"), keys(b"z"), keys(b"s"))
    with_scores = option(case(b"WITHSCORES"))
    aggregate = option(case(b"AGGREGATE"), case(b"SUM", b"MIN", b"MAX", b"AVG"))

    def weighted(drawn: tuple[tuple[bytes, ...], list[bytes]]) -> tuple[Any, ...]:
        counted, weights = drawn
        return (counted, b"WEIGHTS", weights[: len(counted) - 1])

    sources = numkeys(source)
    weights = st.tuples(sources, st.lists(score, min_size=3, max_size=3)).map(weighted)
    inputs = st.one_of(sources, weights)
    key = keys(b"z")
    return [
        *(call(name, inputs, aggregate, with_scores) for name in (b"ZUNION", b"ZINTER")),
        *(call(name, key, inputs, aggregate) for name in (b"ZUNIONSTORE", b"ZINTERSTORE")),
        call(b"ZDIFF", sources, with_scores),
        call(b"ZDIFFSTORE", key, sources),
        call(b"ZINTERCARD", sources, option(case(b"LIMIT"), integer)),
    ]


def lexical() -> list[st.SearchStrategy[Argv]]:
    """Commands by lexicographical order, over sorted sets whose scores are all 0."""
    key = st.sampled_from([b"lex1", b"lex2"])
    limit = option(case(b"LIMIT"), integer, integer)
    entries = st.lists(st.tuples(st.just(b"0"), member), min_size=1, max_size=6)
    ranges: Callable[[bytes], Part] = lambda name: call(name, key, lex_bound, lex_bound, limit)  # noqa: E731
    return [
        call(b"ZADD", key, entries),
        call(b"ZADD", key, entries),
        ranges(b"ZRANGEBYLEX"),
        ranges(b"ZREVRANGEBYLEX"),
        call(b"ZRANGE", key, lex_bound, lex_bound, case(b"BYLEX"), option(case(b"REV")), limit),
        call(b"ZRANGESTORE", key, key, lex_bound, lex_bound, st.just(b"BYLEX"), limit),
        call(b"ZLEXCOUNT", key, lex_bound, lex_bound),
        call(b"ZREMRANGEBYLEX", key, lex_bound, lex_bound),
    ]
