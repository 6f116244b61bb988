"""Finds the compiled accelerator, rdb._accel, where the build made one.

Every function in it has a reference in Python with the same results; a module that has one
chooses when it is imported.
"""

from __future__ import annotations

import importlib
from typing import Any

accel: Any
try:
    accel = importlib.import_module("rdb._accel")
except ImportError:
    accel = None
