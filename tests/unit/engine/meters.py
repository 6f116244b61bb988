"""Meters for engines that have no process to measure."""

from __future__ import annotations

from kvrepl.engine.dispatch import Engine


class KeyMeter:
    """Says that each key takes `key_bytes`, and nothing else anything.

    Args:
        engine: whose keys are counted; it gets this meter and a limit.
        limit_keys: how many of them fit below maxmemory.
        key_bytes: what one takes; more than the headroom, so that the gate follows each key.
        policy: as maxmemory-policy.
    """

    def __init__(
        self,
        engine: Engine,
        limit_keys: int,
        policy: str = "noeviction",
        key_bytes: int = 4 << 20,
    ) -> None:
        self.engine = engine
        self.key_bytes = key_bytes
        self.uncounted = 0
        self.is_exact = False
        engine.memory.meter = self
        engine.config.maxmemory = limit_keys * key_bytes
        engine.config.maxmemory_policy = policy
        engine.memory.apply_settings()

    def used_bytes(self) -> int:
        """Bytes in use."""
        return len(self.engine.keyspace) * self.key_bytes + self.uncounted

    def uncounted_bytes(self) -> int:
        """Those of them that do not count."""
        return self.uncounted

    def set_exact(self, wanted: bool) -> None:
        """Note whether a limit asks for it."""
        self.is_exact = wanted
