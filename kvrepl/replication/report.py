"""What INFO and ROLE say of replication.

Source: Redis 7.0, server.c (genRedisInfoString, section replication), replication.c
(roleCommand). Names, order and text are what exporters, Sentinel and orchestrators parse.
"""

from __future__ import annotations

from kvrepl.replication import gate
from kvrepl.replication.backpressure import Backpressure
from kvrepl.replication.compression import Traffic
from kvrepl.replication.fullsync import FullSync, Phase
from kvrepl.replication.links import ReplicaLink, ReplicaState
from kvrepl.replication.master import MasterSide
from kvrepl.replication.replica import ReplicaSide
from kvrepl.replication.ring import Ring
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


def info_fields(replication: Replication, now_ms: int, child_fraction: float = 0.0) -> list[Field]:
    """Return the fields of INFO replication in their order, and ours after them.

    Args:
        replication: what is reported.
        now_ms: the clock that the machines are given.
        child_fraction: how much of its keys the running RDB child has written.

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
        *_link_sync_fields(replication.replica, now_ms),
        *_full_sync_fields(master, now_ms, child_fraction),
        *_compression_fields(master, now_ms),
        *_pressure_fields(replication.backpressure, now_ms),
    ]


def _link_sync_fields(replica: ReplicaSide, now_ms: int) -> list[Field]:
    """Our own fields about the link to our master; none on a server that never had one."""
    fields: list[Field] = []
    if replica.state is State.REFUSED:
        fields.append(("kvrepl_master_refused", "empty_dataset"))
    if replica.decompressor is not None and (replica.connected or replica.syncing):
        line = _traffic_line(replica.decompressor.traffic, now_ms)
        fields.append(("kvrepl_master_compression", line))
    if replica.intake is not None:
        fields.append(("kvrepl_master_sync", _running_line(replica.intake.sync, now_ms, 0.0)))
    if replica.last_sync is not None:
        fields.append(("kvrepl_master_last_sync", _ended_line(replica.last_sync)))
    return fields


def _full_sync_fields(master: MasterSide, now_ms: int, child_fraction: float) -> list[Field]:
    """Our own fields about full syncs of replicas: causes, those under way, the last one."""
    under_way = [link for link in master.replicas if link.sync is not None]
    fields: list[Field] = [
        (f"kvrepl_full_sync_reason_{reason.value}", count)
        for reason, count in master.syncs.by_reason.items()
    ]
    fields += [
        ("kvrepl_diskless_joined", master.syncs.joined),
        ("kvrepl_diskless_dropped", master.syncs.dropped),
    ]
    if master.ring is not None:
        fields.append(("kvrepl_diskless_ring", _ring_line(master.ring)))
    fields.append(("kvrepl_full_syncs_running", gate.running(master.replicas)))
    fields.append(("kvrepl_full_syncs_in_line", sum(link.place > 0 for link in under_way)))
    for number, link in enumerate(under_way):
        assert link.sync is not None
        line = _running_line(link.sync, now_ms, child_fraction)
        fields.append((f"kvrepl_full_sync{number}", f"{line},place={link.place}"))
    if master.syncs.last is not None:
        fields.append(("kvrepl_last_full_sync", _ended_line(master.syncs.last)))
    return fields


def _compression_fields(master: MasterSide, now_ms: int) -> list[Field]:
    """Our own fields about links to replicas that are compressed; none where there is none."""
    return [
        (f"kvrepl_compression{number}", f"peer={link.name},{_traffic_line(link.traffic, now_ms)}")
        for number, link in enumerate(master.replicas)
        if link.traffic is not None
    ]


def _traffic_line(traffic: Traffic, now_ms: int) -> str:
    ratio = traffic.raw_bytes / traffic.wire_bytes if traffic.wire_bytes else 1.0
    speed = traffic.raw_bytes * 1000 // max(1, now_ms - traffic.began_ms)
    return (
        f"codec=lz4,raw_bytes={traffic.raw_bytes},wire_bytes={traffic.wire_bytes},"
        f"ratio={ratio:.2f},raw_bytes_per_second={speed}"
    )


def _pressure_fields(pressure: Backpressure, now_ms: int) -> list[Field]:
    """Our own field about writers that wait; none where repl-backpressure was never on."""
    if not pressure.watches and not pressure.delays:
        return []
    total_ms = pressure.delayed_ms + pressure.delaying_ms(now_ms)
    line = (
        f"state={pressure.state.value},lag_bytes={pressure.lag_bytes},"
        f"limit_bytes={pressure.limit_bytes},delays={pressure.delays},delayed_ms={total_ms}"
    )
    return [("kvrepl_backpressure", line)]


def _ring_line(ring: Ring) -> str:
    return (
        f"bytes={ring.used_bytes},limit_bytes={ring.limit_bytes},readers={len(ring.readers)},"
        f"joinable={int(ring.has_beginning)}"
    )


def _running_line(sync: FullSync, now_ms: int, child_fraction: float) -> str:
    done = sync.progress(now_ms, child_fraction)
    return (
        f"peer={sync.peer},reason={sync.reason},phase={sync.phase.value},"
        f"bytes={sync.moved_bytes},total_bytes={sync.size_bytes},"
        f"expected_bytes={sync.expected_bytes},perc={100 * done.fraction:.2f},"
        f"eta_seconds={done.eta_s},age_seconds={_seconds(now_ms - sync.began_ms)}"
    )


def _ended_line(sync: FullSync) -> str:
    framing = "diskless" if sync.diskless else "disk"
    phases = "".join(f",{phase.value}_ms={sync.spent_ms.get(phase, 0)}" for phase in Phase)
    return (
        f"peer={sync.peer},reason={sync.reason},framing={framing},"
        f"bytes={sync.moved_bytes},total_ms={sync.total_ms}{phases}"
    )


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
        ("slave_read_repl_offset", offset + replica.pending.bytes),
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
    payload = replica.intake.payload if replica.intake is not None else None
    # As in Redis: -1 while the snapshot is waited for, 0 where it has no size beforehand.
    total = max(0, payload.size_bytes) if payload is not None else -1
    read = payload.read_bytes if payload is not None else 0
    percent = 100 * read / total if total > 0 else 0.0
    return [
        ("master_sync_total_bytes", total),
        ("master_sync_read_bytes", read),
        ("master_sync_left_bytes", total - read),
        ("master_sync_perc", f"{percent:.2f}"),
        ("master_sync_last_io_seconds_ago", _seconds(now_ms - replica.last_io_ms)),
    ]


def _seconds(span_ms: int) -> int:
    return max(0, span_ms) // 1000
