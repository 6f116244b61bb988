"""Scripts and functions."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hypothesis import strategies as st

from tests.interop.differential.grammar.parts import (
    ALL_KEYS,
    Argv,
    call,
    case,
    member,
    numkeys,
    option,
    pick,
)

DATA = Path(__file__).parents[3] / "data" / "lua" / "scripts.txt"
SCRIPTS = DATA.read_bytes().splitlines()
"""Scripts of all sorts, one a line, for one key and one argument."""
ON_KEYS = [
    b"return redis.call('SET', KEYS[1], ARGV[1])",
    b"return redis.call('GET', KEYS[1])",
    b"redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[1]) return redis.call('LRANGE', KEYS[1], 0, -1)",
    b"return redis.pcall('INCR', KEYS[1])",
    b"return {redis.pcall('LLEN', KEYS[1]), redis.pcall('TYPE', KEYS[1])}",
    b"redis.call('SADD', KEYS[1], 'a', 'b') return redis.call('SCARD', KEYS[1])",
    b"redis.call('SET', KEYS[1], 1) error('after a write')",
    b"redis.call('DEL', KEYS[1]) return redis.status_reply('GONE')",
    b"redis.setresp(3) return redis.call('HGETALL', KEYS[1])",
    b"return redis.call('ZADD', KEYS[1], 1, ARGV[1])",
    b"#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])",
    b"#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], 1)",
    b"#!lua flags=nope\nreturn 1",
    b"#!lua\nreturn redis.call('APPEND', KEYS[1], 'x')",
    b"return cjson.encode({KEYS, ARGV})",
    b"return redis.call('BLPOP', KEYS[1], 0)",
    b"return redis.sha1hex(ARGV[1])",
    b"syntax error",
]
LIBRARIES = [
    b"#!lua name=lib\nredis.register_function('put', function(keys, argv) "
    b"return redis.call('set', keys[1], argv[1]) end)",
    b"#!lua name=lib\nredis.register_function{function_name='peek', "
    b"callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}",
    b"#!lua name=other\nredis.register_function('two', function() return {1, redis.call('incr', "
    b"'str1')} end)\nredis.register_function('oops', function() error('oops') end)",
    b"#!lua name=other\nredis.register_function('put', function() return 9 end)",
    b"#!lua name=empty\nlocal x = 1",
    b"#!lua name=bad name\nreturn 1",
    b"#!lua\nreturn 1",
    b"#!js name=lib\nreturn 1",
    b"no shebang",
    b"#!lua name=broken\nthis is no Lua",
]
SCRIPT = st.one_of(st.sampled_from(ON_KEYS), st.sampled_from(SCRIPTS))
SHA = st.one_of(
    st.sampled_from([hashlib.sha1(each).hexdigest().encode() for each in ON_KEYS]),
    pick([b"0" * 40, b"x", b""]),
)
KEY_AND_MORE = (numkeys(st.sampled_from(ALL_KEYS)), st.lists(member, min_size=1, max_size=2))
ONE_KEY = (st.just(b"1"), st.sampled_from(ALL_KEYS), member)
FUNCTION = pick([b"put", b"peek", b"two", b"oops", b"none"])
LIBRARY = pick([b"lib", b"other", b"empty", b"none"])


def scripts() -> list[st.SearchStrategy[Argv]]:
    """EVAL and SCRIPT."""
    return [
        call(b"EVAL", st.sampled_from(ON_KEYS), *ONE_KEY),
        call(b"EVAL", SCRIPT, *ONE_KEY),
        call(b"EVAL", SCRIPT, *KEY_AND_MORE),
        call(b"EVAL_RO", st.sampled_from(ON_KEYS), *ONE_KEY),
        call(b"EVALSHA", SHA, *ONE_KEY),
        call(b"EVALSHA", SHA, *KEY_AND_MORE),
        call(b"EVALSHA_RO", SHA, *ONE_KEY),
        call(b"SCRIPT", case(b"LOAD"), st.sampled_from(ON_KEYS)),
        call(b"SCRIPT", case(b"EXISTS"), st.lists(SHA, min_size=1, max_size=3)),
        call(b"SCRIPT", case(b"FLUSH"), option(case(b"SYNC", b"ASYNC", b"NOW"))),
        call(b"SCRIPT", case(b"KILL")),
        call(b"SCRIPT", case(b"HELP", b"NOPE")),
    ]


def functions() -> list[st.SearchStrategy[Argv]]:
    """FUNCTION and FCALL."""
    return [
        call(b"FUNCTION", case(b"LOAD"), st.sampled_from(LIBRARIES)),
        call(b"FUNCTION", case(b"LOAD"), case(b"REPLACE", b"NOPE"), st.sampled_from(LIBRARIES)),
        call(b"FCALL", FUNCTION, *ONE_KEY),
        call(b"FCALL", FUNCTION, *KEY_AND_MORE),
        call(b"FCALL_RO", FUNCTION, *ONE_KEY),
        call(b"FUNCTION", case(b"DELETE"), LIBRARY),
        call(b"FUNCTION", case(b"FLUSH"), option(case(b"SYNC", b"ASYNC", b"NOW"))),
        call(b"FUNCTION", case(b"LIST"), option(case(b"WITHCODE", b"NOPE"))),
        call(b"FUNCTION", case(b"LIST"), case(b"LIBRARYNAME"), pick([b"lib", b"*", b"n?ne"])),
        call(b"FUNCTION", case(b"STATS")),
        call(b"FUNCTION", case(b"DUMP")),
        call(b"FUNCTION", case(b"RESTORE"), pick([EMPTY_DUMP], [b"", b"broken"]), RESTORING),
        call(b"FUNCTION", case(b"KILL")),
        call(b"FUNCTION", case(b"HELP", b"NOPE")),
    ]


RESTORING = option(case(b"APPEND", b"REPLACE", b"FLUSH", b"NOPE"))
EMPTY_DUMP = b"\n\x00\xe5\xce\x0c.\x83\xd5\x1e\xaf"
