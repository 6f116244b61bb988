"""The hot loops: requests of one client, and commands of a stream.

    serve   bytes of a client whom nothing holds back -> parse -> run
    run     look up -> arity -> one AND of gates -> handler -> dirty? -> propagate -> encode
    apply   the same for a master's stream or the AOF, as far as its commands are plain

They are written twice: here, where they can be read, and compiled in `_batch.pyx`, which is taken
where it was built (and KVREPL_PURE is not 1). The compiled ones do the same things in the same
order, with one liberty. What *plain* commands (Command.plain) propagate and answer is gathered
and handed on in one piece: at the end of the batch, and before anything else runs that could
tell the difference (a command that is not plain, an operation on another database, a blocked
client to be served). The bytes are the same and so is their order.

Whatever is unusual leaves by a single test: a raised gate goes to `Engine.careful`, a handler
that said how it is to be propagated to `Propagation.ended`. Only where the gate ACL is the one
that is up, its user is judged first, and what is allowed goes on here.

Time. The clock is read once a command: a command's time begins where the one before it ended, and
so includes what it costs to hand on its reply. The wall clock is read at the begin of a batch,
unless that was done less than FRESH_NS ago.

Source: Redis 7.0 networking.c (processInputBuffer), server.c (processCommand, call).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kvrepl.clock import FRESH_NS
from kvrepl.engine import gates
from kvrepl.engine.blocking import POSTPONED
from kvrepl.errors import CommandError
from kvrepl.keyspace.database import IGNORE
from kvrepl.resp import ACCELERATED, encode
from kvrepl.resp.values import BLOCKED, NO_REPLY

if TYPE_CHECKING:
    from kvrepl.engine.client import Client
    from kvrepl.engine.dispatch import Engine
    from kvrepl.resp import RequestParser


def run_reference(
    engine: Engine, client: Client, requests: Sequence[list[bytes]], start: int = 0
) -> int:
    """Run requests of one client, from number `start` on, and gather their replies.

    It stops early when the client blocks or is to be closed, or when the batch has taken its
    share of time.

    Returns:
        How many of the requests are done (an index into `requests`).
    """
    keyspace = engine.keyspace
    propagation = engine.propagation
    blocking = engine.blocking
    find = engine.spellings.get
    monotonic_ns = engine.clock.monotonic_ns
    append = client.out.append
    done = start
    total = len(requests)
    if not client.pending:
        client.stir()
    began = before = monotonic_ns()
    if began - engine.timed_ns >= FRESH_NS:
        engine.timed_ns = began
        engine.take_time()
    client.last_interaction_ms = keyspace.now_ms
    while done < total:
        argv = requests[done]
        command = find(argv[0])
        if (
            command is None
            or not command.least <= len(argv) <= command.most
            or command.subcommands
            or (
                (raised := (engine.gates | client.gates) & ~client.exempt & command.mask)
                and (raised != gates.ACL or engine.acl.denial(client, command, argv) is not None)
            )
        ):
            reply = engine.careful(client, argv)
            if client.wait is not None and client.wait.kind == POSTPONED:
                break  # it is run again when it is let go
            before = monotonic_ns()
        else:
            dirty = keyspace.dirty
            client.last_command = command
            try:
                reply = command.handler(client, argv)
            except CommandError as error:
                reply = error
                command.failed += 1
                engine.stats.error(error)
            except Exception as error:
                reply = engine.fault(client, command, argv, error)
            now = monotonic_ns()
            spent = now - before
            before = now
            if reply is BLOCKED:
                engine.waits(client, command, argv, spent)
            else:
                command.count(spent)
                if spent >= engine.slow_ns:
                    engine.slow(client, command, argv, spent)
            if keyspace.dirty > dirty or propagation.unusual:
                propagation.ended(client.db.index, argv, keyspace.dirty > dirty)
        done += 1
        if reply is not BLOCKED and reply is not NO_REPLY:
            append(encode(reply, client.resp))
        if propagation.ops:
            propagation.flush()
        if blocking.ready:
            blocking.serve_ready()
            propagation.flush()
            before = monotonic_ns()
        if client.wait is not None or client.gates & gates.CLOSING:
            break
        if before - began >= engine.budget_ns:
            engine.tick()
            break
    return done


def serve_reference(
    engine: Engine, client: Client, parser: RequestParser, data: bytes
) -> list[list[bytes]] | None:
    """Take bytes of a client whom nothing holds back, and run the requests that they complete.

    Args:
        engine: whose dataset they ask for.
        client: not blocked, not to be closed, nobody's replica.
        parser: the client's own.
        data: as they came from the socket.

    Returns:
        None where that was all. Otherwise the requests that were not run, and there may be none:
        they wait, or the parser met an error, or it was told of no authentication so far.
    """
    engine.stats.net_in_bytes += len(data)
    engine.stats.reads += 1
    requests = parser.feed(data)
    client.last_interaction_ms = engine.keyspace.now_ms
    done = run_reference(engine, client, requests) if requests else 0
    if done == len(requests) and parser.error is None and parser.authenticated:
        return None
    return requests[done:]


def apply_reference(
    engine: Engine, client: Client, commands: Sequence[tuple[list[bytes], int]], start: int = 0
) -> tuple[int, CommandError | None]:
    """Run commands of a stream, from number `start` on, while they are plain and no gate is up.

    It stops before a command that is not (that one is for `Engine.apply`), and after one that
    answered with an error. No command run here can end the link, ask for its offset, or stand
    inside MULTI; so the offset may be told once for all of them. While clients are blocked it
    runs one command only: whoever is served by it goes on with commands of his own.

    Args:
        engine: whose dataset they change.
        client: stands for the stream; its answers are thrown away.
        commands: (argv, offset of its end) pairs, as StreamParser gives them.
        start: the number of the first.

    Returns:
        The number of the first one that was not run, and the error of the last one that was.
    """
    keyspace = engine.keyspace
    propagation = engine.propagation
    find = engine.spellings.get
    mode = keyspace.expiry_mode
    inside = IGNORE if client.is_master else mode
    keyspace.expiry_mode = inside
    stop = start + 1 if engine.blocking.waiting else len(commands)
    try:
        for number in range(start, min(stop, len(commands))):
            argv = commands[number][0]
            command = find(argv[0])
            if (
                command is None
                or not command.plain
                or not command.least <= len(argv) <= command.most
                or (engine.gates | client.gates) & ~client.exempt & command.mask
            ):
                return number, None
            client.last_command = command
            reply = engine.call(client, command, argv)
            if propagation.ops:
                propagation.flush()
            if engine.blocking.ready:
                keyspace.expiry_mode = mode
                engine.settle()
                keyspace.expiry_mode = inside
            if type(reply) is CommandError:
                return number + 1, reply
        return max(start, min(stop, len(commands))), None
    finally:
        keyspace.expiry_mode = mode


def _compiled() -> bool:
    """Say whether the compiled loops are to be used."""
    if not ACCELERATED:
        return False
    try:
        import kvrepl.engine._batch  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


COMPILED: Final = _compiled()
"""Whether `serve`, `run` and `apply` are the compiled ones."""

if TYPE_CHECKING or not COMPILED:
    serve = serve_reference
    run = run_reference
    apply = apply_reference
else:
    from kvrepl.engine._batch import apply as apply
    from kvrepl.engine._batch import run as run
    from kvrepl.engine._batch import serve as serve
