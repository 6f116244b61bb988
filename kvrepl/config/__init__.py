"""The configuration: every setting of Redis 7.0, redis.conf <-> values, and CONFIG GET/SET/REWRITE.

Read in this order: `setting` (what a setting is), `table` (all of them), `kinds` (what values they
have), `config` (a running server's), `loader` and `rewrite` (text in, text out).
"""

from __future__ import annotations

from kvrepl.config.config import Config, Subscriber
from kvrepl.config.errors import ConfigError, UnreadableConfig
from kvrepl.config.kinds import CLIENT_CLASSES, OutputLimit
from kvrepl.config.loader import Declaration
from kvrepl.config.setting import Flags, Setting
from kvrepl.config.table import BY_NAME, SETTINGS, SUBJECTS

__all__ = [
    "BY_NAME",
    "CLIENT_CLASSES",
    "SETTINGS",
    "SUBJECTS",
    "Config",
    "ConfigError",
    "Declaration",
    "Flags",
    "OutputLimit",
    "Setting",
    "Subscriber",
    "UnreadableConfig",
]
