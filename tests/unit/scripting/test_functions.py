"""FUNCTION and FCALL: libraries, what they may do while they load, and how they travel."""

from __future__ import annotations

import pytest

from kvrepl.resp import encode
from tests.unit.commands.session import Session

LIBRARY = """#!lua name=lib
local function echo(keys, argv) return {keys[1], argv[1]} end
redis.register_function('echo', echo)
redis.register_function{function_name = 'peek', callback = function(keys)
  return redis.call('get', keys[1])
end, flags = {'no-writes'}, description = 'looks'}
redis.register_function('put', function(keys, argv) return redis.call('set', keys[1], argv[1]) end)
"""


@pytest.fixture(autouse=True)
def loaded(session: Session) -> None:
    """Load the library."""
    assert session.run("function", "load", LIBRARY) == b"lib"


def names(session: Session) -> list[bytes]:
    return [each[b"library_name"] for each in session.run("function", "list")]


def test_function_call_passes_keys_and_arguments(session: Session) -> None:
    reply = session.run("fcall", "echo", 1, "k", "v")

    assert encode(reply, 2) == b"*2\r\n$1\r\nk\r\n$1\r\nv\r\n"


def test_function_effects_are_propagated_not_the_call(session: Session) -> None:
    assert session.propagated("fcall", "put", 1, "k", "v") == ["set k v"]


def test_function_read_only_call_refuses_one_that_may_write(session: Session) -> None:
    assert "*_ro command" in session.error("fcall_ro", "put", 1, "k", "v")
    assert session.run("fcall_ro", "peek", 1, "k") is None


@pytest.mark.parametrize(
    "request_",
    [
        ["function", "load", "#!lua name=b\nredis.register_function('f', function() end)"],
        ["function", "delete", "lib"],
        ["function", "flush"],
    ],
)
def test_function_changes_are_propagated_as_they_came(
    session: Session, request_: list[str]
) -> None:
    assert session.propagated(*request_) == [" ".join(request_)]


def test_function_list_tells_names_flags_and_code(session: Session) -> None:
    (library,) = session.run("function", "list", "libraryname", "LI*", "withcode")

    assert library[b"library_code"] == LIBRARY.encode()
    told = {each[b"name"]: each for each in library[b"functions"]}
    assert set(told) == {b"echo", b"peek", b"put"}
    assert told[b"peek"][b"description"] == b"looks"
    assert [flag.text for flag in told[b"peek"][b"flags"]] == [b"no-writes"]


def test_function_load_that_fails_changes_nothing(session: Session) -> None:
    broken = "#!lua name=lib\nredis.register_function('f', function() end) redis.nosuch()"

    assert "nonexistent global variable 'nosuch'" in session.error(
        "function", "load", "replace", broken
    )
    assert encode(session.run("fcall", "echo", 1, "k", "v"), 2).startswith(b"*2")
    assert session.engine.function_libraries == [LIBRARY.encode()]


def test_function_of_a_name_taken_by_another_library_is_refused(session: Session) -> None:
    other = "#!lua name=other\nredis.register_function('echo', function() end)"

    assert session.error("function", "load", other) == "ERR Function echo already exists"


@pytest.mark.parametrize("word", ["string", "pairs", "KEYS", "_G", "error"])
def test_function_load_sees_nothing_but_redis(session: Session, word: str) -> None:
    error = session.error("function", "load", f"#!lua name=x\nlocal y = {word}")

    assert f"nonexistent global variable '{word}'" in error


def test_function_registration_is_over_once_the_library_is_loaded(session: Session) -> None:
    late = (
        "#!lua name=late\nlocal keep = redis\n"
        "redis.register_function('f', function()"
        " keep.register_function('g', function() end) end)"
    )
    session.run("function", "load", late)

    assert "can only be called on FUNCTION LOAD command" in session.error("fcall", "f", 0)


def test_function_load_that_does_not_end_is_stopped(session: Session) -> None:
    ticks = iter(range(0, 1 << 50, 400_000_000))
    session.clock.monotonic_ns = lambda: next(ticks)  # type: ignore[method-assign]

    error = session.error("function", "load", "#!lua name=x\nwhile true do end")

    assert error == "ERR Error registering functions: ERR FUNCTION LOAD timeout"
    session.clock.monotonic_ns = lambda: 0  # type: ignore[method-assign]
    assert session.run("fcall", "peek", 1, "k") is None


def test_function_dump_is_restored_by_each_policy(session: Session) -> None:
    payload = session.run("function", "dump")
    session.run("function", "load", "#!lua name=b\nredis.register_function('f', function() end)")

    assert session.error("function", "restore", payload) == "ERR Library lib already exists"
    session.run("function", "restore", payload, "replace")
    assert sorted(names(session)) == [b"b", b"lib"]
    session.run("function", "restore", payload, "flush")
    assert names(session) == [b"lib"]


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_function_restore_of_a_damaged_payload_changes_nothing(session: Session, at: int) -> None:
    payload = bytearray(session.run("function", "dump"))
    payload[at] ^= 0x55

    assert session.error("function", "restore", bytes(payload)).startswith("ERR DUMP payload")
    assert names(session) == [b"lib"]


def test_function_libraries_put_in_place_by_a_load_are_compiled(session: Session) -> None:
    other = b"#!lua name=other\nredis.register_function('f', function() return 9 end)"
    session.engine.function_libraries = [other]

    assert session.run("fcall", "f", 0) == 9
    assert session.error("fcall", "echo", 0) == "ERR Function not found"
    assert session.run("function", "stats")[b"engines"][b"LUA"] == {
        b"libraries_count": 1,
        b"functions_count": 1,
    }


def test_function_library_that_cannot_be_compiled_is_kept_and_logged(session: Session) -> None:
    lines: list[bytes] = []
    session.engine.scripts.log = lambda level, text: lines.append(text)
    session.engine.function_libraries = [b"#!lua name=x\nx x"]

    assert session.error("fcall", "f", 0) == "ERR Function not found"
    assert len(lines) == 1
    assert session.engine.function_libraries == [b"#!lua name=x\nx x"]


def test_function_that_a_dataset_brought_is_gone_with_it(session: Session) -> None:
    session.engine.flush_for_load(lazily=False)

    assert session.error("fcall", "echo", 0) == "ERR Function not found"
    assert session.run("function", "list") == []
