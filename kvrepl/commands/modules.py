"""MODULE: modules are programs against Redis's own C interface, so there are none here.

Source: Redis 7.0 module.c (moduleCommand).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.engine.introspection import help_lines
from kvrepl.engine.spec import command, container
from kvrepl.errors import CommandError
from kvrepl.resp.values import Reply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

NO_MODULES: Final = CommandError(b"ERR MODULE command not allowed: this server has no modules")

container("module", summary="A container for module commands")


@command("module|list", 2, "admin noscript", tips=["nondeterministic_output_order"])
def module_list(c: Client, argv: list[bytes]) -> Reply:
    """List the modules loaded: none. O(1)."""
    return []


@command("module|load", -3, "admin noscript no_async_loading")
def module_load(c: Client, argv: list[bytes]) -> Reply:
    """Load a module; refused. O(1)."""
    raise NO_MODULES


@command("module|loadex", -3, "admin noscript no_async_loading")
def module_loadex(c: Client, argv: list[bytes]) -> Reply:
    """Load a module with settings of its own; refused. O(1)."""
    raise NO_MODULES


@command("module|unload", 3, "admin noscript no_async_loading")
def module_unload(c: Client, argv: list[bytes]) -> Reply:
    """Unload a module; refused. O(1)."""
    raise NO_MODULES


@command("module|help", 2, "loading stale")
def module_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines("MODULE", ("LIST", "The modules loaded: none."))
