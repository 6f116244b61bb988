"""Finds the compiled accelerators, the modules rdb._*, where the build made them.

Every function in them has a reference in Python with the same results; a module that has one
chooses when it is imported. RDB_PURE=1 in the environment chooses the references.
"""

from __future__ import annotations

import importlib
import os
from types import SimpleNamespace
from typing import Any

_MODULES = ("_strings", "_listpack", "_packed", "_keys", "_text")


def _found() -> Any:
    """The functions of all, or None where one is missing."""
    if os.environ.get("RDB_PURE", "") not in ("", "0"):
        return None
    functions: dict[str, Any] = {}
    for name in _MODULES:
        try:
            functions |= vars(importlib.import_module(f"rdb.{name}"))
        except ImportError:
            return None
    return SimpleNamespace(**functions)


accel: Any = _found()
