"""When we are wrong: what a mistake of ours costs, and whom.

Mistakes of clients are CommandError or ProtocolError, those of files RdbError or AofError, those of
the system StorageError; each has its own handling. What is left is ours, and it is told apart by
what can still be trusted:

    in a command handler          the client gets -ERR, everybody else is served on. Memory holds
                                  the best copy of the data there is; to die would lose it.
    in serving one connection     that connection is cut
    in the turn, before replies   panic: what is not as durable as promised must not be answered
    an AssertionError elsewhere   panic: the state of a log, a link or a child is not what its
                                  invariants say, and going on would write that down
    anything else in a callback   logged; its next round may do better

Each leaves a traceback in the log. A panic ends the process by SIGABRT (a core, where the system
keeps them), or with status 1 where use-exit-on-panic says so; the files are whole, and a restart
begins from them.

Source: Redis 7.0 debug.c (_serverAssert, _serverPanic).
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.engine.spec import Command
    from kvrepl.server.app import Server

EXIT_PANIC: Final = 1
ARGUMENTS_SHOWN: Final = 8
ARGUMENT_SHOWN_BYTES: Final = 64


class Faults:
    """Where mistakes of ours end up; installs itself in the engine, the turn and the loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        server.engine.on_fault = self._in_handler
        server.turn.on_fault = self.panic
        server.loop.set_exception_handler(self._in_callback)

    def report(self, where: str, error: BaseException) -> None:
        """Log a mistake with its traceback; the server goes on."""
        lines = "".join(traceback.format_exception(error)).rstrip()
        self._server.log.warning(f"Internal error {where}, please report it:\n{lines}")

    def panic(self, error: BaseException) -> NoReturn:
        """Log a mistake, and end the process at once, saving nothing."""
        log = self._server.log
        log.warning("=== KVREPL BUG REPORT START: Cut & paste starting from here ===")
        log.warning("".join(traceback.format_exception(error)).rstrip())
        log.warning("=== KVREPL BUG REPORT END. Please report it; the files are whole. ===")
        if self._server.config.use_exit_on_panic:
            os._exit(EXIT_PANIC)
        os.abort()

    def _in_handler(
        self, client: Client, command: Command, argv: Sequence[bytes], error: Exception
    ) -> None:
        shown = b" ".join(argument[:ARGUMENT_SHOWN_BYTES] for argument in argv[1:ARGUMENTS_SHOWN])
        arguments = "" if _is_secret(command) else f" {shown!r}"
        self.report(f"in '{command.name}'{arguments} from {client.addr.decode()}", error)

    def _in_callback(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, AssertionError):
            self.panic(error)
        if isinstance(error, OSError):
            # A socket or pipe that broke where the loop itself was using it: nobody's mistake.
            self._server.log.verbose(f"{context.get('message')}: {error}")
        elif error is not None:
            self.report(f"({context.get('message')})", error)
        else:
            self._server.log.verbose(f"{context.get('message')}")


def _is_secret(command: Command) -> bool:
    return command.name in ("auth", "hello", "config|set", "migrate") or "acl" in command.name
