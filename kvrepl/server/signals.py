"""Signals: each only sets something in motion; the loop does the work.

    SIGTERM, SIGINT    shut down as shutdown-on-sigterm / shutdown-on-sigint say
    SIGINT again       exit at once, with status 1
    SIGHUP, SIGPIPE    ignored
    SIGSEGV, SIGABRT   and their like: a report in the log (kvrepl.server.crash)

Source: Redis 7.0 server.c (setupSignalHandlers, sigShutdownHandler), debug.c (sigsegvHandler).
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvrepl.server.app import Server


class Signals:
    """The signal handlers of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._asked = False

    def install(self) -> None:
        """Take over the signals of the process."""
        loop = self._server.loop
        loop.add_signal_handler(signal.SIGTERM, self._shutdown, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._shutdown, signal.SIGINT)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        if self._server.config.crash_log_enabled:
            self._server.crash_handler.install()

    def _shutdown(self, number: signal.Signals) -> None:
        log, config = self._server.log, self._server.config
        if number == signal.SIGINT:
            if self._asked:
                log.warning("You insist... exiting now.")
                self._server.remove_pidfile()
                os._exit(1)
            log.warning("Received SIGINT scheduling shutdown...")
            flags = config.shutdown_on_sigint
        else:
            log.warning("Received SIGTERM scheduling shutdown...")
            flags = config.shutdown_on_sigterm
        self._asked = True
        save = True if "save" in flags else False if "nosave" in flags else None
        self._server.shutdown.begin(save=save, now="now" in flags, force="force" in flags)

    def shutdown_failed(self) -> None:
        """The shutdown that was asked for did not happen: a further signal asks anew."""
        self._asked = False
