"""The bytes that two ends of a replication link say to each other, and the one place of the +1.

An *offset* in this package is the number of bytes of the stream applied so far. The wire names
the next byte instead: PSYNC asks for `offset + 1`, and `second_repl_offset` and
`repl_backlog_first_byte_offset` of INFO count the same way. `to_wire` and `from_wire` are the
only place where the two are exchanged.

Case matters to peers and to the byte count: PING of the handshake is upper case, ping of the
stream is lower case, SELECT, REPLCONF and PSYNC are upper case.

Source: the command stream and handshake of Redis 7.0 (replication.c), as seen on the wire.
"""

from __future__ import annotations

from typing import Final

from kvrepl.numbers import parse_int

REPLID_LENGTH: Final = 40
NO_REPLID: Final = b"0" * REPLID_LENGTH
"""How an id that is not set is shown (`master_replid2` of a fresh server)."""

HANDSHAKE_PING: Final = b"*1\r\n$4\r\nPING\r\n"
STREAM_PING: Final = b"*1\r\n$4\r\nping\r\n"
GETACK: Final = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"
SYNC: Final = b"SYNC\r\n"
KEEPALIVE: Final = b"\n"
"""Sent by either side where no stream flows; counts for nothing in the offset."""

NO_OFFSET: Final = -1
"""What a replica acknowledges that was told no offset (SYNC)."""

LZ4_FOLLOWS: Final = b" lz4"
"""Ends the reply to PSYNC of who declared `capa lz4`, where all that follows is compressed."""

EOF_MARK_LENGTH: Final = 40
MAX_LINE_BYTES: Final = 1024
"""The longest reply line a replica reads during a handshake (Redis reads 256, payload 1024)."""


def is_replid(name: bytes) -> bool:
    """Tell whether a peer or a file names a history: forty visible ASCII characters. O(1).

    Redis makes hexadecimal ids; others are taken as they are, as it does itself.
    """
    return len(name) == REPLID_LENGTH and name.isascii() and name.decode().isprintable()


def to_wire(offset: int) -> int:
    """Return the number by which the wire names the byte after `offset` applied ones. O(1)."""
    return offset + 1


def from_wire(next_byte: int) -> int:
    """Return the applied offset of a peer that asks for `next_byte`. O(1)."""
    return next_byte - 1


def command(*arguments: bytes) -> bytes:
    """Encode one command as a RESP array of bulk strings.

    Args:
        arguments: the verb and its arguments, as bytes.

    Returns:
        The encoded command. O(total length).
    """
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


def select(db: int) -> bytes:
    """Return the SELECT that a master injects when its stream moves to database `db`. O(1)."""
    return command(b"SELECT", b"%d" % db)


def capabilities(*, lz4: bool) -> bytes:
    """Return the REPLCONF by which a replica says what it can take. O(1)."""
    words = [b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]
    return command(*words, b"capa", b"lz4") if lz4 else command(*words)


def acknowledge(offset: int) -> bytes:
    """Return REPLCONF ACK for `offset` bytes of stream applied. O(1)."""
    return command(b"REPLCONF", b"ACK", b"%d" % offset)


def psync(replid: bytes, offset: int, *, failover: bool = False) -> bytes:
    """Return the PSYNC that asks to go on after `offset` bytes of the history `replid`.

    Args:
        replid: the id of the history, 40 hex characters.
        offset: bytes of it that are applied here.
        failover: ask the peer to promote itself first (planned failover).
    """
    words = [b"PSYNC", replid, b"%d" % to_wire(offset)]
    if failover:
        words.append(b"FAILOVER")
    return command(*words)


PSYNC_ANYTHING: Final = command(b"PSYNC", b"?", b"-1")
"""The PSYNC of a replica that has nothing to go on from; always answered by a full sync."""


def full_resync(replid: bytes, offset: int, *, lz4: bool = False) -> bytes:
    """Return the reply that announces a snapshot of `replid` at `offset`. O(1).

    Args:
        replid, offset: of the snapshot.
        lz4: whether all that follows is compressed.
    """
    return b"+FULLRESYNC %b %d%b\r\n" % (replid, offset, LZ4_FOLLOWS if lz4 else b"")


def partial_resync(replid: bytes, *, names_id: bool, lz4: bool = False) -> bytes:
    """Return the reply that grants a partial resynchronization.

    Args:
        replid: the master's present id.
        names_id: whether the replica declared `capa psync2` and so reads an id here.
        lz4: whether all that follows is compressed.
    """
    name = b" " + replid if names_id else b""
    return b"+CONTINUE%b%b\r\n" % (name, LZ4_FOLLOWS if lz4 else b"")


def parse_full_resync(line: bytes) -> tuple[bytes | None, int]:
    """Split `+FULLRESYNC <id> <offset>`.

    Args:
        line: the reply line without its line end.

    Returns:
        (id, offset); the id is None where the line is malformed, in which case the snapshot
        that follows is still good but no later PSYNC can succeed.
        Source: replication.c, slaveTryPartialResynchronization.
    """
    words = line.split(b" ")
    if len(words) != 3 or not is_replid(words[1]):
        return None, 0
    offset = parse_int(words[2])
    if offset is None or offset < 0:
        return None, 0
    return words[1], offset
