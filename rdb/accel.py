"""Finds the compiled accelerator, rdb._accel, where the build made one.

Every function in it has a reference in Python with the same results; a module that has one
chooses when it is imported. RDB_PURE=1 in the environment chooses the references.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

accel: Any = None
if os.environ.get("RDB_PURE", "") in ("", "0"):
    try:
        accel = importlib.import_module("rdb._accel")
    except ImportError:
        pass
