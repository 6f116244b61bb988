"""CONFIG REWRITE: what stays, what changes in place, what goes, what is appended."""

from __future__ import annotations

from collections.abc import Sequence

from kvrepl.config import Config
from kvrepl.config.rewrite import SIGNATURE

ALWAYS = [
    'dir "/d"',
    "save 3600 1",
    "save 300 100",
    "save 60 10000",
    "latency-tracking-info-percentiles 50 99 99.9",
]
"""What Redis writes into any file, for these have no default that is left out."""


def rewritten(
    text: str, *changes: tuple[bytes, bytes], user_lines: Sequence[bytes] = ()
) -> list[str]:
    """The lines after a start with this file, CONFIG SET and CONFIG REWRITE, less ALWAYS."""
    config = Config.from_args(["f"], lambda path: text)
    config.dir = "/d"
    config.set_many(list(changes))
    out = config.rewrite(text, user_lines=user_lines)
    assert out.endswith("\n")
    return [line for line in out.split("\n")[:-1] if line not in ALWAYS]


def test_rewrite_of_no_file_has_the_signature_and_what_is_not_default() -> None:
    config = Config()
    config.dir = "/d"
    config.maxmemory = 3 * 1024**3
    lines = config.rewrite("").split("\n")
    assert lines[0] == SIGNATURE
    assert sorted(lines[1:-1]) == sorted([*ALWAYS, "maxmemory 3gb"])


def test_rewrite_changes_lines_in_place_and_keeps_comments() -> None:
    text = "# a\nTimeout 5\n\n# b\nslave-priority 7\ninclude x*.conf\nrename-command GET g\n"
    assert rewritten(text, (b"timeout", b"6")) == [
        "# a",
        "timeout 6",
        "",
        "# b",
        "replica-priority 7",
        "include x*.conf",
        "rename-command GET g",
        "",
        SIGNATURE,
    ]


def test_rewrite_keeps_a_line_that_says_the_default() -> None:
    assert rewritten("timeout 0")[0] == "timeout 0"


def test_rewrite_empties_lines_that_are_no_longer_true() -> None:
    text = 'masterauth x\nbind 1.1.1.1\nreplicaof h 1\nport 1\nport 2\n# "\n'
    config = Config.from_args(["f"], lambda path: text)
    config.masterauth, config.bind, config.replicaof = b"", ("*", "-::*"), None
    assert config.rewrite(text).split("\n")[:4] == ["", "port 2", "", '# "']


def test_rewrite_makes_a_comment_of_what_means_nothing() -> None:
    text = "lua-replicate-commands yes\n"
    assert rewritten(text)[0] == "# ??? lua-replicate-commands yes"
    assert Config().rewrite('port "1\n').split("\n")[0] == '# ??? port "1'


def test_rewrite_of_save_uses_old_lines_first() -> None:
    text = "save 1 1\nport 1\nsave 2 2\n"
    assert rewritten(text, (b"save", b"9 9 8 8 7 7")) == [
        *("save 9 9", "port 1", "save 8 8", "", SIGNATURE, "save 7 7"),
    ]
    assert rewritten(text, (b"save", b""))[:3] == ['save ""', "port 1", ""]


def test_rewrite_of_output_limits_writes_sizes_with_units() -> None:
    lines = rewritten("", (b"client-output-buffer-limit", b"slave 1mb 2kb 3"))
    assert lines[1:] == ["client-output-buffer-limit replica 1mb 2kb 3"]


def test_rewrite_of_text_is_quoted() -> None:
    lines = rewritten("", (b"masterauth", b'a "b"\n\xff'), (b"masteruser", b"u"))
    assert 'masterauth "a \\"b\\"\\n\\xff"' in lines
    assert 'masteruser "u"' in lines


def test_rewrite_of_users_takes_the_places_of_user_lines() -> None:
    users = [b"user a on", b"user b off"]
    text = "user b off\nport 1"
    assert rewritten(text, user_lines=users) == ["user a on", "port 1", SIGNATURE, "user b off"]


def test_rewrite_with_an_aclfile_drops_user_lines() -> None:
    lines = rewritten("aclfile x\nuser b off\n", user_lines=[b"user a on"])
    assert lines == ['aclfile "x"', "", SIGNATURE]


def test_rewrite_appends_the_signature_once() -> None:
    once = Config().rewrite("")
    config = Config()
    config.set_many([(b"timeout", b"9")])
    again = config.rewrite(once)
    assert again.count(SIGNATURE) == 1
    assert again.endswith("timeout 9\n")


def test_rewrite_forced_writes_defaults_too() -> None:
    out = Config().rewrite("", force_all=True)
    assert "timeout 0\n" in out
    assert "client-output-buffer-limit normal 0 0 0\n" in out
    assert "masterauth" not in out
