"""Random sequences of commands on keys, with transactions: everything observable as with Redis.

Times to live are given as instants, long past or far ahead, for the two sides have not the same
clock. What Redis's sort leaves to chance is not asked for: the order of elements that compare
equal by other keys' texts, and that of a set left unsorted.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.interop.differential.grammar import Argv, call, case, option, pick
from tests.interop.differential.peers import InProcess, Real
from tests.interop.differential.test_sequences import ROOM, assert_alike

pytestmark = pytest.mark.interop

KEY = st.sampled_from([b"k1", b"k2", b"l1", b"h1", b"s1", b"z1", b"i1"])
INSTANT = st.sampled_from([b"33177117420", b"33177117421", b"1", b"0", b"-5", b"x"])
INSTANT_MS = st.sampled_from([b"33177117420000", b"33177117421000", b"1", b"0", b"-5", b"x"])
NUMBERS = [b"1", b"2", b"3", b"10", b"-1", b"1.5", b"01", b"inf"]
CONDITION = option(case(b"NX", b"XX", b"GT", b"LT"))


def fillers() -> list[st.SearchStrategy[Argv]]:
    """Keys of every type, and values that change under them."""
    number = pick(NUMBERS, [b"a"])
    return [
        call(b"SET", st.sampled_from([b"k1", b"k2", b"i1", b"w_1", b"w_2"]), number),
        call(b"APPEND", st.sampled_from([b"k1", b"k2"]), number),
        call(b"RPUSH", st.just(b"l1"), number, number),
        call(b"SADD", st.just(b"s1"), number, number),
        call(b"ZADD", st.just(b"z1"), st.sampled_from([b"1", b"2"]), number),
        call(b"HSET", st.sampled_from([b"h1", b"h_1", b"h_2"]), st.just(b"f"), number),
    ]


def on_keys() -> list[st.SearchStrategy[Argv]]:
    """The commands under test."""
    return [
        call(b"DEL", KEY, KEY),
        call(b"UNLINK", KEY),
        call(b"EXISTS", KEY, KEY),
        call(b"TOUCH", KEY, KEY),
        call(b"TYPE", KEY),
        call(b"OBJECT", st.just(b"ENCODING"), KEY),
        call(b"OBJECT", st.just(b"REFCOUNT"), st.sampled_from([b"i1", b"k1", b"h1"])),
        call(b"KEYS", st.sampled_from([b"*", b"?1", b"[kl]*", b"none"])),
        call(b"DBSIZE"),
        call(b"RENAME", KEY, KEY),
        call(b"RENAMENX", KEY, KEY),
        call(b"COPY", KEY, KEY, option(case(b"REPLACE", b"ZZ"))),
        call(b"EXPIREAT", KEY, INSTANT, CONDITION, CONDITION),
        call(b"PEXPIREAT", KEY, INSTANT_MS, CONDITION),
        call(b"PERSIST", KEY),
        call(b"EXPIRETIME", KEY),
        call(b"PEXPIRETIME", KEY),
        call(b"RESTORE", KEY, st.just(b"0"), st.just(b"broken"), option(case(b"REPLACE"))),
        call(b"MOVE", KEY, st.sampled_from([b"0", b"x"])),
    ]


def sorting() -> list[st.SearchStrategy[Argv]]:
    """SORT of lists, and of sets where it decides the order.

    Not of sorted sets: Redis unpacks a small one for good when it sorts it, which is no part of
    the reply and which a reading command here does not do.
    """
    limit = option(
        case(b"LIMIT"),
        st.sampled_from([b"-1", b"0", b"1", b"9"]),
        st.sampled_from([b"-1", b"0", b"1", b"2"]),
    )
    gets = option(case(b"GET"), st.sampled_from([b"#", b"w_*", b"h_*->f", b"none"]))
    store = option(case(b"STORE"), st.sampled_from([b"l1", b"l2"]))
    order = option(case(b"ASC", b"DESC"))
    by = option(case(b"BY"), st.sampled_from([b"w_*", b"h_*->f", b"nosort"]))
    ordered = st.sampled_from([b"l1", b"l1", b"k1"])
    return [
        call(b"SORT", ordered, by, limit, gets, order, store),
        call(b"SORT", ordered, option(case(b"ALPHA")), order, limit, gets, store),
        call(b"SORT", st.just(b"s1"), option(case(b"ALPHA")), order, limit, store),
        call(b"SORT_RO", ordered, by, gets, gets, order),
    ]


def transactions() -> list[st.SearchStrategy[Argv]]:
    """Transactions begun, spoiled and ended anywhere."""
    return [
        call(b"MULTI"),
        call(b"EXEC"),
        call(b"DISCARD"),
        call(b"WATCH", KEY, KEY),
        call(b"UNWATCH"),
        call(b"SET", st.just(b"k1")),
    ]


def sequence(*groups: list[st.SearchStrategy[Argv]]) -> st.SearchStrategy[list[Argv]]:
    """Commands of these groups, as many of each."""
    return st.lists(st.one_of([st.one_of(group) for group in groups]), max_size=40)


@pytest.mark.parametrize("resp", [2, 3])
def test_commands_on_keys_in_random_order_are_answered_as_by_redis(
    real: Real, ours: InProcess, resp: int
) -> None:
    @ROOM
    @given(sequence(fillers(), on_keys()))
    def agree(commands: list[Argv]) -> None:
        assert_alike(real, ours, resp, commands)

    agree()


def test_sort_in_random_order_is_answered_as_by_redis(real: Real, ours: InProcess) -> None:
    @ROOM
    @given(sequence(fillers(), sorting()))
    def agree(commands: list[Argv]) -> None:
        assert_alike(real, ours, 2, commands)

    agree()


@pytest.mark.parametrize("resp", [2, 3])
def test_transactions_in_random_order_are_answered_as_by_redis(
    real: Real, ours: InProcess, resp: int
) -> None:
    # KEYS inside EXEC would be an array in another order; what is asked there has one answer.
    quiet = fillers() + on_keys()[:7]

    @ROOM
    @given(sequence(quiet, transactions()))
    def agree(commands: list[Argv]) -> None:
        assert_alike(real, ours, resp, commands)

    agree()
