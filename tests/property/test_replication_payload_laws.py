"""A snapshot on the wire is the same however its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kvrepl.errors import ProtocolError
from kvrepl.replication.payload import FramingError, Payload

MARK = b"29b1f52329b1f52329b1f52329b1f52329b1f523"
# Bodies full of what looks like the mark's beginning, its middle, or nearly all of it.
LOOKALIKES = st.sampled_from([MARK[:1], MARK[:8], MARK[:20], MARK[:39], MARK[1:], b"\n", b"$"])
BODIES = st.lists(st.one_of(st.binary(max_size=30), LOOKALIKES), max_size=20).map(b"".join)


def receive(payload: Payload, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    body, rest = b"", b""
    for at, to in pairwise(edges):
        if payload.done:
            rest += data[at:to]
            continue
        chunk, left = payload.take(data[at:to])
        assert payload.done or not left
        body += chunk
        rest += left
    return body, rest


@given(BODIES, st.binary(max_size=50), st.lists(st.integers(0, 5000), max_size=30))
def test_payload_with_mark_ends_at_the_mark_in_any_cut(
    body: bytes, after: bytes, cuts: list[int]
) -> None:
    whole = body + MARK + after
    body = whole[: whole.find(MARK)]
    payload = Payload.announced_by(b"$EOF:" + MARK)
    got, rest = receive(payload, whole, cuts)
    assert payload.done
    assert got == body
    assert rest == whole[len(body) + len(MARK) :]
    assert payload.read_bytes == len(body)


@given(BODIES, st.binary(max_size=50), st.lists(st.integers(0, 5000), max_size=30))
def test_payload_with_length_ends_at_the_length_in_any_cut(
    body: bytes, after: bytes, cuts: list[int]
) -> None:
    payload = Payload.announced_by(b"$%d" % len(body))
    assert payload.done == (not body)
    assert receive(payload, body + after, cuts) == (body, after)
    assert payload.done


@given(st.binary(min_size=1, max_size=80))
def test_payload_line_of_any_bytes_is_a_payload_or_our_error(line: bytes) -> None:
    try:
        payload = Payload.announced_by(line)
    except FramingError as error:
        assert isinstance(error, ProtocolError)
    else:
        assert payload.mark or payload.size_bytes >= 0
