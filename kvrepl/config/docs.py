"""docs/CONFIG.md, made from the tables, so that it cannot say anything else than the code.

To write it anew:

    python -c "from kvrepl.config.docs import document; print(document(), end='')" > docs/CONFIG.md
"""

from __future__ import annotations

from collections.abc import Iterator

from kvrepl.config.setting import Flags, Setting
from kvrepl.config.table import SETTINGS, SUBJECTS

_INTRODUCTION = """\
# Settings

kvrepl-server reads a `redis.conf` of Redis 7.0 as it is:

    kvrepl-server FILE [--name value ...]
    kvrepl-server - < FILE

Options are read after the file, so that they win. A value of several words is given as several
words (`--save 60 1`) or as one (`"--save 60 1"`); `--save ""` clears the save points. Other forms
in a file are `include PATH` (a pattern may match no file), `rename-command NAME NEW` and
`user NAME RULES...`. `loadmodule` is refused. A line that is wrong ends the start with exit
status 1 and says which line it was.

`CONFIG GET`, `CONFIG SET` and `CONFIG REWRITE` know every setting below, by each of its names.

Sizes take units: `1k` is 1000 bytes, `1kb` is 1024, and so on for `m`, `mb`, `g` and `gb`.

| mark | meaning |
| --- | --- |
| start | set when the server starts; CONFIG SET refuses it |
| protected | CONFIG SET needs `enable-protected-configs` |
| secret | kept out of SLOWLOG, MONITOR and the log |
| hidden | CONFIG GET shows it by its full name only |
| not loading | CONFIG SET refuses it while the dataset loads |
| no effect | accepted and kept, but nothing depends on it |
| own | kvrepl's own, unknown to Redis |

At its start the server names in its log the settings without effect that were given another value
than their default.
"""

_MARKS = {
    Flags.IMMUTABLE: "start",
    Flags.PROTECTED: "protected",
    Flags.SENSITIVE: "secret",
    Flags.HIDDEN: "hidden",
    Flags.DENY_LOADING: "not loading",
    Flags.NO_EFFECT: "no effect",
    Flags.OWN: "own",
}


def document() -> str:
    """The whole text of docs/CONFIG.md."""
    return "\n".join(_sections()) + "\n"


def _sections() -> Iterator[str]:
    yield _INTRODUCTION
    if not any(setting.has(Flags.OWN) for setting in SETTINGS):
        yield "kvrepl has no settings of its own so far.\n"
    for subject, settings in SUBJECTS.items():
        yield f"## {subject}\n"
        yield "| setting | values | default | marks | what it does |"
        yield "| --- | --- | --- | --- | --- |"
        for setting in settings:
            yield _row(setting)
        yield ""


def _row(setting: Setting) -> str:
    names = f"`{setting.name}`"
    if setting.aliases:
        names += ", also " + ", ".join(f"`{alias}`" for alias in setting.aliases)
    default = setting.kind.show(setting.default)
    shown = f"`{default}`" if default else ""
    marks = ", ".join(mark for flag, mark in _MARKS.items() if setting.has(flag))
    cells = (names, setting.kind.describe(), shown, marks, setting.doc)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
