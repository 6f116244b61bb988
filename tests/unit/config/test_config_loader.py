"""Files, standard input and the command line: what is read, and what a mistake looks like."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import pytest

from kvrepl.config import Config, ConfigError, UnreadableConfig
from kvrepl.config.loader import INCLUDE_DEPTH_MAX, options_text


def start(arguments: Sequence[str], stdin: str = "", **files: str) -> Config:
    """A start in a folder that holds the files; `a` is the file a.conf."""

    def read_file(path: str) -> str:
        name = path.removeprefix("/here/").removesuffix(".conf")
        if name not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[name]

    def expand(pattern: str) -> list[str]:
        return sorted(f"{name}.conf" for name in files if fnmatchcase(f"{name}.conf", pattern))

    return Config.from_args(
        arguments,
        read_file,
        expand_pattern=expand,
        read_stdin=lambda: stdin,
        absolute=lambda path: f"/here/{path}",
    )


def mistake(arguments: Sequence[str], **files: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        start(arguments, **files)
    return caught.value


def test_file_with_options_lets_the_options_win() -> None:
    config = start(["a.conf", "--port", "7000"], a="port 1\nhz 20")
    assert (config.port, config.hz) == (7000, 20)
    assert config.config_file == "/here/a.conf"
    assert {setting.name for setting in config.explicit} == {"port", "hz"}


def test_start_without_arguments_has_the_defaults() -> None:
    config = start([])
    assert config.port == 6379
    assert config.config_file == ""
    assert config.explicit == set()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], ""),
        (["--port", "1"], 'port "1" '),
        (["--port 1", "--hz", "2"], 'port 1 \nhz "2" '),
        (["--save", "--hz", "2"], 'save ""\nhz "2" '),
        (["--hz", "2", "--SAVE"], 'hz "2" \nSAVE ""'),
        (["--save", ""], 'save "" '),
        (["--save", "60", "1"], 'save "60" "1" '),
        (["--requirepass", "--x", "--hz", "2"], 'requirepass "--x" \nhz "2" '),
        (["port", "1", "--hz", "2"], '"port" "1" \nhz "2" '),
        (["--masterauth", 'a"b'], 'masterauth "a\\"b" '),
    ],
)
def test_options_become_lines(arguments: list[str], text: str) -> None:
    assert options_text(arguments) == text


@pytest.mark.parametrize("arguments", [["-"], ["-", "--timeout", "5"], ["--timeout", "5", "-"]])
def test_dash_reads_standard_input_before_the_options(arguments: list[str]) -> None:
    config = start(arguments, stdin="hz 20\ntimeout 9")
    assert config.hz == 20
    assert config.timeout == (9 if arguments == ["-"] else 5)


def test_file_and_standard_input_are_one_text() -> None:
    config = start(["a.conf", "-"], stdin="timeout 9", a="hz 20\ntimeout 3\n")
    assert (config.hz, config.timeout) == (20, 9)


def test_save_lines_replace_the_default_and_then_add_up() -> None:
    assert start(["a.conf"], a="save 1 1\nsave 2 2 3 3").save == ((1, 1), (2, 2), (3, 3))
    assert start(["a.conf"], a='save 1 1\nsave ""\nsave 5 5').save == ((5, 5),)
    assert start(["a.conf"], a="save 3 3\nsave").save == ((3, 3),)
    assert start(["a.conf", "--save", "7 7"], a="save 5 5").save == ((5, 5), (7, 7))
    assert start(["a.conf", "--save", ""], a="save 5 5").save == ()


def test_quotes_and_escapes_are_resolved() -> None:
    config = start(["a.conf"], a='requirepass \'a\\\'"b\'\nmasterauth "\\x41\\n\\q\\""')
    assert config.requirepass == b"a'\"b"
    assert config.masterauth == b'A\nq"'


def test_bytes_that_are_not_utf8_survive() -> None:
    assert start(["--requirepass", "\udcff"]).requirepass == b"\xff"


def test_include_of_a_pattern_reads_all_in_order_and_none_is_fine() -> None:
    config = start(["a.conf"], a="include z*.conf\ninclude b?.conf", b1="hz 20", b2="hz 30")
    assert config.hz == 30


def test_include_of_itself_is_refused_at_its_line() -> None:
    error = mistake(["a.conf"], a="\ninclude a.conf")
    assert error.reason == f"include is nested more than {INCLUDE_DEPTH_MAX} files deep"
    assert (error.file, error.line_number) == ("a.conf", 2)


def test_include_of_many_files_beside_each_other_is_fine() -> None:
    text = "include b.conf\n" * (INCLUDE_DEPTH_MAX + 1)
    assert start(["a.conf"], a=text, b="hz 20").hz == 20


def test_mistake_is_reported_with_its_line() -> None:
    error = mistake(["a.conf"], a="# a\n\n  Maxmemory  10xx \t\n")
    assert error.report() == (
        "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n"
        "Reading the configuration file, at line 3\n"
        ">>> 'Maxmemory  10xx'\n"
        "argument must be a memory value\n"
    )
    assert str(error) == "/here/a.conf:3: argument must be a memory value"


def test_mistake_in_an_included_file_names_that_file() -> None:
    error = mistake(["a.conf"], a="port 1\ninclude b.conf", b="\n\nzzz")
    assert (error.file, error.line_number, error.line) == ("b.conf", 3, "zzz")
    assert error.reason == "Bad directive or wrong number of arguments"


def test_mistake_in_an_option_counts_lines_after_the_file() -> None:
    assert mistake(["a.conf", "--zzz"], a="port 1").line_number == 2
    assert mistake(["a.conf", "--zzz"], a="port 1\n").line_number == 3
    assert str(mistake(["--zzz"])).startswith("options:2: ")


@pytest.mark.parametrize("arguments", [["b.conf"], ["a.conf"]])
def test_missing_file_is_one_line_of_report(arguments: list[str]) -> None:
    error = mistake(arguments, a="include b.conf")
    assert isinstance(error, UnreadableConfig)
    assert error.report().startswith("Fatal error, can't open config file '")
    assert error.report().endswith("b.conf': No such file or directory\n")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("loadmodule /x.so", "loadmodule is refused: kvrepl-server has no module API"),
        ("bf.error-rate 1", "Module settings are refused: kvrepl-server has no module API"),
        ("sentinel monitor", "sentinel directive while not in sentinel mode"),
        ("port 1 2", "wrong number of arguments"),
        ('port "1', "Unbalanced quotes in configuration line"),
        ("activedefrag yes", "Active defragmentation cannot be enabled: it requires a Redis"),
    ],
)
def test_line_that_cannot_be_served_is_refused(line: str, reason: str) -> None:
    assert mistake(["a.conf"], a=line).reason.startswith(reason)


def test_replicaof_in_cluster_mode_is_refused_without_a_line() -> None:
    report = mistake(["a.conf"], a="cluster-enabled yes\nreplicaof a 1").report()
    assert report == (
        "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n"
        "replicaof directive not allowed in cluster mode\n"
    )


def test_users_and_renames_are_kept_with_their_place() -> None:
    config = start(["a.conf"], a="user joe on +get\nrename-command GET ''\n")
    assert config.users[0].words == (b"user", b"joe", b"on", b"+get")
    assert config.renames[0].words == (b"rename-command", b"GET", b"")
    report = config.renames[0].error("No such command in rename-command").report()
    assert "at line 2\n>>> 'rename-command GET '''\nNo such command" in report


def test_retired_settings_are_read_over() -> None:
    assert start(["a.conf"], a="lua-replicate-commands yes").explicit == set()


def test_settings_without_effect_are_named_when_set_to_something_else() -> None:
    given = ["--io-threads", "4", "--port", "1", "--activerehashing", "yes"]
    assert start([*given, "--bgsave_cpulist", "1"]).without_effect() == [
        "bgsave_cpulist",
        "io-threads",
    ]


def test_replicaof_is_host_and_port_or_none() -> None:
    assert start(["--slaveof", "h", "7"]).replicaof == ("h", 7)
    assert start(["--replicaof", "h", "7", "--replicaof", "NO", "one"]).replicaof is None


def test_hz_out_of_range_is_brought_into_it() -> None:
    assert start(["--hz", "0"]).hz == 1
    assert start(["--hz", "1000"]).hz == 500


def test_backlog_size_is_kept_at_start_and_raised_at_run_time() -> None:
    config = start(["--repl-backlog-size", "100"])
    assert config.repl_backlog_size == 100
    config.set_many([(b"repl-backlog-size", b"101")])
    assert config.repl_backlog_size == 16384
