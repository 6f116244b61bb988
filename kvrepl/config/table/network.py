"""Addresses, ports and clients. Source: Redis config.c; defaults asked of redis-server 7.0.15."""

from __future__ import annotations

from typing import Final

from kvrepl.config.kinds import (
    INT64_MAX,
    INT_MAX,
    UINT_MAX,
    Addresses,
    Memory,
    Octal,
    OutputLimit,
    OutputLimits,
)
from kvrepl.config.setting import Flags, Setting, memory, number, text, yes_no

MIB: Final = 1024 * 1024

NETWORK: Final[tuple[Setting, ...]] = (
    Setting("bind", Addresses(), ("*", "-::*"), "Addresses that are listened on."),
    text("bind-source-addr", "Local address of connections that the server makes."),
    number("port", 0, 65535, 6379, "TCP port; 0 listens on none."),
    yes_no("protected-mode", True, "Refuse other hosts while no password guards the server."),
    number("tcp-backlog", 0, INT_MAX, 511, "Queue of listen(2).", flags=Flags.IMMUTABLE),
    number("tcp-keepalive", 0, INT_MAX, 300, "Seconds between keepalive probes; 0 sends none."),
    text("unixsocket", "Path of a Unix socket to listen on.", flags=Flags.IMMUTABLE),
    Setting(
        "unixsocketperm",
        Octal(0, 0o777),
        0,
        "Permissions of the Unix socket; 0 leaves them to the umask.",
        flags=Flags.IMMUTABLE,
    ),
    number("timeout", 0, INT_MAX, 0, "Seconds until an idle client is closed; 0 is never."),
    number("maxclients", 1, UINT_MAX, 10000, "Clients at the same time."),
    Setting(
        "maxmemory-clients",
        Memory(-100, INT64_MAX, unsigned=False, percent=True),
        0,
        "Memory of all clients together before some are evicted; a percentage is of maxmemory.",
    ),
    Setting(
        "client-output-buffer-limit",
        OutputLimits(),
        {
            "normal": OutputLimit(0, 0, 0),
            "replica": OutputLimit(256 * MIB, 64 * MIB, 60),
            "pubsub": OutputLimit(32 * MIB, 8 * MIB, 60),
        },
        "Unread replies at which a client is cut off, for each class of clients.",
    ),
    memory("client-query-buffer-limit", MIB, INT64_MAX, 1024 * MIB, "Unparsed input of a client."),
    memory("proto-max-bulk-len", MIB, INT64_MAX, 512 * MIB, "Longest argument.", unsigned=False),
    number(
        "tracking-table-max-keys",
        0,
        INT64_MAX,
        1000000,
        "Keys remembered for client-side caching; 0 is no limit.",
    ),
)
