"""All settings, by subject; the order is that of the documentation and of CONFIG REWRITE.

network       addresses, ports, clients
process       logging, signals, the process itself, security
memory        limits, eviction, encodings of small values, keyspace
persistence   RDB and AOF
replication   both ends, and quorum
tls           TLS
inert         accepted for the sake of existing files, without effect here
"""

from __future__ import annotations

from typing import Final

from kvrepl.config.setting import Setting
from kvrepl.config.table.inert import INERT
from kvrepl.config.table.memory import MEMORY
from kvrepl.config.table.network import NETWORK
from kvrepl.config.table.persistence import PERSISTENCE
from kvrepl.config.table.process import PROCESS
from kvrepl.config.table.replication import REPLICATION
from kvrepl.config.table.tls import TLS

SUBJECTS: Final[dict[str, tuple[Setting, ...]]] = {
    "Network and clients": NETWORK,
    "Process, logging and security": PROCESS,
    "Memory, values and the keyspace": MEMORY,
    "Persistence": PERSISTENCE,
    "Replication": REPLICATION,
    "TLS": TLS,
    "Accepted without effect": INERT,
}
SETTINGS: Final[tuple[Setting, ...]] = tuple(
    setting for subject in SUBJECTS.values() for setting in subject
)
BY_NAME: Final[dict[bytes, Setting]] = {
    name.encode(): setting for setting in SETTINGS for name in (setting.name, *setting.aliases)
}
"""Every name and alias, in lower case."""
