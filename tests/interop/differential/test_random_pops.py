"""SPOP: what chance picks differs, everything about it must be alike."""

from __future__ import annotations

import pytest

from tests.interop.differential.peers import InProcess, Real

INTEGERS = [b"%d" % i for i in range(5)]
WORDS = [b"w%d" % i for i in range(60)]


@pytest.mark.parametrize(
    ("members", "count"),
    [(INTEGERS, count) for count in (None, 1, 2, 4)]
    + [(WORDS, count) for count in (None, 1, 2, 30, 57)],
)
@pytest.mark.parametrize("resp", [2, 3])
def test_spop_of_some_members_looks_as_with_redis(
    real: Real, ours: InProcess, resp: int, count: int | None, members: list[bytes]
) -> None:
    option = [] if count is None else [b"%d" % count]
    commands = [[b"SADD", b"s", *members], [b"SPOP", b"s", *option], [b"SMEMBERS", b"s"]]
    real.begin()
    connection = real.connect(resp)
    theirs = real.seen(real.run(connection, commands))
    connection.close()
    ours.begin()
    mine = ours.seen(ours.run(ours.connect(resp), commands))

    for each in (theirs, mine):
        popped = each.replies[1][1]
        picked = {text for _, text in popped} if isinstance(popped, list) else {popped}
        left = {text for _, text in each.replies[2][1]}
        sent = [argv for argv in each.propagated if argv[0] == b"SREM"]
        assert picked | left == set(members)
        assert len(left) == len(members) - (count or 1)
        assert {(argv[1], argv[2]) for argv in sent} == {(b"s", member) for member in picked}
    assert mine.replies[1][0] == theirs.replies[1][0]
    assert [a[0] for a in mine.propagated] == [a[0] for a in theirs.propagated]
    assert (mine.events, mine.dirty, mine.encodings) == (
        theirs.events,
        theirs.dirty,
        theirs.encodings,
    )
