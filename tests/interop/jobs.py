"""What the workers of test_applications run: module-level functions, as RQ demands."""

from __future__ import annotations


def add(one: int, other: int) -> int:
    """Add two numbers."""
    return one + other


def fail() -> None:
    """Fail."""
    raise ValueError("as told")
