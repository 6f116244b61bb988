"""Persistence: the append-only log, snapshots, and what a start makes of them.

Read in this order:

    disk        the seam: what is asked of the operating system, and the actions for the shell
    aof         the format of the log; `AofReplay` decodes it and says where it is whole
    manifest    which files make up the log; `Manifest`, `Layout`, `persist`
    writer      `AofWriter`: buffering, write and fsync policy, failures
    rewrite     the commands that rebuild a dataset; `RewriteSchedule`
    lifecycle   `AppendOnlyLog`: on, off, and rewriting, over all of the above
    startup     what to load and what to refuse
    savepoints  when a snapshot is due
    records     values <-> RDB records
    snapshot    the walk that writes an RDB

Everything here is pure but for the calls to a `Disk` that it is given.
"""
