"""What the numbers of one file mean: its magic, and the templates that its hashes refer to.

Above type 21 and below opcode 244 the same number means one thing under the REDIS magic and
another under VALKEY. And a file of version 15 may hold a hash without its field names: those
stand in a record of their own before the keys (opcode 242), and the hash names that record. So a
value can only be read with the dialect of its file at hand; a reader keeps one (RdbReader.dialect),
and gives it along with encoded values.

Templates are kept as long as the reader: the memory of their field names, each once.

Source: rdb.h of Redis 8.10 and of Valkey 9.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rdb.errors import RdbError

Template = tuple[bytes, ...]
"""The field names of a hash, in the order of its values."""


@dataclass(slots=True)
class Dialect:
    """What the numbers of one file mean.

    Attributes:
        valkey: whether the file has the VALKEY magic.
        templates: id -> field names, those read so far.
    """

    valkey: bool = False
    templates: dict[int, Template] = field(default_factory=dict)

    def template(self, template_id: int, offset: int) -> Template:
        """The field names that a hash refers to.

        Raises:
            RdbError: there is no such template; it is at `offset`.
        """
        found = self.templates.get(template_id)
        if found is None:
            raise RdbError(f"no hash template {template_id}", offset=offset)
        return found


REDIS = Dialect()
"""That of a value by itself (DUMP), which refers to nothing. Not to be changed."""
