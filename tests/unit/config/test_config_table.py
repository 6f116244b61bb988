"""The table of settings: complete, typed, documented, with the defaults of Redis 7.0.15."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest

from kvrepl.config import BY_NAME, SETTINGS, Config, Flags, Setting
from kvrepl.config.attributes import Attributes
from kvrepl.config.docs import document
from kvrepl.config.notify import NOTIFY_ALL, format_notify_flags, parse_notify_flags

ROOT = Path(__file__).parents[3]
# What a running server fills in: the daemonized server asked had a pidfile.
FILLED_IN = {"pidfile"}


def redis_defaults() -> dict[str, str]:
    text = (ROOT / "tests/data/config-7.0.15.tsv").read_text()
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return {row[0]: row[1] for row in rows}


def test_defaults_of_all_directives_equal_those_of_redis() -> None:
    own = {setting.name for setting in SETTINGS if setting.has(Flags.OWN)}
    told = {name.decode(): value.decode() for name, value in Config().get([b"*"])}
    ours = {name: value for name, value in told.items() if name not in own}
    theirs = redis_defaults()
    assert len(theirs) > 180
    assert {k: v for k, v in ours.items() if k not in FILLED_IN} == {
        k: v for k, v in theirs.items() if k not in FILLED_IN
    }


def test_names_of_settings_are_unique() -> None:
    names = [name for setting in SETTINGS for name in (setting.name, *setting.aliases)]
    assert len(names) == len(set(names)) == len(BY_NAME)


def matches(value: object, hint: object) -> bool:
    """Whether a default has the declared type, looking one level into containers."""
    origin = get_origin(hint)
    if origin is None:
        return type(value) is hint
    if value is None or isinstance(value, Mapping):
        return value is None or origin is Mapping
    if origin in (tuple, frozenset):
        return isinstance(value, origin)
    return any(matches(value, part) for part in get_args(hint))


def test_attributes_are_declared_for_each_setting_with_its_type() -> None:
    hints = get_type_hints(Attributes)
    assert list(hints) == [setting.attribute for setting in SETTINGS]
    for setting in SETTINGS:
        if setting.default is None:
            assert type(None) in get_args(hints[setting.attribute]), setting.name
        else:
            assert matches(setting.default, hints[setting.attribute]), setting.name


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_default_shown_parses_to_itself(setting: Setting) -> None:
    kind, default = setting.kind, setting.default
    # A master shows nothing, which is how "no one" looks.
    text = b"no one" if setting.name == "replicaof" else kind.show(default).encode()
    words = text.split() if kind.several_words else [text]
    assert kind.parse(words, type(default)() if kind.appends else default) == default


def test_documentation_file_equals_the_tables() -> None:
    assert (ROOT / "docs/CONFIG.md").read_text() == document(), (
        "write docs/CONFIG.md anew as kvrepl/config/docs.py says"
    )


def test_doc_of_each_setting_is_one_sentence() -> None:
    for setting in SETTINGS:
        assert setting.doc.endswith("."), setting.name
        assert "\n" not in setting.doc, setting.name


def test_secrets_are_known_as_sensitive_by_any_spelling() -> None:
    assert Config.is_sensitive(b"RequirePass")
    assert Config.is_sensitive(b"masterauth")
    assert not Config.is_sensitive(b"maxmemory")
    assert not Config.is_sensitive(b"\xff")
    secrets = {setting.name for setting in SETTINGS if setting.has(Flags.SENSITIVE)}
    assert secrets == {
        "masterauth",
        "masteruser",
        "requirepass",
        "tls-key-file-pass",
        "tls-client-key-file-pass",
    }


@pytest.mark.parametrize(
    ("letters", "flags", "shown"),
    [
        ("", 0, ""),
        ("KEA", 3 | NOTIFY_ALL, "AKE"),
        ("g$lshzxetd", NOTIFY_ALL, "A"),
        ("gKEmxn$", 1 | 2 | 4 | 8 | 1 << 8 | 1 << 11 | 1 << 14, "g$xnKEm"),
        ("An", NOTIFY_ALL | 1 << 14, "A"),
        ("d", 1 << 13, "d"),
    ],
)
def test_notify_letters_are_read_and_shown_as_redis_does(
    letters: str, flags: int, shown: str
) -> None:
    assert parse_notify_flags(letters) == flags
    assert format_notify_flags(flags) == shown


def test_notify_letter_unknown_is_refused() -> None:
    assert parse_notify_flags("KQ") is None
