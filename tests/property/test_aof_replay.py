"""Laws of the append-only file's decoder that hold for every log."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kvrepl.persistence.aof import AofReplay, Command, EndKind, timestamp

WORD = st.binary(max_size=12) | st.sampled_from([b"\r\n*1\r\n$4\r\nEXEC\r\n", b"#TS:1\r\n", b"$3"])
PLAIN = st.lists(WORD, min_size=1, max_size=4).filter(
    lambda argv: argv[0].upper() not in (b"MULTI", b"EXEC", b"DISCARD")
)
ITEM = (
    PLAIN.map(lambda argv: [argv])
    | st.lists(PLAIN, max_size=4).map(lambda inner: [[b"MULTI"], *inner, [b"eXeC"]])
    | st.integers(0, 2**33).map(lambda second: [[timestamp(second)]])
)
HISTORY = st.lists(ITEM, max_size=8)


def encode(argv: list[bytes]) -> bytes:
    if len(argv) == 1 and argv[0].startswith(b"#TS:") and argv[0].count(b"\r\n") == 1:
        return argv[0]
    return b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in argv)


def meaning(history: list[list[list[bytes]]]) -> list[list[bytes]]:
    """The commands of a history: all but the words around transactions, and annotations."""
    return [
        argv
        for item in history
        for argv in item
        if encode(argv)[:1] != b"#" and argv[0].upper() not in (b"MULTI", b"EXEC")
    ]


def replayed(pieces: list[bytes]) -> tuple[AofReplay, list[Command]]:
    replay = AofReplay()
    return replay, [command for piece in pieces for command in replay.feed(piece)]


def split(text: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@given(HISTORY, st.lists(st.integers(0, 10_000), max_size=6))
def test_log_in_any_pieces_gives_its_commands(
    history: list[list[list[bytes]]], cuts: list[int]
) -> None:
    text = b"".join(encode(argv) for item in history for argv in item)
    whole, in_one = replayed([text])
    pieces, in_many = replayed(split(text, cuts))
    assert [argv for argv, _ in in_one] == meaning(history)
    assert in_many == in_one
    assert pieces.finish() == whole.finish()
    assert whole.finish()[:3] == (
        EndKind.WHOLE,
        whole.valid_up_to_bytes,
        len(text),
    )


@given(HISTORY, st.integers(0, 10_000))
def test_log_cut_anywhere_gives_a_prefix_that_a_repair_keeps(
    history: list[list[list[bytes]]], cut: int
) -> None:
    text = b"".join(encode(argv) for item in history for argv in item)
    _, all_of_it = replayed([text])
    head = text[: cut % (len(text) + 1)]
    replay, got = replayed([head])
    end = replay.finish()
    assert end.kind is not EndKind.BAD_FORMAT
    assert got == all_of_it[: len(got)]
    repaired, again = replayed([head[: end.valid_up_to_bytes]])
    assert again == got
    assert repaired.finish().kind is EndKind.WHOLE
    # Never half a transaction: what was kept is what whole items of the history mean.
    means = [len(meaning(history[:count])) for count in range(len(history) + 1)]
    assert len(got) in means


@given(HISTORY, st.binary(max_size=30), st.integers(0, 10_000), st.lists(st.integers(0, 10_000)))
def test_log_with_foreign_bytes_gives_the_same_in_any_pieces(
    history: list[list[list[bytes]]], foreign: bytes, at: int, cuts: list[int]
) -> None:
    text = b"".join(encode(argv) for item in history for argv in item)
    at %= len(text) + 1
    text = text[:at] + foreign + text[at + len(foreign) // 2 :]
    whole, in_one = replayed([text])
    pieces, in_many = replayed(split(text, cuts))
    assert in_many == in_one
    assert pieces.finish() == whole.finish()
    assert whole.finish().valid_up_to_bytes <= len(text)
