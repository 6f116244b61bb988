"""One command from argv to reply: the engine.

    argv -> look up -> arity -> one AND of gates -> handler -> dirty? -> propagate -> encode

`run()` is the one hot path; its loop stands in kvrepl.engine.batch. Whatever is unusual leaves it
by a single test: a raised gate goes to `careful()` (kvrepl.engine.admission words the refusals),
a command that left something to settle to `settle()`.

    Engine          owns the keyspace, the command table, the clients, and the parts below
      propagation   what the replicas and the AOF get
      blocking      clients that wait
      pubsub        subscriptions
      tracking      client-side caching: who is told of which keys
      acl           users, and what each may do
      memory        maxmemory: what is evicted, what refused
      host          the server around it (files, children, other servers)

The engine is pure: time comes from the injected clock, randomness from the injected generator,
and replies gather in `Client.out` until the shell writes them.

Source: Redis 7.0 server.c (processCommand, call).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any, Final

from kvrepl.clock import Clock
from kvrepl.config.notify import NOTIFY_KEYEVENT, NOTIFY_KEYSPACE
from kvrepl.engine import admission, batch, gates
from kvrepl.engine.acl.access import Access
from kvrepl.engine.blocking import Blocking, Wait
from kvrepl.engine.client import Client, Port
from kvrepl.engine.host import Host, NoHost
from kvrepl.engine.memory import Memory, Meter
from kvrepl.engine.propagation import Propagation
from kvrepl.engine.pubsub import PubSub
from kvrepl.engine.spec import REGISTRY, Command
from kvrepl.engine.stats import Stats
from kvrepl.engine.tracking import Tracking
from kvrepl.errors import CommandError
from kvrepl.keyspace.database import DELETE, HIDE, IGNORE, Database
from kvrepl.keyspace.keyspace import Keyspace
from kvrepl.resp.values import BLOCKED, NO_REPLY, Reply

if TYPE_CHECKING:
    from kvrepl.config import Config

SPELLINGS_LIMIT: Final = 8192
"""How many spellings (GET, get, Get, ...) the lookup remembers before it only lowers case."""


class Engine:
    """The command engine of one server.

    Args:
        config: the settings; the engine reads them, and whoever changes them says so through
            Config's own subscriptions.
        clock: the source of time.
        rng: the source of randomness (SPOP, RANDOMKEY, eviction).
        host: the server around it.
        meter: tells how much memory is in use; None where nothing limits it.

    Attributes:
        gates: raised bits that hold for every client.
        clients: all clients by id.
        writers: clients with output that the shell has not looked at yet.
        skip_checksum: RESTORE takes payloads whatever their checksum (DEBUG).
        disk_error_text: the refusal while the gate DISK is raised.
        depth: how many EXECs and scripts are running inside each other.
        slow_ns: a command that took as long as this is looked at (slow log, latency monitor).
        on_slow: told of each such command; see `slow`.
        on_spike: told of an event and how long it took, where that was as long.
        on_fault: told of each command whose handler failed by a mistake of ours; see `fault`.
        budget_ns: a batch that took as long as this yields to other clients.
        take_time: called at the begin of a batch; the shell may have it do more than `tick`.
        timed_ns: when that was done last, on the clock that never goes back.
        commands: the command table of this engine, by name.
        spellings: the same by every name that clients have used (get, GET, Get); rename-command
            changes it.
        pauses: reason -> (until when, whether it holds back more than writes).
        function_libraries: the code of the function libraries.
        scripts: scripts and functions, put there by kvrepl.scripting.runtime.connect.
    """

    # Slots for what the compiled loops read in place.
    __slots__ = (
        "__dict__", "blocking", "budget_ns", "clock", "gates", "keyspace", "propagation",
        "slow_ns", "spellings", "stats", "timed_ns", "writers",
    )  # fmt: skip

    def __init__(
        self,
        config: Config,
        clock: Clock,
        rng: Random,
        host: Host | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.rng = rng
        self.host: Any = host if host is not None else NoHost()
        self.keyspace = Keyspace(config.databases)
        self.keyspace.sink = self
        self.propagation = Propagation()
        self.blocking = Blocking(self)
        self.pubsub = PubSub()
        self.stats = Stats()
        self.clients: dict[int, Client] = {}
        self.tracking = Tracking(self.keyspace, self.clients)
        self.gates = 0
        self.depth = 0
        self.disk_error_text = b""
        self.skip_checksum = False
        self.slow_ns = 1 << 62
        self.budget_ns = 5_000_000
        self.writers: list[Client] = []
        self.monitors: dict[Client, None] = {}
        self.pauses: dict[str, tuple[int, bool]] = {}
        self.function_libraries: list[bytes] = []
        self.scripts: Any = None
        self.commands: dict[str, Command] = {
            name: command.copy() for name, command in REGISTRY.items()
        }
        self.spellings: dict[bytes, Command] = {
            spelling.encode(): command
            for name, command in self.commands.items()
            for spelling in (name, name.upper())
        }
        self.acl = Access(self)
        self.memory = Memory(self, meter)
        self._next_client_id = 1
        self.on_slow: Callable[[Client, Command, Sequence[bytes], int], None] = lambda *_: None
        self.on_spike: Callable[[bytes, int], None] = lambda *_: None
        self.on_fault: Callable[[Client, Command, Sequence[bytes], Exception], None] | None = None
        self.timed_ns = 0
        self.take_time: Callable[[], None] = self.tick
        self.tick()

    # ------------------------------------------------------------------ time

    def tick(self) -> None:
        """Take the time from the clock; between two calls all commands see the same instant."""
        keyspace = self.keyspace
        keyspace.now_ms = self.clock.now_ms()
        if keyspace.access is not None:
            keyspace.access.tick(keyspace.now_ms)
        if self.memory.limit_bytes:
            self.memory.watch()

    # --------------------------------------------------------------- clients

    def connect(self, port: Port | None = None) -> Client:
        """Make a client; it is the user `default`, let in if no password is needed."""
        client = Client(self, self._next_client_id, port)
        self._next_client_id += 1
        self.clients[client.id] = client
        self.acl.welcome(client)
        return client

    def internal_client(self) -> Client:
        """A client for commands that we run ourselves (the master's stream, the AOF).

        It passes the gates that are only for others, gets no answers, and stands on no list.
        """
        client = Client(self, self._next_client_id)
        self._next_client_id += 1
        client.exempt = gates.MASTER_EXEMPT
        client.is_master = True
        return client

    def disconnect(self, client: Client) -> None:
        """A client is gone: take it off every list."""
        client.gates |= gates.CLOSING
        self.clients.pop(client.id, None)
        self.monitors.pop(client, None)
        self.update_monitored()
        self.blocking.forget(client)
        self.pubsub.drop(client)
        self.tracking.disable(client)
        self.unwatch(client)

    def kill(self, doomed: Client, caller: Client | None) -> None:
        """End a connection. The caller's own is closed once it has its answer."""
        if doomed is caller:
            doomed.close_soon()
        elif doomed.is_replica or doomed.is_master:
            self.host.kill_replica(doomed)
        else:
            doomed.port.abort()
            self.disconnect(doomed)

    # -------------------------------------------------------------- commands

    def find(self, name: bytes) -> Command | None:
        """The command of that name in any case, None where there is none. O(1)."""
        command = self.spellings.get(name)
        if command is None:
            command = self.spellings.get(name.lower())
            if command is not None and len(self.spellings) < SPELLINGS_LIMIT:
                self.spellings[name] = command
        return command

    def rename(self, name: bytes, new_name: bytes) -> None:
        """Have a command answer to another name only, or (the empty one) to none.

        Raises:
            ValueError: there is no such command, or the new name is taken.
        """
        command = self.spellings.get(name.lower())
        if command is None:
            raise ValueError("No such command in rename-command")
        if new_name and new_name.lower() in self.spellings:
            raise ValueError("Target command name already exists")
        for spelling in [known for known, found in self.spellings.items() if found is command]:
            del self.spellings[spelling]
        if new_name:
            self.spellings[new_name.lower()] = command

    def all_commands(self) -> Iterator[Command]:
        """Every command and subcommand."""
        for command in self.commands.values():
            yield command
            yield from command.subcommands.values()

    def resolve(self, argv: Sequence[bytes]) -> Command | None:
        """The command or subcommand that argv calls, None where there is none. O(1)."""
        command = self.find(argv[0])
        if command is not None and command.subcommands and len(argv) > 1:
            return command.subcommands.get(argv[1].lower())
        return command

    def run(self, client: Client, requests: list[list[bytes]], start: int = 0) -> int:
        """Run requests of one client, from number `start` on, and gather their replies.

        It stops early when the client blocks or is to be closed, or when the batch has taken its
        share of time; see kvrepl.engine.batch.

        Returns:
            How many of the requests are done (an index into `requests`).
        """
        return batch.run(self, client, requests, start)

    def apply_plain(
        self, client: Client, commands: list[tuple[list[bytes], int]], start: int = 0
    ) -> tuple[int, CommandError | None]:
        """Run commands of a stream as long as they are plain; see kvrepl.engine.batch.

        Returns:
            The number of the first one that was not run, and the error of the last one that was.
        """
        return batch.apply(self, client, commands, start)

    def apply(self, client: Client, argv: list[bytes]) -> Reply:
        """Run one command outside of a connection: the master's stream, the AOF, a test.

        Returns:
            The reply as a value; a CommandError is returned, not raised.
        """
        keyspace = self.keyspace
        mode = keyspace.expiry_mode
        if client.is_master:
            keyspace.expiry_mode = IGNORE
        try:
            reply = self.careful(client, argv)
        finally:
            keyspace.expiry_mode = mode
        self.settle()
        return reply

    def settle(self) -> None:
        """A top-level command is over: hand on what it propagates, serve who waited for it."""
        if self.propagation.ops:
            self.propagation.flush()
        if self.blocking.ready:
            self.blocking.serve_ready()
            self.propagation.flush()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Serve other clients in the middle of a script.

        What the script has written so far is neither propagated nor seen by who waits for it, and
        what it is to be told of itself stays with it, until it has ended.
        """
        propagation, blocking, tracking = self.propagation, self.blocking, self.tracking
        ops, propagation.ops = propagation.ops, []
        ready, blocking.ready = blocking.ready, {}
        told, tracking.current, tracking.inside = (tracking.current, tracking.inside), None, None
        try:
            yield
        finally:
            propagation.ops = ops
            blocking.ready = ready
            tracking.current, tracking.inside = told

    def call(self, client: Client, command: Command, argv: list[bytes]) -> Reply:
        """Run one admitted command; nothing is settled. EXEC and scripts call this.

        Returns:
            The reply as a value; a CommandError is returned, not raised.
        """
        keyspace = self.keyspace
        dirty = keyspace.dirty
        before = self.clock.monotonic_ns()
        db = client.db.index
        reply: Reply
        try:
            reply = command.handler(client, argv)
        except CommandError as error:
            reply = error
            command.failed += 1
            self.stats.error(error)
        except Exception as error:
            reply = self.fault(client, command, argv, error)
        spent = self.clock.monotonic_ns() - before
        if reply is BLOCKED:
            self.waits(client, command, argv, spent)
        else:
            command.count(spent)
            if spent >= self.slow_ns:
                self.slow(client, command, argv, spent)
        propagation = self.propagation
        if keyspace.dirty > dirty or propagation.unusual:
            propagation.ended(db, argv, keyspace.dirty > dirty)
        if client.tracking is not None and "readonly" in command.flags:
            self.tracking.remember(client, command, argv)
        return reply

    @contextmanager
    def blaming(self, argv: Sequence[bytes]) -> Iterator[None]:
        """Count an error that other clients are sent meanwhile as a failure of this command.

        Redis takes any error for that of the command which runs (incrCommandStatsOnError).
        """
        errors = self.stats.errors
        yield
        command = self.resolve(argv)
        if command is not None and self.stats.errors > errors:
            command.failed += 1

    def may_block(self, client: Client) -> bool:
        """Whether a command may wait now: not inside EXEC or a script, not for our master."""
        return self.depth == 0 and not client.is_master

    def careful(self, client: Client, argv: list[bytes]) -> Reply:
        """The long way: names what is wrong with the request, or runs it with a gate raised."""
        if client.tracking is not None:
            return self._tracked(client, argv)
        return self._careful(client, argv)

    def _careful(self, client: Client, argv: list[bytes]) -> Reply:
        quiet = client.gates & gates.QUIET
        client.last_command = None  # what follows may be no command
        try:
            command = client.last_command = admission.look_up(self, client, argv)
            reply = admission.admit(self, client, command, argv)
        except CommandError as error:
            self.stats.error(error)
            reply = error
        else:
            if reply is None:
                watches = client.is_monitor
                reply = self.call(client, command, argv)
                if self.gates & gates.MONITORED:
                    stays = not client.gates & gates.CLOSING  # after QUIT nothing is sent to it
                    if watches and stays and reply is not BLOCKED and reply is not NO_REPLY:
                        client.send(reply)  # before what it is shown of itself
                        reply = NO_REPLY
                    admission.feed_monitors(self, client, command, argv)
        return client.quieten(reply) if quiet else reply

    def _tracked(self, client: Client, argv: list[bytes]) -> Reply:
        """Run a command of a tracking client: it is told of its own changes after the answer."""
        tracking = self.tracking
        mode = client.tracking
        tracking.current = client
        try:
            reply = self._careful(client, argv)
        finally:
            tracking.current = None
        if argv[0].lower() != b"client" and client.queued is None:
            mode.caching = False
        if tracking.pending:
            if reply is not BLOCKED and reply is not NO_REPLY:
                client.send(reply)
                reply = NO_REPLY
            tracking.tell_current(client)
        return reply

    def fault(
        self, client: Client, command: Command, argv: list[bytes], error: Exception
    ) -> CommandError:
        """A handler failed by a mistake of ours: the client hears of it, the server lives on.

        What the handler changed before stays and is propagated. Without `on_fault` (in tests and
        simulations) the exception goes through.
        """
        if self.on_fault is None:
            raise error
        refusal = CommandError(
            b"ERR internal error in '%b', see the log of the server" % command.name.encode()
        )
        command.failed += 1
        self.stats.error(refusal)
        self.on_fault(client, command, argv, error)
        return refusal

    def disk_error(self) -> CommandError:
        """What -MISCONF says while the gate DISK is raised."""
        return CommandError(self.disk_error_text)

    def slow(self, client: Client, command: Command, argv: list[bytes], spent_ns: int) -> None:
        """A command took as long as `slow_ns`."""
        if not self.depth:
            self.tick()  # inside EXEC and scripts the time stands still
        self.on_slow(client, command, argv, spent_ns)
        self._spike(command, spent_ns)

    def _spike(self, command: Command, spent_ns: int) -> None:
        self.on_spike(b"fast-command" if "fast" in command.flags else b"command", spent_ns)

    def waits(self, client: Client, command: Command, argv: list[bytes], spent_ns: int) -> None:
        """A command began to wait: that is its call, and the rest comes when it has `waited`."""
        wait = client.wait
        assert wait is not None, "who is blocked waits for something"
        wait.command, wait.argv, wait.spent_ns = command, argv, spent_ns
        command.calls += 1
        command.nanoseconds += spent_ns
        if spent_ns >= self.slow_ns:
            self.tick()
            self._spike(command, spent_ns)

    def waited(self, wait: Wait, argv: Sequence[bytes], spent_ns: int, *, failed: bool) -> None:
        """A command that waited has its answer.

        Args:
            wait: its wait.
            argv: what the slow log is to show.
            spent_ns: what it took to answer it, without the time that it waited.
            failed: whether that was an error.
        """
        command = wait.command
        assert command is not None, "it waits since its handler is over"
        command.nanoseconds += spent_ns
        command.failed += failed
        command.note_span(wait.spent_ns + spent_ns)
        if wait.spent_ns + spent_ns >= self.slow_ns:
            self.on_slow(wait.client, command, argv, wait.spent_ns + spent_ns)
            self.on_spike(b"command-unblocking", spent_ns)

    # ----------------------------------------------------- the keyspace's sink

    def expired(self, db: Database, key: bytes) -> None:
        """A key was removed because its time came: its deletion goes to replicas and AOF."""
        verb = b"UNLINK" if self.config.lazyfree_lazy_expire else b"DEL"
        self.propagation.also(db.index, [verb, key])
        if self.keyspace.tracking:
            self.tracking.invalidate(key, None)

    def touched(self, db: Database, key: bytes) -> None:
        """A watched key changed: the transactions that watch it will not run.

        A key that had expired before it was watched and is now removed did not change.
        """
        for client in db.watched[key]:
            if client.watching[db, key] and db.peek(key) is None:
                client.watching[db, key] = False
            else:
                client.dirty_cas = True

    def invalidated(self, db: Database, key: bytes) -> None:
        """A key changed while clients track keys."""
        self.tracking.invalidate(key, None if self.script_runs else self.tracking.current)

    def ready(self, db: Database, key: bytes) -> None:
        """A key that clients are blocked on has elements."""
        self.blocking.ready[db, key] = None

    def notify(self, kind: int, event: bytes, key: bytes, db: Database) -> None:
        """Publish a keyspace notification whose class is switched on."""
        flags = self.keyspace.notify_flags
        if flags & NOTIFY_KEYSPACE:
            self.pubsub.publish(b"__keyspace@%d__:%b" % (db.index, key), event)
        if flags & NOTIFY_KEYEVENT:
            self.pubsub.publish(b"__keyevent@%d__:%b" % (db.index, event), key)

    # ------------------------------------------------------------- the state

    def raise_gate(self, bit: int) -> None:
        """Raise a gate for every client."""
        self.gates |= bit

    def lower_gate(self, bit: int) -> None:
        """Lower a gate for every client."""
        self.gates &= ~bit

    def set_gate(self, bit: int, raised: bool) -> None:
        """Raise or lower a gate for every client."""
        self.gates = self.gates | bit if raised else self.gates & ~bit

    def update_monitored(self) -> None:
        """Raise the gate of MONITOR exactly while somebody monitors."""
        self.set_gate(gates.MONITORED, bool(self.monitors))

    def expiry_mode(self) -> int:
        """What expired keys look like to ordinary clients now."""
        if self.is_replica or self.gates & (gates.PAUSE_WRITES | gates.PAUSE_ALL):
            return HIDE
        return DELETE

    is_replica = False
    """Whether this server follows a master; set by the shell together with the gates."""

    def deletes_past(self, expires_at_ms: int) -> bool:
        """Whether setting this expiry deletes the key: it is past, and we are a master at work.

        On a replica and while loading the time is set, and the master's DEL will follow.
        Source: expire.c (checkAlreadyExpired).
        """
        return (
            expires_at_ms <= self.keyspace.now_ms
            and not self.is_replica
            and not self.gates & gates.LOADING
        )

    @property
    def script_runs(self) -> bool:
        """Whether a script is running; it is then the script that calls commands."""
        return self.scripts is not None and self.scripts.running is not None

    @property
    def is_loading(self) -> bool:
        """Whether a dataset is being loaded."""
        return bool(self.gates & (gates.LOADING | gates.ASYNC_LOADING))

    def reset_stats(self) -> None:
        """CONFIG RESETSTAT: the counters of the engine."""
        keyspace = self.keyspace
        keyspace.hits = keyspace.misses = keyspace.expired = keyspace.garbage.freed = 0
        self.stats.reset()
        self.memory.reset_stats()
        for command in self.all_commands():
            command.reset_stats()

    def empty(self, databases: Sequence[Database], *, lazily: bool) -> None:
        """Remove every key of some databases (FLUSHDB, FLUSHALL). O(segments + watched keys)."""
        keyspace = self.keyspace
        for db in databases:
            for key in db.watched:
                if db.exists(key):
                    self.touched(db, key)
            keyspace.dirty += len(db)
            old = db.clear()
            if lazily:
                keyspace.garbage.throw_segments(old)
            self._wake_blocked(db)
        self.tracking.flushed()

    def swap(self, first: Database, second: Database) -> None:
        """Exchange the contents of two databases (SWAPDB). O(watched and blocked keys)."""
        for one, other in ((first, second), (second, first)):
            for key in one.watched:
                if one.peek(key) is not other.peek(key):
                    self.touched(one, key)
        first.swap(second)
        self._wake_blocked(first)
        self._wake_blocked(second)

    def _wake_blocked(self, db: Database) -> None:
        """The contents of a database were exchanged: whoever is blocked on a key looks again."""
        for key in db.blocked_keys:
            self.ready(db, key)

    def flush_for_load(self, *, lazily: bool) -> None:
        """Empty every database because another dataset takes its place; nothing propagates."""
        for db in self.keyspace.databases:
            for key in list(db.watched):
                if db.exists(key):
                    self.touched(db, key)
        self.keyspace.clear(lazily=lazily)
        for db in self.keyspace.databases:
            self._wake_blocked(db)
        self.tracking.flushed()
        self.function_libraries = []

    def unwatch(self, client: Client) -> None:
        """Forget the keys that a client watches."""
        for db, key in client.watching:
            watchers = db.watched.get(key)
            if watchers is not None:
                watchers.discard(client)
                if not watchers:
                    del db.watched[key]
        client.watching.clear()
        client.dirty_cas = False
