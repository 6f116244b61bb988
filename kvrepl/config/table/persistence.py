"""RDB and AOF. Source: Redis config.c; defaults asked of redis-server 7.0.15."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvrepl.config.kinds import INT64_MAX, INT_MAX, INT_MIN, Directory, SavePoints
from kvrepl.config.setting import Flags, Setting, choice, memory, number, text, yes_no


def bare_name(setting: str, what: str, *, empty: bool) -> Callable[[str], str | None]:
    """A check that a value names something in `dir`, not a path to elsewhere.

    Args:
        setting: the name of the setting, which the refusal begins with.
        what: what it names, for the refusal.
        empty: whether "" passes.
    """

    def check(value: str) -> str | None:
        if not value and not empty:
            return f"{setting} can't be empty"
        if "/" in value or "\\" in value:
            return f"{setting} can't be a path, just a {what}"
        return None

    return check


PERSISTENCE: Final[tuple[Setting, ...]] = (
    Setting(
        "dir",
        Directory(),
        ".",
        "Working folder, which holds all files.",
        flags=Flags.PROTECTED | Flags.DENY_LOADING,
    ),
    text(
        "dbfilename",
        "Name of the RDB file.",
        default="dump.rdb",
        flags=Flags.PROTECTED,
        check=bare_name("dbfilename", "filename", empty=True),
    ),
    Setting(
        "save",
        SavePoints(),
        ((3600, 1), (300, 100), (60, 10000)),
        "Seconds and changes after which a snapshot is made.",
    ),
    yes_no("stop-writes-on-bgsave-error", True, "Refuse writes after a failed snapshot."),
    yes_no("rdbcompression", True, "Compress strings with LZF."),
    yes_no("rdbchecksum", True, "End the RDB file with a CRC64.", flags=Flags.IMMUTABLE),
    yes_no("rdb-save-incremental-fsync", True, "Flush a snapshot to disk every 4 MiB."),
    yes_no("rdb-del-sync-files", False, "Delete RDB files that only replication needed."),
    number(
        "rdb-key-save-delay",
        INT_MIN,
        INT_MAX,
        0,
        "Microseconds to sleep for each key saved, for tests; -N sleeps 1 every N keys.",
        flags=Flags.HIDDEN,
    ),
    number(
        "key-load-delay",
        INT_MIN,
        INT_MAX,
        0,
        "The same for each key loaded.",
        flags=Flags.HIDDEN,
    ),
    number(
        "loading-process-events-interval-bytes",
        1024,
        INT_MAX,
        2 * 1024 * 1024,
        "Bytes loaded between two looks at the clients.",
        flags=Flags.HIDDEN,
    ),
    yes_no("appendonly", False, "Keep an AOF.", flags=Flags.DENY_LOADING),
    text(
        "appendfilename",
        "First part of the names of AOF files.",
        default="appendonly.aof",
        flags=Flags.IMMUTABLE,
        check=bare_name("appendfilename", "filename", empty=False),
    ),
    text(
        "appenddirname",
        "Folder of the AOF, inside of dir.",
        default="appendonlydir",
        flags=Flags.IMMUTABLE,
        check=bare_name("appenddirname", "dirname", empty=False),
    ),
    choice("appendfsync", "everysec always no", "everysec", "When the AOF is flushed to disk."),
    yes_no("no-appendfsync-on-rewrite", False, "Not while a child writes."),
    number(
        "auto-aof-rewrite-percentage", 0, INT_MAX, 100, "Growth that starts a rewrite; 0: none."
    ),
    memory(
        "auto-aof-rewrite-min-size",
        0,
        INT64_MAX,
        64 * 1024 * 1024,
        "Size below which none is started.",
        unsigned=False,
    ),
    yes_no("aof-rewrite-incremental-fsync", True, "Flush a rewrite to disk every 4 MiB."),
    yes_no("aof-load-truncated", True, "Load an AOF that ends in the middle of a command."),
    yes_no("aof-use-rdb-preamble", True, "Write the base file of the AOF as RDB."),
    yes_no("aof-timestamp-enabled", False, "Write the time into the AOF."),
    yes_no("aof-disable-auto-gc", False, "Keep AOF files that are no longer needed."),
)
