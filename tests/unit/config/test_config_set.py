"""CONFIG SET and GET on a Config: all or nothing, subscribers, permissions."""

from __future__ import annotations

import pytest

from kvrepl.config import Config, ConfigError, OutputLimit
from kvrepl.errors import CommandError, StorageError


def refusal(config: Config, *words: bytes, **how: bool) -> bytes:
    with pytest.raises(CommandError) as caught:
        config.set_many(list(zip(words[::2], words[1::2], strict=True)), **how)
    return caught.value.text


def failed(name: bytes, reason: bytes) -> bytes:
    return b"ERR CONFIG SET failed (possibly related to argument '%b') - %b" % (name, reason)


def test_set_many_assigns_typed_attributes() -> None:
    config = Config()
    config.set_many(
        [
            (b"MAXMEMORY", b"1kb"),
            (b"slave-read-only", b"NO"),
            (b"save", b"5 6"),
            (b"client-output-buffer-limit", b"slave 1k 2 3"),
            (b"requirepass", b"\xff"),
            (b"maxmemory-clients", b"5%"),
            (b"shutdown-on-sigterm", b"now force"),
        ]
    )
    assert config.maxmemory == 1024
    assert config.replica_read_only is False
    assert config.save == ((5, 6),)
    assert config.client_output_buffer_limit["replica"] == OutputLimit(1000, 2, 3)
    assert config.client_output_buffer_limit["normal"] == OutputLimit(0, 0, 0)
    assert config.requirepass == b"\xff"
    assert config.maxmemory_clients == -5
    assert config.shutdown_on_sigterm == {"now", "force"}


def test_set_many_with_one_bad_value_changes_nothing_and_tells_nobody() -> None:
    config, calls = Config(), []
    config.subscribe("timeout", lambda changed: calls.append(changed.timeout))
    assert refusal(config, b"timeout", b"5", b"MaxMemory", b"x") == failed(
        b"maxmemory", b"argument must be a memory value"
    )
    assert config.timeout == 0
    assert calls == []


def test_set_many_does_not_change_the_shared_defaults() -> None:
    Config().set_many([(b"client-output-buffer-limit", b"normal 1 1 1")])
    assert Config().client_output_buffer_limit["normal"] == OutputLimit(0, 0, 0)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            [b"Foo", b"1"],
            b"ERR Unknown option or number of arguments for CONFIG SET - 'Foo'",
        ),
        ([b"Databases", b"1"], failed(b"Databases", b"can't set immutable config")),
        ([b"Dir", b"/"], failed(b"Dir", b"can't set protected config")),
        ([b"hz", b"1", b"HZ", b"2"], failed(b"HZ", b"duplicate parameter")),
        (
            [b"hz", b"01"],
            failed(b"hz", b"argument couldn't be parsed into an integer"),
        ),
        (
            [b"slave-priority", b"-1"],
            failed(b"slave-priority", b"argument must be between 0 and 2147483647 inclusive"),
        ),
    ],
)
def test_set_many_refused_replies_with_redis_words(words: list[bytes], text: bytes) -> None:
    assert refusal(Config(), *words) == text


def test_set_many_of_a_name_and_its_alias_keeps_the_last() -> None:
    config = Config()
    config.set_many([(b"replica-priority", b"1"), (b"slave-priority", b"2")])
    assert config.replica_priority == 2


@pytest.mark.parametrize(
    ("allowed", "local", "passes"),
    [("no", True, False), ("local", False, False), ("local", True, True), ("yes", False, True)],
)
def test_protected_setting_follows_enable_protected_configs(
    allowed: str, local: bool, passes: bool
) -> None:
    config = Config()
    config.enable_protected_configs = allowed
    if passes:
        config.set_many([(b"dbfilename", b"x")], local_client=local)
        assert config.dbfilename == "x"
    else:
        text = refusal(config, b"dbfilename", b"x", local_client=local)
        assert text == failed(b"dbfilename", b"can't set protected config")


def test_setting_refused_while_loading_replies_loading() -> None:
    config = Config()
    text = refusal(config, b"timeout", b"1", b"appendonly", b"yes", loading=True)
    assert text == b"LOADING Redis is loading the dataset in memory"
    assert config.timeout == 0
    config.set_many([(b"timeout", b"1")], loading=True)
    config.set_many([(b"appendonly", b"yes")], loading=False)
    assert config.timeout == 1
    assert config.appendonly


def test_subscriber_of_two_settings_runs_once_after_both_are_set() -> None:
    config, seen = Config(), []

    def note(changed: Config) -> None:
        seen.append((changed.min_replicas_to_write, changed.min_replicas_max_lag))

    config.subscribe("min-replicas-to-write", note)
    config.subscribe("min-slaves-max-lag", note)
    config.set_many([(b"min-replicas-to-write", b"1"), (b"min-replicas-max-lag", b"2")])
    assert seen == [(1, 2)]


def test_subscriber_of_a_setting_set_to_the_same_value_does_not_run() -> None:
    config, seen = Config(), []
    config.subscribe("hz", lambda changed: seen.append(changed.hz))
    config.set_many([(b"hz", b"10")])
    assert seen == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConfigError("Unable to listen on this port. Check server logs."), b"Unable to listen on "),
        (CommandError(b"ERR Unable to listen on it"), b"Unable to listen on "),
        (StorageError("Unable to listen on", OSError(98, "it")), b"Unable to listen on: it"),
    ],
)
def test_subscriber_that_refuses_has_everything_taken_back(error: Exception, reason: bytes) -> None:
    config, seen = Config(), []

    def apply_port(changed: Config) -> None:
        seen.append(("port", changed.port))
        if changed.port == 7:
            raise error

    config.subscribe("timeout", lambda changed: seen.append(("timeout", changed.timeout)))
    config.subscribe("port", apply_port)
    config.subscribe("hz", lambda changed: seen.append(("hz", changed.hz)))
    text = refusal(config, b"timeout", b"3", b"port", b"7", b"hz", b"20")
    assert text.startswith(failed(b"port", reason))
    assert (config.timeout, config.port, config.hz) == (0, 6379, 10)
    assert seen == [("timeout", 3), ("port", 7), ("timeout", 0), ("port", 6379)]


def test_subscriber_of_two_settings_is_blamed_on_the_first() -> None:
    config = Config()

    def refuse(changed: Config) -> None:
        raise ConfigError("no")

    config.subscribe("hz", refuse)
    config.subscribe("timeout", refuse)
    text = refusal(config, b"timeout", b"1", b"hz", b"20")
    assert text == failed(b"timeout", b"no")


def test_subscriber_that_fails_twice_leaves_a_note_on_the_refusal() -> None:
    config = Config()

    def never(changed: Config) -> None:
        raise ConfigError(f"no {changed.port}")

    config.subscribe("port", never)
    with pytest.raises(CommandError) as caught:
        config.set_many([(b"port", b"7")])
    assert caught.value.text == failed(b"port", b"no 7")
    assert caught.value.__notes__ == ["restoring failed: no 6379"]


def test_subscribe_to_an_unknown_name_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        Config().subscribe("nope", lambda config: None)


def test_misspelt_attribute_cannot_be_assigned() -> None:
    with pytest.raises(AttributeError):
        Config().maxmemroy = 1  # type: ignore[attr-defined]


def test_get_answers_a_name_as_spelled_and_a_pattern_with_real_names() -> None:
    config = Config()
    assert config.get([b"HZ"]) == [(b"HZ", b"10")]
    assert config.get([b"H[Z]"]) == [(b"hz", b"10")]
    assert config.get([b"HZ", b"hz", b"h?"]) == [(b"HZ", b"10")]
    assert config.get([b"nope", b"\xff*"]) == []


def test_get_shows_a_hidden_setting_by_its_name_only() -> None:
    config = Config()
    assert config.get([b"watchdog-period"]) == [(b"watchdog-period", b"0")]
    assert config.get([b"watchdog-perio[d]"]) == []


def test_get_of_several_aliases_shows_each() -> None:
    names = [name for name, _ in Config().get([b"*-priority"])]
    assert names == [b"replica-priority", b"slave-priority"]
