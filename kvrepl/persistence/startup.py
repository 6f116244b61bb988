"""Starting with a log: what to load, in which order, and what to refuse.

    plan = plan_startup(disk, layout)      reads names and sizes only; decides
    logs = upgrade(disk, layout, plan)     if plan.upgrade: takes over a file from before version 7
    for file in plan.files:                the shell loads each, RDB or commands (AofReplay)
        settle(disk, file, end, ...)       forgives or refuses the way it ended
    opened = open_log(disk, layout, ...)   the increment that is appended to from now on
    delete_history(disk, layout, ...)      what an interrupted rewrite left to remove

Refused, because what follows would be applied to data that is not there: a manifest that cannot
be read, a file it names that is missing, a file that is torn and not the last. A torn last file
is what a crash leaves; it is cut to its last whole command (`aof-load-truncated yes`) or refused.

With the log on, an RDB file in the working folder is not read.

Source: Redis 7.0 aof.c loadAppendOnlyFiles, aofUpgradePrepare, aofOpenIfNeededOnServerStart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from kvrepl.errors import AofError
from kvrepl.persistence.aof import AofEnd, EndKind
from kvrepl.persistence.disk import Disk, File, Log, write_durably
from kvrepl.persistence.lifecycle import child_temp
from kvrepl.persistence.manifest import Layout, Manifest, load_manifest, persist


class LoadFile(NamedTuple):
    """One file to be loaded.

    Attributes:
        name: as the manifest has it.
        path: where it is (after an upgrade).
        size_bytes: how large it was when the plan was made.
        is_base: a base; otherwise an increment.
        is_last: the only one that may be torn: no command stands in any file after it.
    """

    name: str
    path: str
    size_bytes: int
    is_base: bool
    is_last: bool


@dataclass(frozen=True, slots=True)
class StartupPlan:
    """What there is to load.

    Attributes:
        manifest: the log; empty if there is none yet.
        upgrade: the files are still those from before version 7; call `upgrade` first.
        files: in the order of loading. Empty ones are left out.
        total_bytes: of all of them.
    """

    manifest: Manifest
    upgrade: bool
    files: tuple[LoadFile, ...]
    total_bytes: int


class OpenedLog(NamedTuple):
    """The log as AppendOnlyLog.opened takes it over."""

    manifest: Manifest
    file: File
    file_bytes: int
    total_bytes: int
    logs: list[Log]


def plan_startup(disk: Disk, layout: Layout) -> StartupPlan:
    """Decide what to load. Changes nothing.

    Raises:
        AofError: the manifest is malformed (ManifestError), or names a file that is not there.
        StorageError: the disk cannot be read.
    """
    manifest = load_manifest(disk, layout)
    upgrade_due = _upgrade_due(disk, layout, manifest)
    if upgrade_due:
        manifest = Manifest.of_legacy(layout)
    files: list[LoadFile] = []
    for file in manifest:
        path = layout.path(file.name)
        size_bytes = disk.size(layout.legacy if upgrade_due else path)
        if size_bytes is None:
            raise AofError(
                f"Unable to obtain the AOF file {file.name} length. stat: No such file or"
                " directory",
                path=layout.manifest,
            )
        if size_bytes:
            files.append(LoadFile(file.name, path, size_bytes, file.type == "b", False))
    if files:
        files[-1] = files[-1]._replace(is_last=True)
    total_bytes = sum(file.size_bytes for file in files)
    return StartupPlan(manifest, upgrade_due, tuple(files), total_bytes)


def upgrade(disk: Disk, layout: Layout, plan: StartupPlan) -> list[Log]:
    """Take over the single file of an older Redis as the base.

    The manifest is written first and the file moved then; a crash in between is recognised at the
    next start (the manifest has a base that is not in the folder but outside).

    Raises:
        StorageError: it could not be done; the next start tries again.

    Source: aof.c aofUpgradePrepare.
    """
    disk.mkdir(layout.dirname)
    disk.fsync_dir("")
    persist(disk, layout, plan.manifest)
    disk.rename(layout.legacy, layout.path(layout.filename))
    disk.fsync_dir("")
    disk.fsync_dir(layout.dirname)
    text = (
        f"Successfully migrated an old-style AOF file ({layout.filename}) into the AOF directory"
        f" ({layout.dirname})."
    )
    return [Log("notice", text)]


def settle(disk: Disk, file: LoadFile, end: AofEnd, *, load_truncated: bool) -> list[Log]:
    """Accept the end of a loaded file, cut a torn one, or refuse.

    Args:
        disk: where it is.
        file: the file.
        end: AofReplay.finish.
        load_truncated: `aof-load-truncated`.

    Returns:
        What to tell the operator, nothing if all was well.

    Raises:
        AofError: the server must not start; the message is the last line of its log. The file is
            as it was.
        StorageError: the file could not be cut.
    """
    name = file.name
    if end.kind is EndKind.WHOLE:
        return []
    if end.kind is EndKind.BAD_FORMAT or not load_truncated:
        raise end.error(name)
    if not file.is_last:
        raise AofError(
            "Fatal error: the truncated file is not the last file", path=name, offset=end.offset
        )
    lines: list[str] = []
    if end.kind is EndKind.OPEN_TRANSACTION:
        lines.append(f"Revert incomplete MULTI/EXEC transaction in AOF file {name}")
    disk.truncate(file.path, end.valid_up_to_bytes)
    lines += [
        f"!!! Warning: short read while loading the AOF file {name}!!!",
        f"!!! Truncating the AOF {name} at offset {end.valid_up_to_bytes} !!!",
        f"AOF {name} loaded anyway because aof-load-truncated is enabled",
    ]
    return [Log("warning", line) for line in lines]


def open_log(
    disk: Disk,
    layout: Layout,
    manifest: Manifest,
    *,
    empty_base: Iterable[bytes],
    rdb: bool,
    pid: int,
) -> OpenedLog:
    """Open the last increment for appending; found the log where there is none.

    A log that has nothing at all gets a base, so that its files are complete from the beginning.

    Args:
        disk: where to.
        layout: the names.
        manifest: StartupPlan.manifest.
        empty_base: the base of the data as loaded, which is none; read only if it is needed.
        rdb: whether that is an RDB (`aof-use-rdb-preamble`).
        pid: of this process, for the name of a temp file.

    Raises:
        StorageError: the server must not start.
    """
    disk.mkdir(layout.dirname)
    # Also where the folder was there: the process that made it may have been killed right then.
    disk.fsync_dir("")
    found = manifest
    logs: list[Log] = []
    if manifest.is_empty:
        manifest, base = manifest.next_base(layout, rdb=rdb)
        write_durably(disk, child_temp(pid), layout.path(base.name), empty_base)
        logs.append(Log("notice", f"Creating AOF base file {base.name} on server start"))
    verb = "Opening"
    if not manifest.incr:
        manifest, _ = manifest.next_incr(layout)
        verb = "Creating"
    incr = manifest.incr[-1]
    logs.append(Log("notice", f"{verb} AOF incr file {incr.name} on server start"))
    path = layout.path(incr.name)
    file = disk.append(path)
    try:
        if manifest != found:
            persist(disk, layout, manifest)
        else:
            # An earlier process may have been killed between a rename and the sync after it.
            disk.fsync_dir(layout.dirname)
        sizes = [disk.size(layout.path(part.name)) or 0 for part in manifest]
    except BaseException:
        file.close()
        raise
    return OpenedLog(manifest, file, sizes[-1], sum(sizes), logs)


def delete_history(disk: Disk, layout: Layout, manifest: Manifest) -> tuple[Manifest, list[Log]]:
    """Remove history files on the spot.

    Returns:
        The manifest without them, and lines for the log.

    Raises:
        StorageError: some are still there, or the manifest still names them. Harmless.
    """
    if not manifest.history:
        return manifest, []
    names = [file.name for file in manifest.history]
    for name in names:
        disk.unlink(layout.path(name))
    manifest = manifest.without_history(names)
    persist(disk, layout, manifest)
    return manifest, [Log("notice", f"Removing the history file {name}") for name in names]


_TEMP_OF_PID = re.compile(r"temp-(?:rewriteaof-(?:bg-)?|\d+\.)?(\d+)\.(?:aof|rdb)")


def leftovers(disk: Disk, layout: Layout) -> list[tuple[str, int | None]]:
    """Temporary files that an earlier process may have left when it was killed.

    Returns:
        Paths, each with the pid of its writer, or None where only this log can have written it.
        Those of a process that still runs are not leftovers; the caller knows.

    Raises:
        StorageError: the folder cannot be listed.
    """
    found: list[tuple[str, int | None]] = [
        (name, int(match[1]))
        for name in disk.listdir("")
        if (match := _TEMP_OF_PID.fullmatch(name))
    ]
    if disk.is_dir(layout.dirname):
        mine = (layout.temp_manifest, layout.temp_incr)
        found += [(path, None) for path in mine if disk.size(path) is not None]
    return found


def _upgrade_due(disk: Disk, layout: Layout, manifest: Manifest) -> bool:
    """Whether a file from before version 7 is the log. Source: aof.c loadAppendOnlyFiles."""
    if disk.size(layout.legacy) is None:
        return False
    if manifest.is_empty:
        return True
    # An upgrade that was cut short between its two steps.
    return (
        manifest.base is not None
        and not manifest.incr
        and manifest.base.name == layout.filename
        and disk.size(layout.path(layout.filename)) is None
    )
