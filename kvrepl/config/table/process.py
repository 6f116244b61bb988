"""Logging, signals, the process and security. Source: Redis config.c; defaults asked of 7.0.15."""

from __future__ import annotations

from typing import Final

from kvrepl.config.kinds import INT64_MAX, INT_MAX, Number, Percentiles, ShutdownFlags, ThreeScores
from kvrepl.config.setting import Flags, Setting, choice, number, secret, text, yes_no

MIN_HZ: Final = 1
MAX_HZ: Final = 500

PROTECTED_ACTION: Final = "no yes local"
TITLE_FIELDS: Final = frozenset(
    ("title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file")
)
EMPTY_FIELDS: Final = frozenset(("title", "server-mode"))


def bad_title_template(template: str) -> str | None:
    """Why a template cannot be used: a field is unknown or open, or nothing would come out.

    "{{" is a brace. The fields that are empty in a plain server do not count as something.
    Source: server.c, validateProcTitleTemplate; sds.c, sdstemplate.
    """
    refusal = "template format is invalid or contains unknown variables"
    at, out = 0, ""
    while (start := template.find("{", at)) >= 0:
        out += template[at:start]
        if template[start + 1 : start + 2] == "{":
            out += "{"
            at = start + 2
            continue
        end = template.find("}", start)
        field = template[start + 1 : end]
        if end < 0 or field not in TITLE_FIELDS:
            return refusal
        out += "" if field in EMPTY_FIELDS else field
        at = end + 1
    out += template[at:]
    return None if out.strip(" \t\r\n") else refusal


def clamp_hz(hz: int) -> int:
    """Bring hz into the range that makes sense, as Redis does without a word."""
    return max(MIN_HZ, min(MAX_HZ, hz))


PROCESS: Final[tuple[Setting, ...]] = (
    yes_no("daemonize", False, "Run in the background.", flags=Flags.IMMUTABLE),
    choice(
        "supervised",
        "upstart systemd auto no",
        "no",
        "How readiness is told to the supervisor.",
        Flags.IMMUTABLE,
    ),
    text("pidfile", "File that holds the process id.", flags=Flags.IMMUTABLE),
    choice("loglevel", "debug verbose notice warning", "notice", "Least important level logged."),
    text("logfile", 'Log file; "" is standard output.', default="", flags=Flags.IMMUTABLE),
    yes_no("syslog-enabled", False, "Log to syslog too.", flags=Flags.IMMUTABLE),
    text("syslog-ident", "Name in syslog.", default="redis", flags=Flags.IMMUTABLE),
    choice(
        "syslog-facility",
        "user local0 local1 local2 local3 local4 local5 local6 local7",
        "local0",
        "Facility of syslog.",
        Flags.IMMUTABLE,
    ),
    yes_no("always-show-logo", False, "Print the banner anyway.", flags=Flags.IMMUTABLE),
    yes_no("set-proc-title", True, "Change the title of the process.", flags=Flags.IMMUTABLE),
    text(
        "proc-title-template",
        "Title of the process.",
        default="{title} {listen-addr} {server-mode}",
        check=bad_title_template,
    ),
    yes_no("crash-log-enabled", True, "Log a traceback on a crash."),
    yes_no("crash-memcheck-enabled", True, "Test the memory after a crash.", flags=Flags.NO_EFFECT),
    yes_no("use-exit-on-panic", False, "Exit, not abort, on a panic.", flags=Flags.HIDDEN),
    number(
        "watchdog-period",
        0,
        INT_MAX,
        0,
        "Milliseconds of delay at which the watchdog logs a traceback; 0 is off.",
        flags=Flags.HIDDEN,
    ),
    yes_no("disable-thp", True, "No transparent huge pages.", flags=Flags.IMMUTABLE),
    yes_no(
        "arena-huge-pages",
        True,
        "But for small blocks, where the kernel splits them on a write (Linux 5.8 and newer): a"
        " shorter.",
        flags=Flags.IMMUTABLE | Flags.OWN,
    ),
    choice(
        "oom-score-adj",
        "no yes relative absolute",
        "no",
        "Tell the kernel whom to kill first when memory runs out.",
        relative="yes",
    ),
    Setting(
        "oom-score-adj-values",
        ThreeScores(),
        (0, 200, 800),
        "Scores of a master, a replica and a child.",
    ),
    Setting(
        "hz",
        Number(0, INT_MAX),
        10,
        "Rounds of background work in a second.",
        adjust=clamp_hz,
    ),
    yes_no("dynamic-hz", True, "More rounds when there are many clients.", flags=Flags.NO_EFFECT),
    number("shutdown-timeout", 0, INT_MAX, 10, "Seconds to wait for replicas at shutdown."),
    Setting("shutdown-on-sigint", ShutdownFlags(), frozenset(), "What SIGINT does."),
    Setting("shutdown-on-sigterm", ShutdownFlags(), frozenset(), "What SIGTERM does."),
    secret("requirepass", "Password of the default user."),
    text("aclfile", "File of users.", default="", flags=Flags.IMMUTABLE),
    number("acllog-max-len", 0, INT64_MAX, 128, "Entries of ACL LOG."),
    choice(
        "acl-pubsub-default",
        "allchannels resetchannels",
        "resetchannels",
        "Channels of a new user.",
    ),
    choice(
        "enable-protected-configs",
        PROTECTED_ACTION,
        "no",
        "Who may CONFIG SET protected settings.",
        Flags.IMMUTABLE,
    ),
    choice("enable-debug-command", PROTECTED_ACTION, "no", "Who may call DEBUG.", Flags.IMMUTABLE),
    choice(
        "enable-module-command",
        PROTECTED_ACTION,
        "no",
        "Who may call MODULE, and be told that there are no modules here.",
        Flags.IMMUTABLE,
    ),
    number(
        "busy-reply-threshold",
        0,
        INT64_MAX,
        5000,
        "Milliseconds after which a script lets others be answered -BUSY.",
        "lua-time-limit",
    ),
    yes_no(
        "lua-enable-deprecated-api",
        False,
        "Let scripts reach functions of Lua that were taken away.",
        flags=Flags.IMMUTABLE | Flags.HIDDEN | Flags.NO_EFFECT,
    ),
    number(
        "slowlog-log-slower-than",
        -1,
        INT64_MAX,
        10000,
        "Microseconds of a command that enters SLOWLOG; -1 is none.",
    ),
    number("slowlog-max-len", 0, INT64_MAX, 128, "Entries of SLOWLOG."),
    number(
        "latency-monitor-threshold",
        0,
        INT64_MAX,
        0,
        "Milliseconds of an event that LATENCY remembers; 0 is off.",
    ),
    yes_no(
        "latency-tracking",
        True,
        "Show the latency of each command in INFO latencystats.",
    ),
    Setting(
        "latency-tracking-info-percentiles",
        Percentiles(),
        (50.0, 99.0, 99.9),
        "Percentiles in INFO latencystats.",
    ),
)
