"""Shutting down: wait for the replicas, stop the child, save, leave.

    RUNNING --begin--> WAITING (replicas lag, shutdown-timeout) --acked or time over--> FINISHING
    FINISHING --saved--> ended        FINISHING --an error, no FORCE--> RUNNING
    WAITING --abort--> RUNNING

Nothing that was acknowledged is lost: the AOF is written and fsynced, and the dataset saved where
save points are set, before the process ends. If that fails, the server goes on.

Source: Redis 7.0 server.c (prepareForShutdown, finishShutdown, abortShutdown).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvrepl.engine.blocking import SHUTDOWN
from kvrepl.errors import CommandError, StorageError
from kvrepl.resp.values import BLOCKED, NO_REPLY, OK, Reply
from kvrepl.server import children

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.server.app import Server

FAILED = CommandError(b"ERR Errors trying to SHUTDOWN. Check logs.")
PAUSE_NAME = "shutdown"


class Shutdown:
    """The end of a server.

    Attributes:
        deadline_ms: until when replicas are waited for, None when no shutdown is going on.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.deadline_ms: int | None = None
        self._save: bool | None = None
        self._force = False

    def command(self, client: Client, *, save: bool | None, now: bool, force: bool) -> Reply:
        """SHUTDOWN: answers only if it fails."""
        if self._server.saver.loading is not None:
            save = False
        if self.begin(save=save, now=now, force=force):
            return NO_REPLY
        if self.deadline_ms is not None:
            # What it sends after this is not answered before this is.
            self._server.engine.blocking.block(client, kind=SHUTDOWN, on_timeout=lambda: FAILED)
            return BLOCKED
        raise FAILED

    def begin(self, *, save: bool | None, now: bool, force: bool) -> bool:
        """Shut down.

        Args:
            save: whether to save an RDB; None: if save points are set.
            now: do not wait for replicas.
            force: go on in spite of errors.

        Returns:
            Whether the server has ended; if not it may be waiting (deadline_ms).
        """
        server = self._server
        if self.deadline_ms is not None:
            # What was asked first holds: a SIGTERM after SHUTDOWN SAVE is to save as well. NOW
            # ends the wait (Redis goes on waiting).
            if not now:
                return False
            self._save = self._save if save is None else save
            self._force |= force
            return self._finish()
        self._save, self._force = save, force
        server.log.warning("User requested shutdown...")
        server.supervisor.tell("STOPPING=1\n")
        timeout_s = server.config.shutdown_timeout
        if not now and timeout_s and not server.replication.replicas_in_step():
            self.deadline_ms = server.clock.now_ms() + timeout_s * 1000
            server.pause(PAUSE_NAME, all_commands=False, until_ms=1 << 62)
            server.replication.request_acks()
            server.log.notice(
                f"Waiting for replicas before shutting down (for {timeout_s} s at most, "
                "shutdown-timeout; SHUTDOWN NOW ends it, SHUTDOWN ABORT calls it off)."
            )
            return False
        return self._finish()

    def cron(self) -> None:
        """Look whether the replicas have caught up, or the time is over."""
        if self.deadline_ms is None:
            return
        if (
            self._server.replication.replicas_in_step()
            or self._server.clock.now_ms() >= self.deadline_ms
        ):
            self._finish()

    def abort(self) -> Reply:
        """SHUTDOWN ABORT."""
        if self.deadline_ms is None:
            raise CommandError(b"ERR No shutdown in progress.")
        self._server.log.notice("Shutdown manually aborted.")
        self._cancel()
        return OK

    def _cancel(self) -> None:
        self.deadline_ms = None
        self._server.unpause(PAUSE_NAME)
        self._server.signals.shutdown_failed()
        blocking = self._server.engine.blocking
        for wait in blocking.of_kind(SHUTDOWN):
            blocking.unblock(wait.client, FAILED)
        self._server.turn.wake()

    def _finish(self) -> bool:
        server = self._server
        log = server.log
        server.replication.report_lag()
        if not self._prepare() and not self._force:
            log.warning(
                "Errors trying to shut down the server. Check the logs for more information."
            )
            self._cancel()
            return False
        server.turn.end()
        server.remove_pidfile()
        server.aof.stop_background()
        server.listeners.close()
        server.replication.link.close()
        server.replication.link.drop_file()
        log.warning("Redis is now ready to exit, bye bye...")
        server.end(0)
        return True

    def prepare_restart(self) -> bool:
        """Make everything durable, as before the end; False if it could not be."""
        self._save, self._force = None, False
        return self._prepare()

    def _prepare(self) -> bool:
        """Stop the child and make everything durable; False if it could not be."""
        server = self._server
        log = server.log
        active = server.children.active
        ok = True
        if active is not None:
            if active.kind == children.RDB:
                log.warning("There is a child saving an .rdb. Killing it!")
                server.children.kill()
            else:
                if server.aof.log.state.name == "WAIT_REWRITE" and not self._force:
                    log.warning("Writing initial AOF, can't exit.")
                    return False
                log.warning("There is a child rewriting the AOF. Killing it!")
                server.children.kill()
        if server.aof.is_on:
            log.notice("Calling fsync() on the AOF file.")
            try:
                server.aof.fsync_for_exit()
            except StorageError as error:
                log.warning(f"Fail to fsync the AOF file: {error.cause.strerror}.")
                ok = False
        save = self._save if self._save is not None else bool(server.config.save)
        if save and server.saver.loading is None:
            log.notice("Saving the final RDB snapshot before exiting.")
            try:
                server.saver.save()
            except CommandError:
                end = ". Exit anyway." if self._force else ", can't exit."
                log.warning(f"Error trying to save the DB{end}")
                ok = False
        return ok
