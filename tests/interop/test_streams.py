"""Streams beside redis-server: the same replies, propagation, events, dirt and digest.

Redis's clock runs and ours is put by hand, so what depends on it is taken out of the comparison:
instants become T, times of waiting are told apart by minutes only. Ids are always given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kvrepl.persistence.rewrite import aof_base
from tests.interop.differential.grammar.parts import Argv
from tests.interop.differential.grammar.streams import ADD, BAD_IDS, ENTRIES, GROUPED, ODD_IDS
from tests.interop.differential.peers import InProcess, Real, Tree, requests_of
from tests.interop.harness import Server

pytestmark = pytest.mark.interop

NODE_ENTRIES = 4
NODE_BYTES = 120
IDLE_UNIT_MS = 60_000
"""Waiting is simulated by XCLAIM ... IDLE; a test takes far less than this."""
INSTANT_MS = 1_000_000_000_000
"""Numbers above are taken for instants: nothing else in these tests is as large."""
MAX = b"18446744073709551615"

ROOM = settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a server asked anew shrinks slowly
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """Start a redis-server with small nodes, watched."""
    directives: dict[str, Any] = Real.directives() | {
        "stream_node_max_entries": str(NODE_ENTRIES),
        "stream_node_max_bytes": str(NODE_BYTES),
    }
    server = Server("redis", tmp_path_factory.mktemp("streams"), directives)
    with server:
        peer = Real(server)
        yield peer
        peer.close()


@pytest.fixture(scope="module")
def ours() -> InProcess:
    """Give our engine with nodes of the same size."""
    peer = InProcess()
    peer.engine.config.stream_node_max_entries = NODE_ENTRIES
    peer.engine.config.stream_node_max_bytes = NODE_BYTES
    return peer


BOTH_IN_FULL: list[Argv] = [
    (b"XINFO", b"STREAM", b"x1", b"FULL", b"COUNT", b"0"),
    (b"XINFO", b"STREAM", b"x2", b"FULL", b"COUNT", b"0"),
    (b"XINFO", b"STREAM", b"x1"),
]


GROUPS_MADE: list[Argv] = [
    (b"XGROUP", b"CREATE", b"x1", b"g", b"0", b"MKSTREAM"),
    (b"XGROUP", b"CREATE", b"x1", b"h", b"3-0", b"ENTRIESREAD", b"3"),
    (b"XREADGROUP", b"GROUP", b"g", b"ann", b"COUNT", b"3", b"STREAMS", b"x1", b">"),
    (b"XREADGROUP", b"GROUP", b"g", b"bob", b"COUNT", b"2", b"NOACK", b"STREAMS", b"x1", b">"),
]


def sequence(
    *commands: st.SearchStrategy[Argv],
    first: list[Argv] = [],  # noqa: B006  never changed
) -> st.SearchStrategy[list[Argv]]:
    """Some entries, then commands, then a look at everything."""
    start = st.integers(0, 12).map(
        lambda n: [(b"XADD", b"x1", b"%d-0" % i, b"f", b"%d" % i) for i in range(1, n + 1)]
    )
    some = st.lists(st.one_of(*commands), min_size=1, max_size=40)
    return st.tuples(start, some).map(lambda parts: [*parts[0], *first, *parts[1], *BOTH_IN_FULL])


# ---------------------------------------------------------------- comparison


def timeless(argv: Argv, tree: Tree) -> Tree:
    """A reply without what the clock puts in it."""
    name = argv[0].upper()
    if name == b"XPENDING" and len(argv) > 3 and tree[0] == b"*" and tree[1]:
        return tree[0], [(kind, [*row[:2], _span(row[2]), row[3]]) for kind, row in tree[1]]
    if name == b"XINFO" and argv[1].upper() == b"CONSUMERS" and tree[0] == b"*":
        return tree[0], [(kind, [*row[:5], _span(row[5])]) for kind, row in tree[1] or ()]
    return _without_instants(tree)


def _span(tree: Tree) -> Tree:
    return tree[0], int(tree[1]) // IDLE_UNIT_MS


def _without_instants(tree: Tree) -> Tree:
    kind, value = tree
    if isinstance(value, list):
        return kind, [_without_instants(each) for each in value]
    if kind == b":" and int(value) > INSTANT_MS:
        return kind, b"T"
    return tree


def sent(commands: list[list[bytes]]) -> list[list[bytes]]:
    """What was propagated, without the instants of XCLAIM."""
    for argv in commands:
        if argv[0] == b"XCLAIM":
            assert argv[6] == b"TIME"
            argv[7] = b"T"
    return commands


def assert_alike(real: Real, ours: InProcess, resp: int, commands: list[Argv]) -> None:
    """Run the commands on both sides and compare everything there is to see."""
    real.begin()
    connection = real.connect(resp)
    theirs = real.seen(real.run(connection, commands))
    connection.close()
    ours.begin()
    seen = ours.seen(ours.run(ours.connect(resp), commands))
    for argv, our_reply, their_reply in zip(commands, seen.replies, theirs.replies, strict=True):
        assert timeless(argv, our_reply) == timeless(argv, their_reply), argv
    assert sent(seen.propagated) == sent(theirs.propagated)
    assert seen.events == theirs.events
    assert seen.dirty == theirs.dirty
    assert seen.encodings == theirs.encodings
    assert seen.digest == theirs.digest


@pytest.mark.parametrize("resp", [2, 3])
def test_entries_in_random_order_of_commands_are_those_of_redis(
    real: Real, ours: InProcess, resp: int
) -> None:
    @ROOM
    @given(sequence(*ENTRIES))
    def agree(commands: list[Argv]) -> None:
        assert_alike(real, ours, resp, commands)

    agree()


def test_xsetid_below_the_highest_deleted_id_is_taken_as_by_redis(
    real: Real, ours: InProcess
) -> None:
    added: list[Argv] = [(b"XADD", b"x1", b"%d-0" % i, b"f", b"v") for i in (1, 4, 5)]
    moved: list[Argv] = [(b"XSETID", b"x1", i) for i in (b"3-7", b"4-0", b"5-0")]
    assert_alike(real, ours, 2, [*added, (b"XDEL", b"x1", b"5-0"), *moved])


@pytest.mark.parametrize("resp", [2, 3])
def test_groups_in_random_order_of_commands_are_those_of_redis(
    real: Real, ours: InProcess, resp: int
) -> None:
    @ROOM
    @given(sequence(ADD, ADD, *GROUPED, ENTRIES[6], ENTRIES[4], first=GROUPS_MADE))
    def agree(commands: list[Argv]) -> None:
        assert_alike(real, ours, resp, commands)

    agree()


MADE = "XGROUP CREATE s g $ MKSTREAM"
WAITS = "XREADGROUP GROUP g ann BLOCK 0 STREAMS s >"


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize(
    ("waiters", "writes"),
    [
        ([WAITS, "XREAD BLOCK 0 STREAMS s t $ 0"], ["XADD s 5-0 f v", "XADD s 6-0 f v"]),
        (
            [WAITS, "XREADGROUP GROUP g bob BLOCK 0 NOACK STREAMS s >"],
            ["XADD s 5-0 f v", "XADD s 6-0 f v"],
        ),
        (["XREAD COUNT 1 BLOCK 0 STREAMS s 5-0"], ["XADD s 5-0 f v", "XADD s 5-1 f v"]),
        (["XREAD BLOCK 0 STREAMS s $"], ["XADD s MAXLEN 0 5-0 f v"]),
        ([WAITS, "XREAD BLOCK 0 STREAMS s $"], ["XGROUP DESTROY s g"]),
        ([WAITS], ["SADD t 1", "RENAME t s"]),
        ([WAITS, "XREAD BLOCK 0 STREAMS s $"], ["DEL s"]),
        ([WAITS, WAITS], ["SET s v"]),
        ([WAITS], ["RENAME s t"]),
        ([WAITS], ["FLUSHDB"]),
        ([WAITS], ["PEXPIRE s -1"]),
        ([WAITS], ["SINTERSTORE s none"]),
        ([WAITS], ["MULTI", "DEL s", "XADD s 5-0 f v", "XGROUP CREATE s g 0", "EXEC"]),
    ],
)
def test_waiting_readers_are_served_as_by_redis(
    real: Real, ours: InProcess, waiters: list[str], writes: list[str], resp: int
) -> None:
    real.begin()
    writer = real.connect(resp)
    writer.ask(MADE.encode().split())
    waiting = [real.connect(resp) for _ in waiters]
    for count, (connection, line) in enumerate(zip(waiting, waiters, strict=True), 1):
        connection.send([line.encode().split()])
        real.wait_for_blocked(count)
    replies = [writer.ask(line.encode().split()) for line in writes]
    writer.ask([b"PING"])
    their_answers = [each.read_waiting() for each in waiting]
    theirs = real.seen(replies)
    for connection in (*waiting, writer):
        connection.close()
    real.wait_for_blocked(0)

    ours.begin()
    client = ours.connect(resp)
    ours.run(client, [MADE.encode().split()])
    blocked = [ours.connect(resp) for _ in waiters]
    for each, line in zip(blocked, waiters, strict=True):
        ours.engine.run(each, [line.encode().split()])
    our_replies = [ours.run(client, [line.encode().split()])[0] for line in writes]
    our_answers = [ours.read(each) for each in blocked]
    seen = ours.seen(our_replies)

    assert our_answers == their_answers
    assert seen.replies == theirs.replies
    assert sent(seen.propagated) == sent(theirs.propagated)
    assert seen.events == theirs.events
    assert seen.digest == theirs.digest


def test_ids_are_taken_where_redis_takes_them(real: Real, ours: InProcess) -> None:
    commands: list[Argv] = [
        (b"XADD", b"x1", b"1-1", b"f", b"v"),
        (b"XADD", b"x1", b"2-1", b"f", b"v"),
    ]
    for each in (*ODD_IDS, *BAD_IDS):
        commands += [
            (b"XGROUP", b"CREATE", b"x1", b"g", b"0"),
            (b"XGROUP", b"SETID", b"x1", b"g", each),
            (b"XGROUP", b"SETID", b"x1", b"g", each, b"ENTRIESREAD", b"1"),
            (b"XINFO", b"GROUPS", b"x1"),
            (b"XCLAIM", b"x1", b"g", b"ann", b"0", b"1-1", b"FORCE", b"LASTID", each),
            (b"XAUTOCLAIM", b"x1", b"g", b"ann", b"0", each),
            (b"XGROUP", b"DESTROY", b"x1", b"g"),
            (b"XGROUP", b"CREATE", b"x2", b"g", each, b"MKSTREAM"),
            (b"DEL", b"x2"),
        ]
    real.begin()
    ours.begin()
    connection, client = real.connect(2), ours.connect(2)
    theirs, answers = real.run(connection, commands), ours.run(client, commands)
    connection.close()
    for argv, wanted, found in zip(commands, theirs, answers, strict=True):
        assert (argv, found) == (argv, wanted)


def test_stream_dumped_and_rewritten_is_the_same_in_redis(real: Real, ours: InProcess) -> None:
    commands: list[Argv] = [
        *((b"XADD", b"x1", b"%d-0" % i, b"f", b"%d" % i) for i in range(1, 30)),
        (b"XDEL", b"x1", b"3-0", b"4-0", b"29-0"),
        # Before any is pending: a rewrite cannot tell of pending entries that are gone.
        (b"XTRIM", b"x1", b"MAXLEN", b"20"),
        *GROUPS_MADE,
        (b"XGROUP", b"CREATECONSUMER", b"x1", b"h", b"idle"),
        (b"XREADGROUP", b"GROUP", b"g", b"cid", b"STREAMS", b"x1", b">"),
        (b"XCLAIM", b"x1", b"g", b"bob", b"0", b"9-0", b"IDLE", b"5000", b"RETRYCOUNT", b"7"),
    ]
    ours.begin()
    client = ours.connect(2)
    ours.run(client, commands)
    full = (b"XINFO", b"STREAM", b"x1", b"FULL", b"COUNT", b"0")
    (payload,) = ours.run(client, [(b"DUMP", b"x1")])
    wanted = [_facts(tree) for tree in ours.run(client, [full])]
    db = ours.engine.keyspace.databases[0]
    base = b"".join(aof_base([(0, [(b"x1", b"stream", db.peek(b"x1"), None)])]))

    real.begin()
    connection = real.connect(2)
    for rebuild in ([(b"RESTORE", b"x1", b"0", payload[1])], requests_of(base)):
        replies = real.run(connection, [(b"DEL", b"x1"), *rebuild])
        assert not [text for kind, text in replies if kind == b"-"]
        assert [_facts(tree) for tree in real.run(connection, [full])] == wanted
    their_payload = connection.ask((b"DUMP", b"x1"))
    connection.close()
    ours.run(client, [(b"DEL", b"x1"), (b"RESTORE", b"x1", b"0", their_payload[1])])
    assert [_facts(tree) for tree in ours.run(client, [full])] == wanted


def _facts(tree: Tree) -> Tree:
    """XINFO STREAM FULL without instants, and without where nodes end: loading decides that."""
    kind, parts = _without_instants(tree)
    return kind, [*parts[:2], *parts[6:]]
