"""Whatever is fed, read, trimmed and resized, every reader gets exactly the stream."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kvrepl.replication.backlog import MIN_LIMIT_BYTES, Backlog, Cursor

SIZES = st.one_of(st.integers(0, 200), st.integers(1000, 9000), st.integers(15_000, 60_000))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), SIZES),
        st.tuples(st.just("read"), st.integers(0, 40_000)),
        st.tuples(st.just("open"), st.integers(0, 60_000)),
        st.tuples(st.just("close"), st.just(0)),
        st.tuples(st.just("resize"), st.integers(1, 100_000)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(0, 1 << 40), st.randoms(use_true_random=False))
def test_backlog_any_use_gives_every_reader_the_stream(
    steps: list[tuple[str, int]], base: int, rng: Random
) -> None:
    backlog = Backlog(MIN_LIMIT_BYTES, base)
    stream = bytearray()
    cursors: list[Cursor] = []
    for step, number in steps:
        if step == "feed":
            data = rng.randbytes(number)
            stream += data
            backlog.feed(data)
        elif step == "open":
            offset = max(backlog.start, backlog.end - number)
            cursors.append(backlog.cursor(offset))
        elif cursors and step == "read":
            cursor = rng.choice(cursors)
            pieces = [bytes(piece) for piece in cursor.peek(number)]
            got = b"".join(pieces)
            at = cursor.offset - base
            assert got == stream[at : at + number]
            cursor.advance(len(got))
        elif cursors and step == "close":
            cursors.pop(rng.randrange(len(cursors))).close()
        elif step == "resize":
            backlog.resize(number)
        assert backlog.end == base + len(stream)
        assert backlog.start <= min((c.offset for c in cursors), default=backlog.end)
        assert backlog.histlen >= min(len(stream), MIN_LIMIT_BYTES)
