"""What INFO and ROLE say of replication.

Source: Redis 7.0, server.c (genRedisInfoString, section replication), replication.c
(roleCommand). Names, order and text are what exporters, Sentinel and orchestrators parse.
"""

from __future__ import annotations

from kvrepl.replication.links import ReplicaLink, ReplicaState
from kvrepl.replication.replica import ReplicaSide
from kvrepl.replication.roles import Replication
from kvrepl.replication.states import State
from kvrepl.resp.values import Reply

Field = tuple[str, str | int]


def role_reply(replication: Replication) -> Reply:
    """Return the reply of ROLE. O(replicas)."""
    history, replica = replication.history, replication.replica
    if replication.is_master:
        online = [r for r in replication.master.replicas if r.state is ReplicaState.ONLINE]
        lines = [[r.ip, b"%d" % r.port, b"%d" % r.ack_offset] for r in online]
        return [b"master", history.offset, lines]
    host = replica.host.encode("utf-8", "surrogateescape")
    offset = history.offset if replica.connected else -1
    return [b"slave", host, replica.port, replica.state.role.encode(), offset]


def info_fields(replication: Replication, now_ms: int) -> list[Field]:
    """Return the fields of INFO replication in their order.

    Args:
        replication: what is reported.
        now_ms: the clock that the machines are given.

    Returns:
        (name, value) pairs. O(replicas).
    """
    master, history, settings = replication.master, replication.history, replication.settings
    fields: list[Field] = [("role", replication.role.value)]
    if not replication.is_master:
        fields += _replica_fields(replication, now_ms)
    fields.append(("connected_slaves", len(master.replicas)))
    if settings.min_replicas_to_write and settings.min_replicas_max_lag:
        fields.append(("min_slaves_good_slaves", master.good_replicas))
    shown = [r for r in master.replicas if r.state is not ReplicaState.RDB_TRANSMITTED]
    for number, link in enumerate(shown):
        fields.append((f"slave{number}", _replica_line(link, now_ms)))
    backlog = replication.stream.backlog
    return [
        *fields,
        ("master_failover_state", replication.failover.state.value),
        ("master_replid", history.replid.decode()),
        ("master_replid2", history.replid2.decode()),
        ("master_repl_offset", history.offset),
        ("second_repl_offset", history.second_repl_offset),
        ("repl_backlog_active", int(backlog is not None)),
        ("repl_backlog_size", settings.repl_backlog_size),
        ("repl_backlog_first_byte_offset", backlog.first_byte_offset if backlog else 0),
        ("repl_backlog_histlen", backlog.histlen if backlog else 0),
    ]


def _replica_line(link: ReplicaLink, now_ms: int) -> str:
    ip = link.ip.decode("utf-8", "backslashreplace")
    return (
        f"ip={ip},port={link.port},state={link.state.shown},"
        f"offset={link.ack_offset},lag={link.lag_seconds(now_ms)}"
    )


def _replica_fields(replication: Replication, now_ms: int) -> list[Field]:
    replica, settings = replication.replica, replication.settings
    # A replica that has never been linked says 1.
    linked = replica.resume_db is not None or replica.connected
    offset = replication.history.offset if linked else 1
    up = replica.connected
    fields: list[Field] = [
        ("master_host", replica.host),
        ("master_port", replica.port),
        ("master_link_status", "up" if up else "down"),
        ("master_last_io_seconds_ago", _seconds(now_ms - replica.last_io_ms) if up else -1),
        ("master_sync_in_progress", int(replica.syncing)),
        ("slave_read_repl_offset", offset + replica.pending_bytes),
        ("slave_repl_offset", offset),
    ]
    if replica.syncing:
        fields += _sync_fields(replica, now_ms)
    if not up:
        since = replica.down_since_ms
        down_s = -1 if since is None else _seconds(now_ms - since)
        fields.append(("master_link_down_since_seconds", down_s))
    return [
        *fields,
        ("slave_priority", settings.replica_priority),
        ("slave_read_only", int(settings.replica_read_only)),
        ("replica_announced", int(settings.replica_announced)),
    ]


def _sync_fields(replica: ReplicaSide, now_ms: int) -> list[Field]:
    payload = replica.payload if replica.state is not State.RECEIVE_FRAMING else None
    total = max(0, payload.size_bytes) if payload is not None else 0
    read = payload.read_bytes if payload is not None else 0
    percent = 100 * read / total if total else 0.0
    return [
        ("master_sync_total_bytes", total),
        ("master_sync_read_bytes", read),
        ("master_sync_left_bytes", total - read),
        ("master_sync_perc", f"{percent:.2f}"),
        ("master_sync_last_io_seconds_ago", _seconds(now_ms - replica.last_io_ms)),
    ]


def _seconds(span_ms: int) -> int:
    return max(0, span_ms) // 1000
