"""lz4 on the link: frames, how it is agreed on, and what a corrupt frame does."""

from __future__ import annotations

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvrepl.replication import actions as do
from kvrepl.replication import wire
from kvrepl.replication.compression import (
    MAX_CONTENT_BYTES,
    CorruptFrame,
    Decompressor,
    compress,
)
from kvrepl.replication.report import info_fields
from kvrepl.replication.states import State
from tests.unit.replication.machines import ID, MasterShell, ReplicaShell, texts

SET = wire.command(b"SET", b"k", b"v" * 1000)


# --- frames ---------------------------------------------------------------------------------------


def cut(data: bytes, every: int) -> list[bytes]:
    return [data[at : at + every] for at in range(0, len(data), every)]


@given(
    contents=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=8),
    every=st.integers(1, 400),
)
def test_frames_cut_anywhere_give_what_was_compressed(contents: list[bytes], every: int) -> None:
    wired = b"".join(map(compress, contents))
    decompressor = Decompressor(0)
    got = [decompressor.feed(piece, 0) for piece in cut(wired, every)]
    assert b"".join(got) == b"".join(contents)
    assert decompressor.traffic.raw_bytes == len(b"".join(contents))
    assert decompressor.traffic.wire_bytes == len(wired)


def test_each_write_can_be_read_at_once() -> None:
    decompressor = Decompressor(0)
    for content in (b"\n", SET, b"x", SET * 100):
        assert decompressor.feed(compress(content), 0) == content


def test_large_write_becomes_several_frames_that_any_lz4_reads() -> None:
    content = bytes(range(256)) * 4096
    frames = compress(memoryview(content))
    assert frames.count(b"\x04\x22\x4d\x18") == len(content) // MAX_CONTENT_BYTES
    assert Decompressor(0).feed(frames, 0) == content
    first = lz4.frame.decompress(frames[: frames.index(b"\x04\x22\x4d\x18", 4)])
    assert first == content[:MAX_CONTENT_BYTES]


def test_flipped_bit_never_gives_other_content() -> None:
    content = b"some bytes that are worth a frame " * 3
    frame = compress(content)
    for bit in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert Decompressor(0).feed(bytes(damaged), 0) in (b"", content)
        except CorruptFrame:
            pass


@pytest.mark.parametrize(
    "data",
    [
        b"*1\r\n$4\r\nping\r\n",
        lz4.frame.compress(b"x" * 100, content_checksum=False),
        b"\x04\x22\x4d\x18\x64\x50\x08" + (MAX_CONTENT_BYTES + 1).to_bytes(4, "little"),
        b"\x04\x22\x4d\x18\x64\x50\x08" + bytes(4),
    ],
)
def test_what_is_no_frame_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFrame):
        Decompressor(0).feed(data, 0)


def test_wait_for_the_rest_of_a_frame_is_timed_from_the_last_whole_one() -> None:
    decompressor = Decompressor(0)
    frame = compress(SET)
    decompressor.feed(frame, 1000)
    assert decompressor.waiting_ms(9000) == 0
    decompressor.feed(frame + frame[:5], 9000)
    decompressor.feed(frame[5:6], 9500)
    assert decompressor.waiting_ms(10_000) == 1000
    decompressor.feed(frame[6:], 10_000)
    assert decompressor.waiting_ms(11_000) == 0


# --- the master -----------------------------------------------------------------------------------


def compressing(master: str = "lz4", *, capa: bool = True) -> MasterShell:
    shell = MasterShell(repl_diskless_sync=False, repl_compression=master)
    shell.modern(1)
    if capa:
        shell.replconf(1, b"capa", b"lz4")
    return shell


@pytest.mark.parametrize(
    ("setting", "capa", "compressed"),
    [("lz4", True, True), ("lz4", False, False), ("no", True, False)],
)
def test_link_is_compressed_where_both_ends_say_so(
    setting: str, capa: bool, compressed: bool
) -> None:
    shell = compressing(setting, capa=capa)
    shell.psync(1)

    actions = shell.started()

    suffix = b" lz4\r\n" if compressed else b"\r\n"
    reply = do.SendToReplica(1, b"+FULLRESYNC %b 0%b" % (shell.repl.history.replid, suffix))
    at = actions.index(reply)
    assert [type(a) for a in actions[at + 1 : at + 2]] == [do.CompressLink] * compressed


def test_partial_resync_is_compressed_as_well_and_counts_plain_bytes() -> None:
    shell = compressing()
    shell.online(1)
    shell.repl.stream.feed(0, SET)
    end = shell.repl.history.offset
    shell.keep(shell.master.on_closed(1, 0))
    shell.modern(2)
    shell.replconf(2, b"capa", b"lz4")

    actions = shell.psync(2, shell.repl.history.replid, wire.to_wire(end - len(SET)))

    assert actions[1] == do.SendToReplica(2, b"+CONTINUE %b lz4\r\n" % shell.repl.history.replid)
    assert isinstance(actions[2], do.CompressLink)
    assert shell.read(2) == SET


def test_info_tells_ratio_and_speed_of_a_compressed_link() -> None:
    shell = compressing()
    shell.online(1)
    link = shell.master.find(1)
    assert link is not None and link.traffic is not None
    link.traffic.add(3000, 1000)
    shell.now_ms += 2000
    assert dict(info_fields(shell.repl, shell.now_ms))["kvrepl_compression0"] == (
        "peer=10.0.0.1:7001,codec=lz4,raw_bytes=3000,wire_bytes=1000,ratio=3.00,"
        "raw_bytes_per_second=1500"
    )


# --- the replica ----------------------------------------------------------------------------------


def connected(repl_timeout: int = 60) -> ReplicaShell:
    """A replica that has been granted a compressed link, up to the stream."""
    shell = ReplicaShell(repl_compression="lz4", repl_timeout=repl_timeout)
    shell.to_psync()
    payload = compress(b"\n") + compress(b"$3\r\nRDB")
    shell.receive(b"+FULLRESYNC %b 42 lz4\r\n" % ID + payload)
    shell.loaded()
    shell.sent()
    shell.done.clear()
    return shell


@pytest.mark.parametrize(("setting", "told"), [("lz4", True), ("no", False)])
def test_replica_declares_lz4_where_it_is_set(setting: str, told: bool) -> None:
    shell = ReplicaShell(repl_compression=setting)
    shell.connect()
    shell.receive(b"+PONG\r\n")
    assert (b"$4\r\ncapa\r\n$3\r\nlz4\r\n" in shell.sent()) == told


def test_everything_after_the_line_is_taken_out_of_frames_in_any_cut() -> None:
    mark = b"m" * 40
    plain = [b"\n", b"$EOF:%b\r\n" % mark, b"RDB", mark]
    data = b"+FULLRESYNC %b 42 lz4\r\n" % ID + b"".join(map(compress, plain))
    for every in (1, 3, 50, 1000):
        shell = ReplicaShell(repl_compression="lz4")
        shell.to_psync()
        for piece in cut(data, every):
            shell.receive(piece)
        chunks = [a.data for a in shell.done if isinstance(a, do.Chunk)]
        assert b"".join(chunks) == b"RDB"
        assert shell.replica.state is State.LOADING
        shell.loaded()
        assert shell.receive(compress(SET)) == [do.ApplyStream(SET)]


def test_offset_counts_what_is_inside_the_frames() -> None:
    shell = connected()
    assert shell.repl.history.offset == 42
    shell.receive(compress(SET)[:20])
    assert shell.replica.pending.bytes == 0
    shell.receive(compress(SET)[20:])
    shell.replica.applied(len(SET), 0)
    assert shell.repl.history.offset == 42 + len(SET)
    traffic = dict(info_fields(shell.repl, 0))["kvrepl_master_compression"]
    assert f"codec=lz4,raw_bytes={len(SET) + 8}," in str(traffic)


def test_corrupt_frame_cuts_the_link_which_is_resumed_where_it_stood() -> None:
    shell = connected()
    shell.receive(compress(SET))
    shell.replica.applied(len(SET), 0)
    damaged = bytearray(compress(SET))
    damaged[-1] ^= 1

    actions = shell.receive(compress(SET) + bytes(damaged))

    assert "Corrupt data from MASTER m:6379, cutting the link to resume it: lz4 frame" in texts(
        actions
    )
    assert [a for a in actions if not isinstance(a, do.Log)] == [
        do.Close(),
        do.LinkDown(),
        do.Connect("m", 6379),
    ]
    shell.to_psync()
    assert wire.psync(ID, 42 + len(SET)) in shell.sent()
    shell.receive(b"+CONTINUE\r\n")
    assert shell.receive(SET) == [do.ApplyStream(SET)], "the new link is not compressed"


def test_corrupt_frame_in_a_snapshot_begins_it_anew() -> None:
    shell = ReplicaShell(repl_compression="lz4")
    shell.to_psync()
    shell.receive(b"+FULLRESYNC %b 42 lz4\r\n" % ID + compress(b"$300\r\nRDB"))

    actions = shell.receive(b"RDB")

    kinds = [type(a) for a in actions if not isinstance(a, do.Log)]
    assert kinds == [do.Close, do.AbortTransfer, do.Connect]


def test_corrupt_frame_during_the_load_does_not_waste_it() -> None:
    shell = ReplicaShell(repl_compression="lz4")
    shell.to_psync()
    shell.receive(b"+FULLRESYNC %b 42 lz4\r\n" % ID + compress(b"$3\r\nRDB"))
    assert do.Close() in shell.receive(b"garbage")

    shell.loaded()

    assert shell.repl.history.offset == 42
    assert shell.replica.state is State.CONNECTING


def test_frame_that_never_ends_times_out() -> None:
    shell = connected(repl_timeout=10)
    shell.receive(compress(SET)[:30])
    shell.tick(10)
    shell.receive(compress(SET)[30:31])

    assert "MASTER timeout" in texts(shell.tick(1))
