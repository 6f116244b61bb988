"""What a reader yields.

Header          the first record of every file
Aux             a named fact about the file
Function        a function library
ModuleAux       data of a module outside any key; skipped
SelectDb        the keys that follow belong to this database
ResizeDb        how many keys follow in it
SlotInfo        how many keys follow of a cluster slot
SlotImport      a slot migration that was under way (Valkey 9)
HashTemplate    field names that hashes after it share (Redis 8.10)
KeyMetadata     data of modules that belongs to the key after it (Redis 8.6); skipped
Key             a key with its value
Part            some elements of a key that comes in parts, which only happens on request
End             the last record
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from rdb.constants import KINDS


@dataclass(frozen=True, slots=True)
class Header:
    """Magic (b"REDIS" or b"VALKEY") and version."""

    version: int
    magic: bytes = b"REDIS"


@dataclass(frozen=True, slots=True)
class Aux:
    """An auxiliary field (redis-ver, ctime, repl-id ...), unknown ones included."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Function:
    """The source text of a function library, `#!<engine> name=<name>` line included."""

    code: bytes

    @property
    def name(self) -> bytes:
        """The name of the library, empty where the first line does not tell it."""
        head, _, _ = self.code.partition(b"\n")
        named = (word for word in head.split() if word.startswith(b"name="))
        return next(named, b"").removeprefix(b"name=")


@dataclass(frozen=True, slots=True)
class ModuleAux:
    """Module data outside any key was skipped: a warning, since it is lost to the consumer."""

    module: str
    when: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SelectDb:
    """The keys that follow belong to database `db`."""

    db: int


@dataclass(frozen=True, slots=True)
class ResizeDb:
    """Sizes to prepare for: keys in the database, and those among them that expire."""

    keys: int
    expires: int


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """Sizes to prepare for: keys in a cluster slot, and those among them that expire."""

    slot: int
    keys: int
    expires: int


@dataclass(frozen=True, slots=True)
class SlotImport:
    """A slot migration under way when the file was written: its name and slot ranges."""

    job: bytes
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class HashTemplate:
    """The field names that hashes after it share; see rdb.templates."""

    template_id: int
    fields: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class KeyMetadata:
    """What modules have attached to the key that is the next record.

    Attributes:
        key: its name.
        classes: (class of the data, its version, the items with their end marker), each by its
            own framing (rdb.modules). A consumer that does not carry them on loses them.
    """

    key: bytes
    classes: tuple[tuple[str, int, bytes], ...]


class Key(NamedTuple):
    """A key with its value. A tuple, because a file has millions of these.

    Attributes:
        db: the database it belongs to.
        key: its name.
        type_code: how the value was encoded (rdb.constants.TYPE_*).
        value: see rdb.values for the form by type; the encoded bytes from a reader with
            raw_values.
        expires_at_ms: the instant it expires, wall clock, or None.
        idle_s: seconds since its last access, where an LRU policy stored it.
        freq: its access frequency counter, 0..255, where an LFU policy stored it.
    """

    db: int
    key: bytes
    type_code: int
    value: Any
    expires_at_ms: int | None = None
    idle_s: int | None = None
    freq: int | None = None

    @property
    def kind(self) -> str:
        """What TYPE answers: string, list, set, zset, hash, stream, array or module."""
        return KINDS[self.type_code]

    @property
    def is_empty(self) -> bool:
        """Whether this is a collection without elements, which Redis leaves out."""
        return KINDS[self.type_code] in _EMPTIABLE and not len(self.value)


class Part(NamedTuple):
    """Some elements of a key whose value comes in parts; see rdb.parts.

    Attributes:
        db, key, type_code, expires_at_ms, idle_s, freq: as those of a Key.
        value: in the form that a whole value of its kind has. The members of a sorted set come
            in the order of the file, which for type 5 is that of falling scores.
        number: 0 for the first part.
        is_last: whether the value ends with it.
    """

    db: int
    key: bytes
    type_code: int
    value: Any
    expires_at_ms: int | None
    idle_s: int | None
    freq: int | None
    number: int
    is_last: bool

    @property
    def kind(self) -> str:
        """What TYPE answers."""
        return KINDS[self.type_code]


_EMPTIABLE = frozenset(("list", "set", "zset", "hash", "array"))


@dataclass(frozen=True, slots=True)
class End:
    """The file is whole.

    Attributes:
        checksum: "ok"; "disabled" where the writer left it zero; "none" in versions that have
            none; "unverified" where the reader was told not to look.
    """

    checksum: str


Record = (
    Header
    | Aux
    | Function
    | ModuleAux
    | SelectDb
    | ResizeDb
    | SlotInfo
    | SlotImport
    | HashTemplate
    | KeyMetadata
    | Key
    | Part
    | End
)
