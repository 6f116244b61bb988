"""The decoder of append-only files: what is whole, where it ends, what is refused."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from kvrepl.persistence.aof import (
    AofCount,
    AofReplay,
    EndKind,
    select,
    timestamp,
    unknown_command,
)

DATA = Path(__file__).parents[2] / "data" / "aof"


def encode(*argv: bytes) -> bytes:
    return b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(a), a) for a in argv)


HISTORY: list[tuple[bytes, list[list[bytes]]]] = [
    # what is written at once, and the commands that it means
    (timestamp(1_700_000_000), []),
    (select(0), [[b"SELECT", b"0"]]),
    (encode(b"SET", b"k", b"a\r\n*1\r\n"), [[b"SET", b"k", b"a\r\n*1\r\n"]]),
    (
        encode(b"multi")
        + encode(b"INCR", b"n")
        + timestamp(1_700_000_001)
        + encode(b"SET", b"", b"")
        + encode(b"EXEC"),
        [[b"INCR", b"n"], [b"SET", b"", b""]],
    ),
    (
        encode(b"RPUSH", b"l", *(b"%d" % i for i in range(20))),
        [[b"RPUSH", b"l", *(b"%d" % i for i in range(20))]],
    ),
    (encode(b"SET", b"big", b"x" * 3000), [[b"SET", b"big", b"x" * 3000]]),
]
LOG = b"".join(text for text, _ in HISTORY)


def commands(replay: AofReplay, data: bytes) -> list[list[bytes]]:
    return [argv for argv, _ in replay.feed(data)]


def test_replay_of_whole_file_gives_all_commands_and_their_offsets() -> None:
    replay = AofReplay()
    got = replay.feed(LOG)
    assert [argv for argv, _ in got] == [argv for _, means in HISTORY for argv in means]
    assert got[0][1] == len(HISTORY[0][0] + HISTORY[1][0])
    assert got[-1][1] == len(LOG)
    assert replay.finish() == (EndKind.WHOLE, len(LOG), len(LOG), "")
    assert replay.timestamp_s == 1_700_000_001


def test_replay_cut_at_every_byte_gives_a_prefix_and_never_half_a_transaction() -> None:
    boundaries = {0: 0}
    means: list[list[bytes]] = []
    prefixes = {0: 0}
    end = 0
    for text, commands_of_it in HISTORY:
        end += len(text)
        means += commands_of_it
        boundaries[end] = end
        prefixes[end] = len(means)
    for cut in range(len(LOG) + 1):
        replay = AofReplay()
        got = commands(replay, LOG[:cut])
        whole_until = max(boundary for boundary in boundaries if boundary <= cut)
        assert got == means[: prefixes[whole_until]], cut
        finish = replay.finish()
        if cut in boundaries:
            assert finish.kind is EndKind.WHOLE
            continue
        assert finish.kind in (EndKind.SHORT_READ, EndKind.OPEN_TRANSACTION)
        # Cutting the file there leaves a whole one with the same meaning.
        again = AofReplay()
        assert commands(again, LOG[: finish.valid_up_to_bytes]) == got
        assert again.finish().kind is EndKind.WHOLE


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 100, 1024])
def test_replay_fed_in_pieces_gives_the_same(piece_bytes: int) -> None:
    whole, pieces = AofReplay(), AofReplay()
    got = []
    for start in range(0, len(LOG), piece_bytes):
        got += pieces.feed(LOG[start : start + piece_bytes])
    assert got == whole.feed(LOG)
    assert pieces.finish() == whole.finish()


def test_replay_cut_after_multi_ends_before_it() -> None:
    head = encode(b"SET", b"a", b"1")
    replay = AofReplay()
    assert commands(replay, head + encode(b"MULTI") + encode(b"INCR", b"a")) == [
        [b"SET", b"a", b"1"]
    ]
    end = replay.finish()
    assert (end.kind, end.valid_up_to_bytes) == (EndKind.OPEN_TRANSACTION, len(head))


def test_replay_of_discarded_or_stray_transaction_words_gives_nothing() -> None:
    text = encode(b"EXEC") + encode(b"MULTI") + encode(b"MULTI") + encode(b"INCR", b"a")
    text += encode(b"DISCARD") + encode(b"DISCARD")
    replay = AofReplay()
    assert replay.feed(text) == []
    assert replay.finish() == (EndKind.WHOLE, len(text), len(text), "")


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (b"+OK\r\n", 0),
        (b"SET a b\r\n", 0),
        (b"\r\n", 0),
        (b"*x\r\n", 0),
        (b"*1_0\r\n", 0),
        (b"*" + b"1" * 2000, 0),
        (b"#" + b"x" * 2000, 0),
        (b"#" + b"x" * 1021 + b"\r\n", 0),
        (b"*0\r\n", 0),
        (b"*-1\r\n" + encode(b"PING"), 0),
        (b"*1\r\n:4\r\n", 4),
        (b"*1\r\n$-1\r\n", 4),
        (b"*1\r\n$3x\r\nabc\r\n", 4),
        (b"*1\r\n$" + b"9" * 30 + b"\r\n", 4),
        (b"*2\n$1\na\n$1\nb\n", 0),  # LF alone
    ],
)
def test_replay_of_bad_format_stops_there_and_keeps_what_came_before(
    text: bytes, offset: int
) -> None:
    head = encode(b"SET", b"a", b"1")
    for size in (1, len(head + text)):
        replay = AofReplay()
        got = []
        for start in range(0, len(head + text), size):
            got += commands(replay, (head + text)[start : start + size])
        assert got == [[b"SET", b"a", b"1"]]
        assert replay.feed(encode(b"PING")) == []
        end = replay.finish()
        assert end[:3] == (EndKind.BAD_FORMAT, len(head), len(head) + offset)
        assert end.reason


def test_replay_of_the_longest_annotation_goes_on_after_it() -> None:
    assert commands(AofReplay(), b"#" + b"x" * 1020 + b"\r\n" + encode(b"PING")) == [[b"PING"]]


def test_replay_after_preamble_counts_from_its_offset() -> None:
    replay = AofReplay(1000)
    assert replay.feed(encode(b"PING")) == [([b"PING"], 1014)]
    replay.feed(b"*1\r\n$4")
    assert replay.finish() == (EndKind.SHORT_READ, 1014, 1020, "the rest of a command")


def test_replay_until_a_moment_ignores_what_was_written_later() -> None:
    text = timestamp(10) + encode(b"A") + timestamp(11) + encode(b"MULTI") + encode(b"B")
    first = len(timestamp(10) + encode(b"A"))
    replay = AofReplay(stop_after_s=10)
    assert commands(replay, text + timestamp(12) + encode(b"EXEC")) == [[b"A"]]
    assert replay.stopped
    assert replay.finish() == (EndKind.WHOLE, first, first, "")
    assert replay.feed(encode(b"C")) == []
    # A moment inside a transaction is the moment before it.
    assert commands(AofReplay(stop_after_s=11), text + timestamp(12) + encode(b"EXEC")) == [[b"A"]]


def test_end_errors_have_the_words_of_redis() -> None:
    replay = AofReplay()
    replay.feed(b"*1\r\n")
    assert (
        replay.finish()
        .error("f.aof")
        .message.startswith(
            "Unexpected end of file reading the append only file f.aof. You can: 1) Make a backup"
        )
    )
    replay.feed(b"!")
    assert replay.finish().error("f.aof").message == (
        "Bad file format reading the append only file f.aof: make a backup of your AOF file, then"
        " use ./redis-check-aof --fix <filename.manifest>"
    )
    error = unknown_command(b"b\xffd", "f.aof", 9)
    assert error.message == "Unknown command 'b\\xffd' reading the append only file f.aof"


def test_replay_of_files_by_redis_gives_their_commands() -> None:
    folder = DATA / "rewritten-once"
    base = AofReplay()
    assert sorted(argv[0] for argv, _ in base.feed(_read(folder, "2.base.aof"))) == sorted(
        [b"SELECT", b"SET", b"RPUSH", b"SET", b"SET", b"PEXPIREAT", b"ZADD", b"SELECT", b"SADD"]
    )
    assert base.finish().kind is EndKind.WHOLE
    incr = AofReplay()
    assert commands(incr, _read(folder, "2.incr.aof")) == [
        [b"SELECT", b"0"],
        [b"hset", b"hash", b"f", b"v"],
        [b"SELECT", b"3"],
        [b"srem", b"set", b"x"],
        [b"SELECT", b"0"],
        [b"INCR", b"counter"],
        [b"APPEND", b"greeting", b"!"],
    ]
    timed = AofReplay(stop_after_s=1_795_172_002)
    assert commands(timed, _read(DATA / "timestamps", "1.incr.aof")) == [
        [b"SELECT", b"0"],
        [b"set", b"a", b"1"],
        [b"INCR", b"a"],
        [b"INCR", b"a"],
    ]


def test_replay_of_legacy_file_is_whole() -> None:
    text = (DATA / "legacy-3.2.13.aof").read_bytes()
    replay = AofReplay()
    of_transactions = text.count(b"\r\nMULTI\r\n") + text.count(b"\r\nEXEC\r\n")
    assert len(replay.feed(text)) == text.count(b"\r\n*") + 1 - of_transactions
    assert replay.finish().valid_up_to_bytes == len(text)


def _read(folder: Path, suffix: str) -> bytes:
    return (folder / f"appendonly.aof.{suffix}").read_bytes()


def damaged(rng: random.Random) -> bytes:
    """The log with a few bytes changed, added or gone, mostly in what frames its arguments."""
    data = bytearray(LOG)
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(data))
        if rng.randrange(3):
            at = next((i for i in range(at, len(data)) if data[i] in b"*$\r\n0123456789"), at)
        data[at : at + rng.randrange(2)] = rng.choice((b"", b"\r", b"\n", b"0", b"*", b"#", b"7"))
    cuts = (len(data), rng.randrange(len(data)), LOG.index(encode(b"EXEC")))
    return bytes(data[: rng.choice(cuts)])


def test_count_finds_what_replay_finds_whatever_the_damage_and_the_pieces() -> None:
    rng = random.Random(3)
    kinds = Counter[EndKind]()
    for _ in range(3000):
        data = damaged(rng)
        replay, count = AofReplay(), AofCount()
        names = Counter[bytes]()
        undated = 0
        for piece in re.split(rb"(?<=\n)(?=#)", data):  # what is fed at once is on one side
            names.update(argv[0].upper() for argv, _ in replay.feed(piece))
            if replay.timestamp_s is None:
                undated = names.total()
        position = 0
        while position < len(data):
            size = rng.choice((1, 5, 60, 4000))
            assert count.feed(data[position : position + size]) == []
            position += size
        assert count.finish() == replay.finish(), data
        assert (count.offset, count.valid_up_to_bytes) == (replay.offset, replay.valid_up_to_bytes)
        assert count.timestamp_s == replay.timestamp_s
        assert count.names() == names, data
        assert (count.commands, count.undated) == (names.total(), undated), data
        kinds[count.finish().kind] += 1
    assert set(kinds) == set(EndKind)


@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
def test_strict_count_ends_at_the_first_line_end_that_is_none(piece_bytes: int) -> None:
    text = LOG.index(b"a\r\n*1\r\n")  # a value of these bytes
    ends = [
        at
        for at in range(len(LOG))
        if LOG[at : at + 2] == b"\r\n" and not text < at < text + len(b"a\r\n*1\r\n")
    ]
    whole = AofReplay()
    whole.feed(LOG)
    reasons = Counter[str]()
    for at in ends:
        data = LOG[:at] + b"\r?" + LOG[at + 2 :]
        strict, loose = AofCount(strict=True), AofCount()
        for start in range(0, len(data), piece_bytes):
            strict.feed(data[start : start + piece_bytes])
            loose.feed(data[start : start + piece_bytes])
        if loose.finish() != whole.finish():
            continue  # an annotation, which ends in LF for every reader
        before = AofReplay()
        before.feed(LOG[:at])
        kind, valid_up_to_bytes, offset, reason = strict.finish()
        assert (kind, offset) == (EndKind.BAD_FORMAT, at)
        assert (strict.offset, valid_up_to_bytes) == (before.offset, before.valid_up_to_bytes)
        reasons[reason] += 1
    assert reasons.keys() == {"CR LF after a number", "CR LF after an argument"}
    assert min(reasons.values()) > 20
