"""The house rules on imports, held by walking every import statement of the source.

- A room imports only from rooms above it and from itself (docs/TOUR.md lists them in order).
- Everything above server/ is pure: no module that reads a clock, a random source, a file, a
  socket, a process or a thread is imported there, and no builtin that opens or asks is called.
- rdb/ knows nothing of kvrepl.
- The families in commands/ do not know each other.

Imports for type checkers alone (`if TYPE_CHECKING:`) count as well: a type from a lower room is
knowledge of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

ROOMS = (
    "rdb",
    "base",  # the modules directly in kvrepl/: errors, numbers, glob, clock and the accelerator
    "resp",
    "config",
    "datatypes",
    "keyspace",
    "replication",
    "persistence",
    "engine",
    "commands",
    "scripting",
    "server",
    "toolbox",
    "cli",
)
BASE_MODULES = frozenset(
    ("kvrepl", *(f"kvrepl.{n}" for n in ("errors", "numbers", "glob", "clock", "_accel")))
)
PURE_ROOMS = ROOMS[: ROOMS.index("server")]

IMPURE_MODULES = frozenset(
    (
        *("asyncio", "concurrent", "multiprocessing", "queue", "sched", "subprocess", "threading"),
        *("_thread", "contextvars", "uvloop", "selectors", "select", "socket", "socketserver"),
        *("ssl", "http", "urllib", "os", "posix", "io", "pathlib", "shutil", "tempfile", "glob"),
        *("fcntl", "mmap", "pty", "resource", "signal", "sys", "syslog", "logging", "faulthandler"),
        *("time", "datetime", "calendar", "random", "secrets", "uuid", "psutil", "gc", "atexit"),
    )
)
"""Modules through which the outside world comes in, by their first name."""

ALLOWED_IMPURE = {
    # room or module: what it may import all the same, and why
    "rdb": {"io", "os", "pathlib"},  # a library with open(path) of its own; never a clock
    "rdb.cli": IMPURE_MODULES,  # a command-line program
    "kvrepl.resp": {"os"},  # KVREPL_PURE=1 chooses the reference over the accelerator
}
"""Prefix of the module's name -> impure modules it may import."""

ALLOWED_NAMES = {
    # impure module: names of it that bring in no outside world
    "random": {"Random"},  # the type of the generator passed in; calling it is found below
    "sys": {"maxsize", "byteorder", "intern", "getsizeof", "getrefcount"},
    "os": {"PathLike", "fspath"},
}

SHARED_BY_FAMILIES = {"arguments", "elements"}
"""Modules of commands/ that hold no command: how arguments are read, elements taken."""

IMPURE_CALLS = frozenset(("open", "input", "print", "breakpoint"))
ALLOWED_CALLERS = ("rdb",)  # rdb.read(path) opens its file; rdb.cli prints


class Import(NamedTuple):
    """One imported name: `from target import name`, or `import target` with name ""."""

    source: str
    target: str
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}" + (
            f".{self.name}" if self.name else ""
        )


def module_name(path: Path) -> str:
    """Give the dotted name of a source file; a package has that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """Give the room that a module of ours lies in."""
    first, _, rest = module.partition(".")
    if first == "rdb":
        return "rdb"
    if module in BASE_MODULES:
        return "base"
    room = rest.partition(".")[0]
    assert room in ROOMS, f"{module} lies in no room: add it to the list on purpose"
    return room


def imports_of(module: str, tree: ast.Module, *, package: bool = False) -> Iterator[Import]:
    """Yield every name imported anywhere in a module, relative ones made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                used = set[str]()
                if alias.name in ALLOWED_NAMES:
                    used = attributes_of(tree, alias.asname or alias.name)
                for name in used or {""}:
                    yield Import(module, alias.name, name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - 1 if package else node.level
                parts = module.split(".")
                base = ".".join([*parts[: len(parts) - up], *([base] if base else [])])
            for alias in node.names:
                yield Import(module, base, alias.name, node.lineno)


def attributes_of(tree: ast.Module, name: str) -> set[str]:
    """Give the attributes that a module reads from one of its names: `sys.maxsize` is maxsize."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    }


SOURCES = sorted(path for package in ("rdb", "kvrepl") for path in (ROOT / package).rglob("*.py"))
TREES = {module_name(path): ast.parse(path.read_bytes(), str(path)) for path in SOURCES}
PACKAGES = {module_name(path) for path in SOURCES if path.name == "__init__.py"}
IMPORTS = [
    found
    for module, tree in TREES.items()
    for found in imports_of(module, tree, package=module in PACKAGES)
]


def target_module(found: Import) -> str:
    """Give the module that an import really reaches: `from kvrepl import resp` is kvrepl.resp."""
    deeper = f"{found.target}.{found.name}"
    return deeper if found.name and deeper in TREES else found.target


def order_faults(imports: list[Import]) -> list[str]:
    """Give the imports that reach into a lower room, or from rdb into kvrepl."""
    faults = []
    for found in imports:
        target = target_module(found)
        if target.partition(".")[0] not in ("rdb", "kvrepl"):
            continue
        if ROOMS.index(room_of(target)) > ROOMS.index(room_of(found.source)):
            faults.append(str(found))
    return faults


def purity_faults(imports: list[Import]) -> list[str]:
    """Give the imports of impure modules in the rooms that must be pure."""
    faults = []
    for found in imports:
        first = found.target.partition(".")[0]
        if first not in IMPURE_MODULES or room_of(found.source) not in PURE_ROOMS:
            continue
        if found.name and found.name in ALLOWED_NAMES.get(first, ()):
            continue
        if any(
            first in allowed and f"{found.source}.".startswith(f"{prefix}.")
            for prefix, allowed in ALLOWED_IMPURE.items()
        ):
            continue
        faults.append(str(found))
    return faults


def call_faults(module: str, tree: ast.Module) -> list[str]:
    """Give the calls of builtins that reach outside, and every Random() made on the spot."""
    faults = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        name = node.func.id
        if name in IMPURE_CALLS and not module.startswith(ALLOWED_CALLERS):
            faults.append(f"{module}:{node.lineno} calls {name}()")
        if name == "Random" and not node.args:
            faults.append(f"{module}:{node.lineno} makes a Random without a seed")
    return faults


def family_of(module: str) -> str:
    """Give the command family a module belongs to, "" where it is none; a package is one."""
    parts = module.split(".")
    in_family = parts[:2] == ["kvrepl", "commands"] and len(parts) > 2
    return parts[2] if in_family and parts[2] not in SHARED_BY_FAMILIES else ""


def family_faults(imports: list[Import]) -> list[str]:
    """Give the imports of one command family by another, or by what they all share."""
    faults = []
    for found in imports:
        target = family_of(target_module(found))
        inside = found.source.startswith("kvrepl.commands.")
        if inside and target and target != family_of(found.source):
            faults.append(str(found))
    return faults


# ---- the house as it stands


def test_source_of_every_room_imports_only_from_rooms_above() -> None:
    assert order_faults(IMPORTS) == []


def test_rooms_above_server_import_nothing_impure() -> None:
    assert purity_faults(IMPORTS) == []


def test_rooms_above_server_call_no_builtin_that_reaches_outside() -> None:
    pure = {module: tree for module, tree in TREES.items() if room_of(module) in PURE_ROOMS}

    assert [fault for module, tree in pure.items() for fault in call_faults(module, tree)] == []


def test_command_families_import_no_other_family() -> None:
    assert family_faults(IMPORTS) == []


# ---- the check itself


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("rdb.reader", "import kvrepl.errors"),
        ("kvrepl.errors", "from kvrepl import resp"),
        ("kvrepl.keyspace.database", "from kvrepl.engine import dispatch"),
        ("kvrepl.keyspace.database", "from ..engine.dispatch import Engine"),
        ("kvrepl.resp.values", "def f():\n    from kvrepl.server import app"),
        ("kvrepl.engine.spec", "if TYPE_CHECKING:\n    from kvrepl.server.app import App"),
    ],
)
def test_order_check_finds_an_import_from_a_lower_room(module: str, code: str) -> None:
    assert len(order_faults(list(imports_of(module, ast.parse(code))))) == 1


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("kvrepl.replication.master", "import time"),
        ("kvrepl.replication.master", "from time import monotonic"),
        ("kvrepl.persistence.disk", "import os.path"),
        ("kvrepl.persistence.disk", "from pathlib import Path"),
        ("kvrepl.engine.dispatch", "def f():\n    import asyncio"),
        ("kvrepl.commands.strings", "import random"),
        ("kvrepl.commands.strings", "import random\nrandom.random()"),
        ("rdb.reader", "import time"),
    ],
)
def test_purity_check_finds_the_outside_world_above_server(module: str, code: str) -> None:
    assert len(purity_faults(list(imports_of(module, ast.parse(code))))) == 1


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("kvrepl.commands.strings", "from random import Random"),
        ("kvrepl.commands.strings", "import sys\nsys.byteorder"),
        ("kvrepl.server.app", "import asyncio, os, time"),
        ("rdb.cli.check", "import sys"),
        ("rdb.reader", "import os"),
    ],
)
def test_purity_check_passes_what_the_rules_allow(module: str, code: str) -> None:
    assert purity_faults(list(imports_of(module, ast.parse(code)))) == []


@pytest.mark.parametrize("code", ["open('file')", "print(1)", "rng = Random()"])
def test_call_check_finds_files_terminals_and_unseeded_randomness(code: str) -> None:
    assert len(call_faults("kvrepl.engine.dispatch", ast.parse(code))) == 1


@pytest.mark.parametrize("source", ["lists", "arguments"])
def test_family_check_finds_an_import_of_another_family(source: str) -> None:
    tree = ast.parse("from kvrepl.commands.hashes import hset")

    assert len(family_faults(list(imports_of(f"kvrepl.commands.{source}", tree)))) == 1


def test_family_check_passes_the_package_and_the_shared_module() -> None:
    tree = ast.parse("from kvrepl.commands.arguments import integer\nimport kvrepl.commands")

    assert family_faults(list(imports_of("kvrepl.commands.lists", tree))) == []


def test_relative_import_in_a_package_is_resolved_from_the_package() -> None:
    tree = ast.parse("from .values import OK\nfrom .. import errors")

    found = list(imports_of("kvrepl.resp", tree, package=True))

    assert [f.target for f in found] == ["kvrepl.resp.values", "kvrepl"]


def test_module_outside_every_room_is_refused() -> None:
    with pytest.raises(AssertionError, match="lies in no room"):
        room_of("kvrepl.helpers")
