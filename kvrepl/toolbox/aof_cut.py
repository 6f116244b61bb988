"""Cutting an append-only log: at damage, or at a moment, in place or into a new folder.

    repair = plan_repair(log)             where a damaged log would be cut, or why it cannot be
    cut = plan_cut(log, at_s)             where it ends if nothing later than a moment counts
    apply_cut(log, cut)                   in place; what is cut off is kept beside it
    restore(log, cut, target)             into a new folder; the log itself is only read
    restore_beside(folder, name, at_s)    plan_cut and restore, into a folder named after both

When was a command written? Lines `#TS:seconds` stand before the first command of each new second
(`aof-timestamp-enabled yes`), and an RDB says when it was begun. A moment is a whole second: what
was written in it counts.

    RDB, or commands that begin with a timestamp    as they say
    after a timestamp, up to the next               its second
    before the first timestamp of an increment      the second of the last one before it, in an
                                                    earlier file: a writer goes on counting

Where no timestamp up to the moment stands anywhere, before or after a command, nobody knows whether
that command counts, and `undated` says what is to be done. What was written while timestamps were
off, after a time when they were on, cannot be told from what was written in the last second
before.

Invariants: a log is cut only between commands and never inside a transaction; no byte that is cut
off is lost before its copy is durable; a new folder has its name only once it is complete.
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from kvrepl.errors import AofError
from kvrepl.persistence.aof import EndKind
from kvrepl.persistence.manifest import Layout, Manifest, persist
from kvrepl.server.disk import RealDisk
from kvrepl.toolbox.aof_scan import MANIFEST_SUFFIX, Found, Log, Part, open_log, scan

DROPPED_SUFFIX: Final = ".dropped"
COPY_BYTES: Final = 1024 * 1024

Undated = Literal["refuse", "keep", "drop"]
"""What to do about commands of which nobody knows when they were written."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a log is to end.

    Attributes:
        kept: the files that stay, in reading order; the last of them is cut.
        size_bytes: how much of the last one stays.
        dropped: the files after it.
        why: what was found there, for people.
        found: the last file, as it was read.
    """

    kept: tuple[Part, ...]
    size_bytes: int
    dropped: tuple[Part, ...]
    why: str
    found: Found

    @property
    def part(self) -> Part:
        """The file that is cut."""
        return self.kept[-1]

    @property
    def cut_bytes(self) -> int:
        """How many bytes that file loses."""
        return max((self.part.size_bytes or 0) - self.size_bytes, 0)

    @property
    def changes_anything(self) -> bool:
        """Whether the log is not already as it would be after the cut."""
        return bool(self.cut_bytes or self.dropped)


def utc(time_s: int) -> str:
    """A Unix time as people write it: 2026-11-20T09:00:00Z; what no calendar has as a number."""
    try:
        moment = datetime.fromtimestamp(time_s, UTC)
    except (ValueError, OverflowError, OSError):  # damage, for the years of a clock are fewer
        return f"second {time_s:,}"
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_moment(text: str) -> int:
    """Read a moment: Unix seconds, or ISO 8601 with its time zone.

    Returns:
        Unix seconds; a fraction is left out.

    Raises:
        ValueError: it is neither.
    """
    if text.isascii() and text.isdigit() and len(text) <= 11:
        return int(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} does not say in which time zone; add Z for UTC")
    return int(moment.timestamp() // 1)


def plan_repair(log: Log) -> Cut | None:
    """Say where a damaged log would be cut.

    Returns:
        None if it is whole.

    Raises:
        AofError: no cut can help: a file is missing, or an RDB is damaged.
        OSError: a file cannot be read.

    Cost: O(bytes).
    """
    for index, part in enumerate(log.parts):
        found = _scan_present(part, strict=True)
        if found.is_whole:
            continue
        end = found.end
        where = f"at offset {end.offset:,}" + (f": expected {end.reason}" if end.reason else "")
        why = f"{end.kind.value} {where}"
        return _cut(log, index, end.valid_up_to_bytes, found, why)
    return None


def plan_cut(log: Log, at_s: int, *, undated: Undated = "refuse") -> Cut:
    """Say where a log ends if nothing counts that was written after a moment.

    Args:
        log: the log. One that is still being written may be read: only what was whole counts.
        at_s: the moment, a Unix second.
        undated: what to do about commands that cannot be dated.

    Raises:
        AofError: the log does not hold that moment, or cannot be read up to it.
        OSError: a file cannot be read.

    Cost: O(bytes up to the moment).
    """
    walked: list[Found] = []
    for index, part in enumerate(log.parts):
        found = _scan_present(part, stop_after_s=at_s)
        walked.append(found)
        if found.written_s is not None and found.written_s > at_s:
            raise _younger(part, found.written_s, at_s)
        if found.end.kind is EndKind.BAD_FORMAT or (found.is_torn and _followed(log, index)):
            text = f"{found.end.kind.value} before {utc(at_s)}; see `kvrepl aof check`"
            raise AofError(text, path=part.name, offset=found.end.offset)
        if found.stopped:
            if not any(f.commands or f.rdb_version is not None for f in walked):
                raise _younger(part, _time_at(part, found.whole_up_to), at_s)
            break
    if not walked:
        raise AofError("the log has no files", path=str(log.folder))
    dated = any(found.last_s is not None for found in walked)
    for index, found in enumerate(walked):
        if dated or undated == "keep" or not _is_undated(found):
            continue
        if undated == "refuse" or found.part.type == "b":
            raise AofError(_undated_text(found, at_s), path=found.part.name)
        return _cut(log, index, found.rdb_bytes, found, "commands without a timestamp")
    last = len(walked) - 1
    known = [s for found in walked for s in (found.written_s, found.last_s) if s is not None]
    why = f"the last second before is {utc(known[-1])}" if known else "no time is known"
    found = walked[last]
    untouched = found.is_whole and not found.stopped
    size_bytes = found.end.offset if untouched else found.end.valid_up_to_bytes
    return _cut(log, last, size_bytes, found, why)


def apply_cut(log: Log, cut: Cut) -> list[Path]:
    """Cut a log in place. No server may be using it.

    After a copy of what is cut off, each step leaves a log that a server loads: the manifest
    without the dropped files, then the cut, then the new names of the dropped.

    Returns:
        The files that hold what was cut off.

    Raises:
        FileExistsError: what an earlier cut kept is in the way.
        OSError, StorageError: it could not be done; what is cut off already is kept.
    """
    part, saved = cut.part, []
    renames = [(p.path, p.path.with_name(p.name + DROPPED_SUFFIX)) for p in cut.dropped]
    for _, kept in renames:
        if kept.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(kept))
    if cut.cut_bytes:
        saved.append(part.path.with_name(f"{part.name}.cut-{cut.size_bytes}"))
        _copy(part.path, saved[-1], cut.size_bytes, part.size_bytes or 0)
        _sync_folder(log.folder)
    if renames:
        assert log.manifest is not None
        names = {dropped.name for dropped in cut.dropped}
        incr = tuple(file for file in log.manifest.incr if file.name not in names)
        folder = log.folder.resolve()
        persist(RealDisk(str(folder.parent)), log.layout, replace(log.manifest, incr=incr))
    if cut.cut_bytes:
        with open(part.path, "r+b") as file:
            file.truncate(cut.size_bytes)
            os.fsync(file.fileno())
    for path, kept in renames:
        if path.exists():
            os.rename(path, kept)
            saved.append(kept)
    _sync_folder(log.folder)
    return saved


def restore(log: Log, cut: Cut, target: Path) -> Log:
    """Write a log that ends at a cut into a new folder.

    Args:
        log: the log; only read.
        cut: plan_cut of it.
        target: the folder; it must not exist yet, or be empty.

    Returns:
        The new log, which has been read again and found whole.

    Raises:
        FileExistsError: there is something at `target`.
        OSError, StorageError: it could not be written, or would be inside the log; nothing is left
            at `target`.

    Cost: O(bytes).
    """
    assert log.manifest is not None
    target = Path(os.path.abspath(target))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            errno.EEXIST, "there is something already; name a new folder", str(target)
        )
    if target.resolve().is_relative_to(log.folder.resolve()):
        raise OSError(errno.EINVAL, "inside the log, which is only read", str(target))
    temp = target.with_name(f"{target.name}.partial-{os.getpid()}")
    temp.mkdir()
    try:
        for part in cut.kept:
            size_bytes = cut.size_bytes if part is cut.part else part.size_bytes or 0
            _copy(part.path, temp / part.name, 0, size_bytes)
        names = {part.name for part in cut.kept}
        incr = tuple(file for file in log.manifest.incr if file.name in names)
        layout = Layout(log.layout.filename, temp.name)
        persist(RealDisk(str(temp.parent)), layout, Manifest(log.manifest.base, (), incr))
        written = open_log(temp)
        for part in written.parts:
            assert _scan_present(part).is_whole, f"{part.name} was not copied whole"
        os.rename(temp, target)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    _sync_folder(target.parent)
    return open_log(target / (log.layout.filename + MANIFEST_SUFFIX))


def restore_beside(folder: Path, filename: str, at_s: int) -> tuple[Log, Cut]:
    """Restore a log into a folder beside its own: appendonlydir-20261120T090000Z.

    Args:
        folder: the folder of the log; only read.
        filename: what the names of its files begin with (appendfilename).
        at_s: the moment, a Unix second.

    Returns:
        The new log, and where it was cut.

    Raises:
        AofError: the log does not hold that moment, or cannot be read up to it.
        FileExistsError: that folder is there, or is the one that was given.
        OSError, StorageError: see restore.

    Cost: O(bytes).
    """
    suffix = datetime.fromtimestamp(at_s, UTC).strftime("-%Y%m%dT%H%M%SZ")
    if folder.name.endswith(suffix):
        text = "it was restored to that moment already; to go on with it, leave the moment out"
        raise FileExistsError(errno.EEXIST, text, str(folder))
    log = open_log(folder / (filename + MANIFEST_SUFFIX))
    cut = plan_cut(log, at_s)
    return restore(log, cut, folder.with_name(folder.name + suffix)), cut


def _scan_present(part: Part, *, stop_after_s: int | None = None, strict: bool = False) -> Found:
    if part.size_bytes is None:
        raise AofError("the manifest names it, and it is not there", path=part.name)
    found = scan(part, stop_after_s=stop_after_s, strict=strict)
    if found.rdb_error is not None:
        raise AofError(
            f"its RDB is damaged: {found.rdb_error.message}",
            path=part.name,
            offset=found.rdb_error.offset,
        )
    return found


def _cut(log: Log, index: int, size_bytes: int, found: Found, why: str) -> Cut:
    return Cut(log.parts[: index + 1], size_bytes, log.parts[index + 1 :], why, found)


def _followed(log: Log, index: int) -> bool:
    """Whether commands follow in a later file."""
    return any(part.size_bytes for part in log.parts[index + 1 :])


def _younger(part: Part, written_s: int, at_s: int) -> AofError:
    return AofError(
        f"the {part.role} was written at {utc(written_s)}, after {utc(at_s)}: what was before it is"
        " no longer in this log. Take a copy of the folder from before that time",
        path=part.name,
    )


def _is_undated(found: Found) -> bool:
    """Whether it holds what has no date of its own."""
    return bool(found.undated) or (found.rdb_version is not None and found.written_s is None)


def _undated_text(found: Found, at_s: int) -> str:
    what = f"{found.undated:,} commands from offset {found.rdb_bytes:,} on have no timestamp"
    if not found.undated:
        what = "the RDB does not say when it was written"
    if found.stopped:
        what += f" (the first is {utc(_time_at(found.part, found.whole_up_to))})"
    choice = "--undated keep counts them"
    if found.part.type != "b":
        choice += ", --undated drop does not"
    return (
        f"{what}, so nobody knows whether that was before {utc(at_s)}. Timestamps are written with"
        f" aof-timestamp-enabled yes. {choice}"
    )


def _time_at(part: Part, offset: int) -> int:
    """The timestamp that stands at an offset, where a walk met it and stopped."""
    with open(part.path, "rb") as file:
        file.seek(offset)
        return int(file.readline().removeprefix(b"#TS:"))


def _copy(source: Path, target: Path, start: int, end: int) -> None:
    """Copy a range of bytes into a new file, durably."""
    with open(source, "rb") as reader, open(target, "xb") as writer:
        reader.seek(start)
        left = end - start
        while left > 0:
            chunk = reader.read(min(left, COPY_BYTES))
            if not chunk:
                raise OSError(errno.EIO, "the file became shorter while it was read", str(source))
            writer.write(chunk)
            left -= len(chunk)
        writer.flush()
        os.fsync(writer.fileno())


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
