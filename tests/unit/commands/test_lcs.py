"""LCS: the longest common subsequence against the table that defines it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.commands.session import Session

few_letters = st.one_of(
    st.text("ab", max_size=40), st.text("abcdef", max_size=40), st.text("01", max_size=70)
).map(str.encode)


@pytest.fixture
def texts(session: Session) -> Session:
    """Give the two strings of Redis's documentation, and a list."""
    session.run("MSET", "a", "ohmytext", "b", "mynewtext")
    session.run("RPUSH", "list", "x")
    return session


def by_table(a: bytes, b: bytes) -> tuple[bytes, list[list[Any]]]:
    """Give the subsequence and its pieces by the whole table, going back as Redis does."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, left in enumerate(a, 1):
        for j, right in enumerate(b, 1):
            longer = max(table[i - 1][j], table[i][j - 1])
            table[i][j] = table[i - 1][j - 1] + 1 if left == right else longer
    i, j, backwards = len(a), len(b), bytearray()
    pieces: list[list[Any]] = []
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            backwards.append(a[i])
            if pieces and pieces[-1][0][0] == i + 1 and pieces[-1][1][0] == j + 1:
                pieces[-1] = [[i, pieces[-1][0][1]], [j, pieces[-1][1][1]]]
            else:
                pieces.append([[i, i], [j, j]])
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return bytes(backwards[::-1]), pieces


@given(few_letters, few_letters)
def test_lcs_of_any_strings_agrees_with_the_table(a: bytes, b: bytes) -> None:
    session = Session()
    session.run("MSET", "a", a, "b", b)
    subsequence, pieces = by_table(a, b)

    assert session.run("LCS", "a", "b") == subsequence
    assert session.run("LCS", "a", "b", "LEN") == len(subsequence)
    told = session.run("LCS", "a", "b", "IDX", "WITHMATCHLEN")
    assert told == {
        b"matches": [[a, b, a[1] - a[0] + 1] for a, b in pieces],
        b"len": len(subsequence),
    }


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        ((), b"mytext"),
        (("len",), 6),
        (("LEN", "WITHMATCHLEN", "MINMATCHLEN", 5), 6),
        (("MINMATCHLEN", 5), b"mytext"),
        (("IDX",), {b"matches": [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], b"len": 6}),
        (("IDX", "MINMATCHLEN", 3), {b"matches": [[[4, 7], [5, 8]]], b"len": 6}),
        (("IDX", "MINMATCHLEN", -3, "WITHMATCHLEN"), {
            b"matches": [[[4, 7], [5, 8], 4], [[2, 3], [0, 1], 2]], b"len": 6,
        }),
    ],
)  # fmt: skip
def test_lcs_options_choose_what_is_told(
    texts: Session, options: tuple[object, ...], reply: object
) -> None:
    assert texts.run("LCS", "a", "b", *options) == reply


def test_lcs_with_a_missing_key_is_empty(texts: Session) -> None:
    assert texts.run("LCS", "a", "none") == b""
    assert texts.run("LCS", "none", "a", "LEN") == 0
    assert texts.run("LCS", "none", "other", "IDX") == {b"matches": [], b"len": 0}


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("LCS", "a", "list", "NONSENSE"), "ERR The specified keys must contain string values"),
        (("LCS", "a", "b", "MINMATCHLEN"), "ERR syntax error"),
        (("LCS", "a", "b", "MINMATCHLEN", "x"), "ERR value is not an integer or out of range"),
        (("LCS", "a", "b", "IDX", "LEN"), "ERR If you want both the length and indexes, please"),
    ],
)
def test_lcs_of_bad_arguments_is_refused(
    texts: Session, command: tuple[object, ...], text: str
) -> None:
    assert texts.error(*command).startswith(text)


def test_lcs_whose_table_would_exceed_the_limit_is_refused_as_by_redis(session: Session) -> None:
    session.engine.config.proto_max_bulk_len = 4 * 11 * 21
    session.run("MSET", "a", "x" * 10, "b", "x" * 20, "c", "x" * 21)

    assert session.run("LCS", "a", "b", "LEN") == 10
    assert session.error("LCS", "a", "c", "LEN").startswith("ERR Insufficient memory, transient")


def test_lcs_of_a_short_and_a_very_long_string_takes_no_step_for_each_byte(
    session: Session,
) -> None:
    session.run("MSET", "a", "ba", "b", "a" * 3_000_000)

    assert session.run("LCS", "a", "b", "IDX") == {
        b"matches": [[[1, 1], [2_999_999, 2_999_999]]],
        b"len": 1,
    }
