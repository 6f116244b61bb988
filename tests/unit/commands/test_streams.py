"""Streams: what is propagated, what waits, and the ids that the differential tests cannot fix."""

from __future__ import annotations

import pytest

from kvrepl.keyspace.digest import digest_dataset
from kvrepl.persistence.snapshot import SnapshotInfo, SnapshotLoader, snapshot_chunks
from tests.unit.commands.session import START_MS, Session


def fill(session: Session, count: int = 10) -> None:
    for ms in range(1, count + 1):
        session.run("XADD", "s", f"{ms}-0", "f", ms)


def claim(entry: str, consumer: str = "ann", deliveries: int = 1, last: str = "") -> str:
    return (
        f"XCLAIM s g {consumer} 0 {entry} TIME {START_MS} RETRYCOUNT {deliveries} FORCE JUSTID"
        f" LASTID {last or entry}"
    )


def test_xadd_star_takes_the_time_and_counts_on_when_it_stands_still(session: Session) -> None:
    assert session.propagated("XADD", "s", "*", "f", "v") == [f"XADD s {START_MS}-0 f v"]
    assert session.run("XADD", "s", "*", "f", "v") == b"%d-1" % START_MS
    session.clock.ms -= 5000
    session.engine.tick()
    assert session.run("XADD", "s", "*", "f", "v") == b"%d-2" % START_MS
    assert session.propagated("XADD", "s", f"{START_MS + 1}-*", "f", "v") == [
        f"XADD s {START_MS + 1}-0 f v"
    ]


def test_xadd_and_xtrim_about_send_what_was_really_trimmed(session: Session) -> None:
    session.engine.config.stream_node_max_entries = 4
    fill(session)
    assert session.propagated("xadd", "s", "MAXLEN", "~", 5, "LIMIT", 50, "11-0", "f", "v") == [
        "xadd s MAXLEN = 7 LIMIT 50 11-0 f v"
    ]
    assert session.propagated("XTRIM", "s", "MINID", "~", "10-0") == ["XTRIM s MINID = 9-0"]
    assert session.propagated("XTRIM", "s", "MINID", "~", "9-0") == []


def test_xtrim_from_the_master_with_a_limit_trims_all_that_is_said(session: Session) -> None:
    fill(session)
    master = session.engine.internal_client()
    argv = [b"XTRIM", b"s", b"MAXLEN", b"=", b"3", b"LIMIT", b"1"]
    assert "without the special ~" in session.error(*argv)
    assert session.engine.apply(master, argv) == 7


def test_xreadgroup_sends_a_claim_for_each_entry(session: Session) -> None:
    fill(session, 2)
    session.run("XGROUP", "CREATE", "s", "g", 0)
    sent = session.propagated("XREADGROUP", "GROUP", "g", "ann", "STREAMS", "s", ">")
    assert sent == ["MULTI", claim("1-0", last="1-0"), claim("2-0"), "EXEC"]
    assert session.propagated("XREADGROUP", "GROUP", "g", "ann", "STREAMS", "s", 0) == []


def test_xreadgroup_noack_sends_where_the_group_stands(session: Session) -> None:
    fill(session, 2)
    session.run("XGROUP", "CREATE", "s", "g", 0)
    sent = session.propagated("XREADGROUP", "GROUP", "g", "ann", "NOACK", "STREAMS", "s", ">")
    assert sent == [
        "MULTI",
        "XGROUP CREATECONSUMER s g ann",
        "XGROUP SETID s g 2-0 ENTRIESREAD 2",
        "EXEC",
    ]


def test_xautoclaim_sends_claims_and_goes_on_at_its_cursor(session: Session) -> None:
    fill(session, 3)
    session.run("XGROUP", "CREATE", "s", "g", 0)
    session.run("XREADGROUP", "GROUP", "g", "ann", "STREAMS", "s", ">")
    session.run("XDEL", "s", "1-0")
    sent = session.propagated("XAUTOCLAIM", "s", "g", "bob", 0, "-", "COUNT", 2, "JUSTID")
    assert sent == ["MULTI", claim("1-0", last="3-0"), claim("2-0", "bob", 1, "3-0"), "EXEC"]
    assert session.run("XAUTOCLAIM", "s", "g", "bob", 0, "2-0", "COUNT", 1) == [
        b"3-0",
        [[b"2-0", [b"f", b"2"]]],
        [],
    ]


def test_replica_fed_with_what_is_sent_has_the_same_groups(session: Session) -> None:
    replica = Session()
    master_link = replica.engine.internal_client()
    for line in (
        "XGROUP CREATE s g $ MKSTREAM",
        "XADD s MAXLEN ~ 100 1-0 f v",
        "XADD s 2-0 f v",
        "XREADGROUP GROUP g ann COUNT 1 STREAMS s >",
        "XREADGROUP GROUP g bob STREAMS s >",
        "XCLAIM s g ann 0 2-0 RETRYCOUNT 4",
        "XACK s g 1-0",
    ):
        for sent in session.propagated(*line.split()):
            replica.engine.apply(master_link, sent.encode().split())
    pending = ("XPENDING", "s", "g", "-", "+", 10)
    assert replica.run(*pending) == session.run(*pending) == [[b"2-0", b"ann", 0, 4]]


def test_xread_blocked_is_served_and_times_out(session: Session) -> None:
    reader = session.wait("XREAD", "BLOCK", 50, "STREAMS", "s", "$")
    fill(session, 1)
    assert b"".join(reader.out) == (
        b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nf\r\n$1\r\n1\r\n"
    )
    late = session.wait("XREAD", "BLOCK", 50, "STREAMS", "s", "$")
    session.advance(50)
    assert b"".join(late.out) == b"*-1\r\n"


def test_xread_in_a_transaction_does_not_wait(session: Session) -> None:
    session.run("MULTI")
    session.run("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    assert session.run("EXEC").wire == b"*1\r\n*-1\r\n"


def test_watch_sees_entries_and_not_groups(session: Session) -> None:
    fill(session, 1)
    session.run("WATCH", "s")
    session.run("XGROUP", "CREATE", "s", "g", 0)
    assert not session.client.dirty_cas
    session.run("XADD", "s", "2-0", "f", "v")
    assert session.client.dirty_cas


def test_memory_usage_of_a_stream_grows_with_its_nodes(session: Session) -> None:
    fill(session, 1)
    small = session.run("MEMORY", "USAGE", "s", "SAMPLES", 0)
    for ms in range(2, 1000):
        session.run("XADD", "s", f"{ms}-0", "f", "x" * 40)
    assert session.run("MEMORY", "USAGE", "s", "SAMPLES", 0) > small + 40_000


@pytest.mark.parametrize("key", ["s", "empty"])
def test_copied_stream_is_apart_from_its_source(session: Session, key: str) -> None:
    fill(session, 3)
    session.run("XGROUP", "CREATE", "empty", "g", "$", "MKSTREAM")
    assert session.run("COPY", key, "twin") == 1
    session.run("XADD", "twin", "9-0", "f", "v")
    assert session.run("XLEN", "twin") == session.run("XLEN", key) + 1


def test_snapshot_keeps_streams_empty_ones_too(session: Session) -> None:
    fill(session, 3)
    session.run("XGROUP", "CREATE", "empty", "g", "$", "MKSTREAM")
    before = digest_dataset([(0, list(session.client.db.items()))])
    chunks = list(snapshot_chunks(session.engine.keyspace, SnapshotInfo(0, 0)))
    session.run("FLUSHALL")
    loader = SnapshotLoader(session.engine.keyspace)
    for chunk in chunks:
        loader.feed(chunk)
    assert loader.close().keys == 2
    assert digest_dataset([(0, list(session.client.db.items()))]) == before
    assert session.run("XINFO", "GROUPS", "empty")[0][b"name"] == b"g"


@pytest.mark.parametrize("command", ["flushall", "swapdb 0 1", "move s 3"])
def test_xreadgroup_whose_stream_goes_away_waits_no_longer(session: Session, command: str) -> None:
    session.run("xgroup", "create", "s", "g", "$", "mkstream")
    reader = session.engine.connect()
    session.engine.run(reader, [b"xreadgroup group g me block 0 streams s >".split()])
    assert reader.wait is not None

    session.run(*command.split())
    session.engine.settle()

    assert reader.wait is None
    assert reader.out == [b"-UNBLOCKED the stream key no longer exists\r\n"]
