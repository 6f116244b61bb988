"""Standard output, in batches."""

from __future__ import annotations

from typing import Final

from rdb.cli.form import Json
from rdb.cli.output import standard_output
from rdb.cli.text import ENCODER

_BATCH_BYTES: Final = 1 << 16


class Lines:
    """Writes bytes, or JSON Lines, to standard output in batches."""

    def __init__(self) -> None:
        self._stream = standard_output()
        self._batch: list[bytes] = []
        self._batch_bytes = 0

    def add(self, form: dict[str, Json]) -> None:
        """Append one object as a line."""
        self.raw(ENCODER.encode(form).encode() + b"\n")

    def raw(self, data: bytes) -> None:
        """Append bytes."""
        self._batch.append(data)
        self._batch_bytes += len(data)
        if self._batch_bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        self._stream.write(b"".join(self._batch))
        self._stream.flush()
        self._batch.clear()
        self._batch_bytes = 0
