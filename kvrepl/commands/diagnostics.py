"""What was slow, and what it looked like: SLOWLOG, LATENCY; and LOLWUT.

The entries and samples are kept by the host (kvrepl.server.monitoring); here they are shown.

Source: Redis 7.0 slowlog.c, latency.c, lolwut.c, sparkline.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kvrepl import REDIS_VERSION
from kvrepl.commands.arguments import INT64_MAX, integer, integer_in
from kvrepl.engine import latency
from kvrepl.engine.introspection import help_lines, wrong_subcommand
from kvrepl.engine.spec import Command, command, container
from kvrepl.errors import CommandError
from kvrepl.resp.values import OK, Reply, Verbatim

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

SLOWLOG_COUNT: Final = 10
COUNT_RANGE: Final = CommandError(b"ERR count should be greater than or equal to -1")

GRAPH_ROWS: Final = 4
GRAPH_COLUMNS: Final = 80
_MARKS: Final = "_-`"
"""The heights that one row of the graph tells apart, lowest first."""

# ---------------------------------------------------------------------- SLOWLOG

container("slowlog", summary="A container for slow log commands")

_NODES: Final = "request_policy:all_nodes"


@command("slowlog|get", -2, "admin loading stale", tips=[_NODES, "nondeterministic_output"])
def slowlog_get(c: Client, argv: list[bytes]) -> Reply:
    """Get the newest entries of the slow log. O(entries)."""
    if len(argv) > 3:
        raise wrong_subcommand(argv)
    entries = list(c.engine.host.monitoring().slowlog)
    count = SLOWLOG_COUNT
    if len(argv) == 3:
        count = integer_in(argv[2], -1, INT64_MAX, COUNT_RANGE)
    return [
        [each.number, each.time_s, each.duration_us, each.argv, each.address, each.name]
        for each in (entries if count == -1 else entries[:count])
    ]


@command(
    "slowlog|len",
    2,
    "admin loading stale",
    tips=[_NODES, "response_policy:agg_sum", "nondeterministic_output"],
)
def slowlog_len(c: Client, argv: list[bytes]) -> Reply:
    """Count the entries of the slow log. O(1)."""
    return len(c.engine.host.monitoring().slowlog)


@command(
    "slowlog|reset",
    2,
    "admin loading stale",
    tips=[_NODES, "response_policy:all_succeeded"],
)
def slowlog_reset(c: Client, argv: list[bytes]) -> Reply:
    """Empty the slow log; its numbering goes on. O(entries)."""
    c.engine.host.monitoring().slowlog.clear()
    return OK


@command("slowlog|help", 2, "loading stale")
def slowlog_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "SLOWLOG",
        (
            "GET [<count>]",
            "The newest entries (default 10, -1 for all): id, Unix time, microseconds, arguments,"
            " address, name of the client.",
        ),
        ("LEN", "The number of entries."),
        ("RESET", "Empty the log."),
    )


# ---------------------------------------------------------------------- LATENCY

container("latency", summary="A container for latency diagnostics commands")

_TIPS: Final = ["nondeterministic_output", _NODES, "response_policy:special"]


def _events(c: Client) -> dict[bytes, Any]:
    events: dict[bytes, Any] = c.engine.host.monitoring().latency
    return events


@command("latency|latest", 2, "admin noscript loading stale", tips=_TIPS)
def latency_latest(c: Client, argv: list[bytes]) -> Reply:
    """Get the newest spike of each event: its time, its length, and the worst ever. O(events)."""
    return [[name, *event.samples[-1], event.max_ms] for name, event in _events(c).items()]


@command("latency|history", 3, "admin noscript loading stale", tips=_TIPS)
def latency_history(c: Client, argv: list[bytes]) -> Reply:
    """Get the spikes of an event: Unix time and milliseconds of each. O(samples)."""
    event = _events(c).get(argv[2])
    return [list(sample) for sample in event.samples] if event is not None else []


@command(
    "latency|reset",
    -2,
    "admin noscript loading stale",
    tips=[_NODES, "response_policy:all_succeeded"],
)
def latency_reset(c: Client, argv: list[bytes]) -> Reply:
    """Forget the spikes of some events, or of all; returns of how many. O(events)."""
    events = _events(c)
    return sum(events.pop(name, None) is not None for name in argv[2:] or list(events))


@command("latency|graph", 3, "admin noscript loading stale", tips=_TIPS)
def latency_graph(c: Client, argv: list[bytes]) -> Reply:
    """Draw the spikes of an event, the newest on the right. O(samples)."""
    event = _events(c).get(argv[2])
    if event is None:
        raise CommandError(b"ERR No samples available for event '%b'" % argv[2])
    samples = list(event.samples)[-GRAPH_COLUMNS:]
    now_s = c.engine.keyspace.now_ms // 1000
    spans = [ms for _, ms in samples]
    high, low = max(spans), min(spans)
    head = b"%b - high %d ms, low %d ms (all time high %d ms)\n%b\n" % (
        argv[2], high, low, event.max_ms, b"-" * GRAPH_COLUMNS,
    )  # fmt: skip
    ages = [_age(now_s - at_s) for at_s, _ in samples]
    rows = [*_bars([(ms - low) / max(high - low, 1) for ms in spans]), *_upright(ages)]
    return Verbatim(head + "".join(f"{row}\n" for row in rows).encode())


def _bars(heights: list[float]) -> list[str]:
    """Rows, the top one first, of bars whose heights are between 0 and 1."""
    steps = GRAPH_ROWS * len(_MARKS)
    levels = [round(height * (steps - 1)) for height in heights]
    rows = []
    for row in range(GRAPH_ROWS - 1, -1, -1):
        base = row * len(_MARKS)
        line = ""
        for level in levels:
            above = level - base
            line += " " if above < 0 else _MARKS[above] if above < len(_MARKS) else "|"
        rows.append(line)
    return rows


def _upright(labels: list[str]) -> list[str]:
    """Labels written downwards, one column each."""
    height = max(map(len, labels))
    return ["".join(label.ljust(height)[i] for label in labels) for i in range(height)]


def _age(seconds: int) -> str:
    for unit, span in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= span:
            return f"{seconds // span}{unit}"
    return f"{max(seconds, 0)}s"


@command("latency|histogram", -2, "admin noscript loading stale", tips=_TIPS)
def latency_histogram(c: Client, argv: list[bytes]) -> Reply:
    """Get the distribution of each command's latencies. O(commands * buckets).

    A name that is a container stands for its subcommands; unknown names are passed over.
    """
    engine = c.engine
    chosen: list[Command] = []
    if len(argv) == 2:
        chosen.extend(engine.all_commands())
    for name in argv[2:]:
        container, _, sub = name.lower().partition(b"|")
        command = engine.find(container)
        if command is not None and sub:
            command = command.subcommands.get(sub)
        if command is not None:
            chosen.extend(command.subcommands.values() or [command])
    return {
        command.name.encode(): {
            b"calls": sum(command.spans),
            b"histogram_usec": latency.cumulative(command.spans),
        }
        for command in chosen
        if command.spans
    }


@command("latency|doctor", 2, "admin noscript loading stale", tips=_TIPS)
def latency_doctor(c: Client, argv: list[bytes]) -> Reply:
    """Say which events had spikes, and where to look. O(samples)."""
    threshold_ms = c.engine.config.latency_monitor_threshold
    if not threshold_ms:
        text = (
            "Latency monitoring is disabled. CONFIG SET latency-monitor-threshold <milliseconds>"
            " enables it.\n"
        )
    elif not (events := _events(c)):
        text = f"No spike of {threshold_ms} ms or more was seen.\n"
    else:
        lines = [f"Spikes of {threshold_ms} ms or more:"]
        for name, event in events.items():
            spans = [ms for _, ms in event.samples]
            lines.append(
                f" * {name.decode()}: {len(spans)}, {sum(spans) // len(spans)} ms in the mean,"
                f" {event.max_ms} ms at the worst"
            )
        lines.append("SLOWLOG GET shows the commands that were slow.")
        text = "\n".join(lines) + "\n"
    return Verbatim(text.encode())


@command("latency|help", 2, "loading stale")
def latency_help(c: Client, argv: list[bytes]) -> Reply:
    """Show helpful text about the subcommands. O(1)."""
    return help_lines(
        "LATENCY",
        ("DOCTOR", "Which events had spikes, and where to look."),
        ("GRAPH <event>", "The spikes of an event, drawn."),
        ("HISTOGRAM [COMMAND ...]", "The distribution of the latencies of commands."),
        ("HISTORY <event>", "The spikes of an event."),
        ("LATEST", "The newest spike of each event."),
        ("RESET [<event> ...]", "Forget the spikes, of all events where none is named."),
    )


# ----------------------------------------------------------------------- LOLWUT


@command("lolwut", -1, "readonly fast")
def lolwut(c: Client, argv: list[bytes]) -> Reply:
    """Show the version of Redis that this server is like; the art is left to Redis. O(1)."""
    if len(argv) > 2 and argv[1].upper() == b"VERSION":
        integer(argv[2])
    return Verbatim(f"Redis ver. {REDIS_VERSION}\n".encode())
