"""Settings of parts that kvrepl does not have: threads, cluster, jemalloc.

They are accepted, checked, shown and rewritten as in Redis, so that an existing redis.conf works;
`Config.without_effect` names those that a user has set.

Source: Redis config.c; defaults asked of redis-server 7.0.15.
"""

from __future__ import annotations

from typing import Final

from kvrepl.config.kinds import INT64_MAX, INT_MAX, UINT64_MAX, UINT_MAX, YesNo
from kvrepl.config.setting import Flags, Setting, choice, memory, number, text, yes_no

HOST_NAME_SIZE: Final = 256
"""NET_HOST_STR_LEN of server.h, the closing NUL included."""

_IMMUTABLE = Flags.IMMUTABLE | Flags.NO_EFFECT
_FREE = Flags.NO_EFFECT
_HOST_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")


def bad_host_name(name: str) -> str | None:
    """Why a host name cannot be announced (config.c, isValidAnnouncedHostname)."""
    if len(name.encode("utf-8", "surrogateescape")) >= HOST_NAME_SIZE:
        return f"Hostnames must be less than {HOST_NAME_SIZE} characters"
    if not _HOST_CHARACTERS.issuperset(name):
        return "Hostnames may only contain alphanumeric characters, hyphens or dots"
    return None


def no_active_defrag(wanted: bool) -> str | None:
    """Refuse active defragmentation in the words of a Redis built without it."""
    if not wanted:
        return None
    return (
        "Active defragmentation cannot be enabled: it requires a Redis server compiled with a "
        "modified Jemalloc like the one shipped by default with the Redis source distribution"
    )


INERT: Final[tuple[Setting, ...]] = (
    number("io-threads", 1, 128, 1, "Threads for sockets.", flags=_IMMUTABLE),
    yes_no("io-threads-do-reads", False, "Read in them too.", flags=_IMMUTABLE),
    text("server_cpulist", "Processors of the server.", flags=_IMMUTABLE),
    text("bio_cpulist", "Processors of background threads.", flags=_IMMUTABLE),
    text("aof_rewrite_cpulist", "Processors of a rewrite.", flags=_IMMUTABLE),
    text("bgsave_cpulist", "Processors of a snapshot.", flags=_IMMUTABLE),
    number("socket-mark-id", 0, UINT_MAX, 0, "Mark of sockets.", flags=_IMMUTABLE),
    text("ignore-warnings", "Warnings at start that are not fatal.", default="", flags=_FREE),
    yes_no("activerehashing", True, "Rehash in the background.", flags=_FREE),
    yes_no("jemalloc-bg-thread", True, "Purge in the background.", flags=_FREE),
    Setting(
        "activedefrag",
        YesNo(),
        False,
        "Active defragmentation: refused.",
        flags=_FREE,
        check=no_active_defrag,
    ),
    number("active-defrag-cycle-min", 1, 99, 1, "Its least effort.", flags=_FREE),
    number("active-defrag-cycle-max", 1, 99, 25, "Its greatest effort.", flags=_FREE),
    number("active-defrag-threshold-lower", 0, 1000, 10, "Where it starts.", flags=_FREE),
    number("active-defrag-threshold-upper", 0, 1000, 100, "Where it does its most.", flags=_FREE),
    number(
        "active-defrag-max-scan-fields",
        1,
        INT64_MAX,
        1000,
        "Fields it takes at once.",
        flags=_FREE,
    ),
    memory(
        "active-defrag-ignore-bytes",
        1,
        INT64_MAX,
        100 * 1024 * 1024,
        "Waste it leaves alone.",
        flags=_FREE,
    ),
    yes_no("cluster-enabled", False, "Cluster mode: not offered.", flags=_IMMUTABLE),
    text("cluster-config-file", "Its file.", default="nodes.conf", flags=_IMMUTABLE),
    number("cluster-port", 0, 65535, 0, "Its port.", flags=_IMMUTABLE),
    number("cluster-node-timeout", 0, INT64_MAX, 15000, "Its time limit.", flags=_FREE),
    number("cluster-migration-barrier", 0, INT_MAX, 1, "Cluster mode.", flags=_FREE),
    number(
        "cluster-replica-validity-factor",
        0,
        INT_MAX,
        10,
        "Cluster mode.",
        "cluster-slave-validity-factor",
        flags=_FREE,
    ),
    yes_no(
        "cluster-replica-no-failover",
        False,
        "Cluster mode.",
        "cluster-slave-no-failover",
        flags=_FREE,
    ),
    yes_no("cluster-require-full-coverage", True, "Cluster mode.", flags=_FREE),
    yes_no("cluster-allow-reads-when-down", False, "Cluster mode.", flags=_FREE),
    yes_no("cluster-allow-pubsubshard-when-down", True, "Cluster mode.", flags=_FREE),
    yes_no("cluster-allow-replica-migration", True, "Cluster mode.", flags=_FREE),
    memory("cluster-link-sendbuf-limit", 0, UINT64_MAX, 0, "Cluster mode.", flags=_FREE),
    text("cluster-announce-ip", "Cluster mode.", flags=_FREE),
    text("cluster-announce-hostname", "Cluster mode.", flags=_FREE, check=bad_host_name),
    number("cluster-announce-port", 0, 65535, 0, "Cluster mode.", flags=_FREE),
    number("cluster-announce-tls-port", 0, 65535, 0, "Cluster mode.", flags=_FREE),
    number("cluster-announce-bus-port", 0, 65535, 0, "Cluster mode.", flags=_FREE),
    choice(
        "cluster-preferred-endpoint-type",
        "ip hostname unknown-endpoint",
        "ip",
        "Cluster mode.",
        _FREE,
    ),
)
