"""The settings that replication reads, by the names of redis.conf with `_` for `-`.

Read at each use, so that CONFIG SET takes effect by assigning to an attribute. Spans are in
seconds as in redis.conf, which the machines turn to milliseconds where they compare; those of our
own settings are in milliseconds.

Source: Redis 7.0, config.c (names and defaults).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ReplicationSettings:
    """See redis.conf for what each one does.

    Attributes:
        announced_port: what `REPLCONF listening-port` tells: replica-announce-port where set,
            otherwise tls-port or port, as the shell knows.
        replica_announce_ip: empty where none is announced.
        masterauth: empty where the master asks for no password.
        masteruser: empty for the default user.
        save_points: whether `save` has any point; a BGSAVE nobody waits for is
            then worth finishing.
    """

    repl_timeout: int = 60
    repl_ping_replica_period: int = 10
    repl_backlog_size: int = 1024 * 1024
    repl_backlog_ttl: int = 3600
    repl_diskless_sync: bool = True
    repl_diskless_sync_delay: int = 5
    repl_diskless_sync_max_replicas: int = 0
    repl_diskless_sync_ring_size: int = 16 * 1024 * 1024
    repl_diskless_sync_max_stall: int = 5000
    repl_diskless_load: str = "disabled"
    repl_max_concurrent_full_syncs: int = 0
    repl_compression: str = "no"
    repl_backpressure: bool = False
    repl_backpressure_max_delay: int = 10_000
    replica_refuse_empty_master: bool = False
    min_replicas_to_write: int = 0
    min_replicas_max_lag: int = 10
    replica_announced: bool = True
    replica_priority: int = 100
    replica_read_only: bool = True
    replica_announce_ip: bytes = b""
    announced_port: int = 6379
    masterauth: bytes = b""
    masteruser: bytes = b""
    save_points: bool = True
