"""The model of access control: rules, how they are told again, and who is denied what.

The words of errors and of rendered rules are those of redis-server 7.0.15; tests/interop compares
many more of them with a live one.
"""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvrepl.commands  # noqa: F401  registers every command
from kvrepl.engine.acl.catalog import FUTURE, Catalog
from kvrepl.engine.acl.judge import CHANNEL, COMMAND, KEY, judge, reads_every_key
from kvrepl.engine.acl.selector import RuleError
from kvrepl.engine.acl.user import Unmatched, User, merged
from kvrepl.engine.acl.userfile import UserFileError, read
from kvrepl.engine.introspection import ACL_CATEGORIES, walk
from kvrepl.engine.spec import REGISTRY, Command

CATALOG = Catalog(REGISTRY)
COMMANDS = list(walk(list(REGISTRY.values())))


def user_of(*rules: str, all_channels: bool = False) -> User:
    user = User(b"u", CATALOG, all_channels=all_channels)
    user.apply_all(rule.encode() for rule in rules)
    return user


def command_of(argv: list[bytes]) -> Command:
    command = REGISTRY[argv[0].decode()]
    return command.subcommands[argv[1]] if command.subcommands else command


def denied(user: User, request: str) -> tuple[int, int] | None:
    argv = request.encode().split()
    return judge(user, command_of(argv), argv)


# ----------------------------------------------------------------------- telling


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("", "off resetchannels -@all"),
        ("on nopass ~* &* +@all", "on nopass ~* &* +@all"),
        ("allkeys allchannels allcommands", "off ~* &* +@all"),
        ("+@all nocommands ~* resetkeys &* resetchannels", "off resetchannels -@all"),
        ("%R~a %w~a %rw~b ~c %W~d", "off ~a ~b ~c %W~d resetchannels -@all"),
        ("&a &b &a", "off resetchannels &a &b -@all"),
        ("+get -get +set", "off resetchannels -@all +set"),
        ("+@all -config|set", "off resetchannels +@all -config|set"),
        ("+config|get", "off resetchannels -@all +config|get"),
        ("+config -config|set", "off resetchannels -@all +config -config|set"),
        ("+select|0 +select|1 +SELECT|0", "off resetchannels -@all +select|0 +select|1"),
        ("+select|0 +select", "off resetchannels -@all +select"),
        ("+select|0 -@connection", "off resetchannels -@all"),
        ("+@STRING", "off resetchannels -@all +@string"),
        ("+@all -@dangerous -@admin", "off resetchannels +@all -@dangerous"),
        ("reset", "off sanitize-payload resetchannels -@all"),
        ("skip-sanitize-payload", "off skip-sanitize-payload resetchannels -@all"),
        (
            "+get (+set ~x) (&y)",
            "off resetchannels -@all +get (~x resetchannels -@all +set) (resetchannels &y -@all)",
        ),
        ("(+get) clearselectors", "off resetchannels -@all"),
    ],
)
def test_rules_of_a_user_are_told_as_redis_tells_them(rules: str, told: str) -> None:
    user = User(b"u", CATALOG, all_channels=False)
    user.apply_all(merged(rules.encode().split()))
    assert user.describe().decode() == told


def test_fresh_selectors_with_all_channels_say_so() -> None:
    told = user_of("(+get)", "+set", all_channels=True).describe()
    assert told == b"off &* -@all +set (&* -@all +get)"


def test_passwords_are_kept_as_hashes() -> None:
    digits = hashlib.sha256(b"secret").hexdigest()
    user = user_of(">secret", f"#{digits}", ">other")
    assert user.describe().startswith(f"off #{digits} #".encode())
    assert b"secret" not in user.describe()
    user.apply_all([b"<other", f"!{digits}".encode()])
    assert not user.passwords


# ------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ("foo", "Syntax error"),
        ("%~a", "Syntax error"),
        ("%RR~a", "Syntax error"),
        ("%X~a", "Syntax error"),
        ("~a\tb", "Syntax error"),
        ("&a\vb", "Syntax error"),
        ("+config|", "Syntax error"),
        ("+get|a\nuser evil on nopass +@all", "Syntax error"),
        ("(nopass)", "Syntax error"),
        ("+", "Unknown command or category name in ACL"),
        ("-nope", "Unknown command or category name in ACL"),
        ("+@nope", "Unknown command or category name in ACL"),
        ("+config|nope", "Unknown command or category name in ACL"),
        ("-select|0", "Unknown command or category name in ACL"),
        ("+config|get|x", "Allowing first-arg of a subcommand is not supported"),
        ("<a", "The password you are trying to remove from the user does not exist"),
    ],
)
def test_rule_that_is_wrong_is_refused_with_the_reason(rules: str, reason: str) -> None:
    user = user_of("on", "~k", "+get")
    before = user.describe()
    with pytest.raises(RuleError) as raised:
        user.apply(rules.encode())
    assert raised.value.reason.decode() == reason
    assert user.describe() == before


def test_patterns_after_all_are_refused() -> None:
    with pytest.raises(RuleError, match="Try 'resetkeys'"):
        user_of("~*", "~a")
    with pytest.raises(RuleError, match="Try 'resetchannels'"):
        user_of("&*", "&a")


@pytest.mark.parametrize("digits", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64])
def test_hash_that_is_none_is_refused(digits: str) -> None:
    for sign in "#!":
        with pytest.raises(RuleError, match="exactly 64 characters"):
            user_of(sign + digits)


def test_selectors_split_at_blanks_are_put_together() -> None:
    words = b"on (+get ~a) ( +set ~b ) (+del ~c) off".split()
    assert merged(words) == [b"on", b"(+get ~a)", b"( +set ~b )", b"(+del ~c)", b"off"]
    with pytest.raises(Unmatched, match=r"starting at '\(\+set'"):
        merged([b"on", b"(+get", b"(+set", b"~b"])


# ------------------------------------------------------------------------- login


def test_password_lets_in_only_while_the_user_is_on() -> None:
    user = user_of(">a", ">b")
    assert not user.accepts(b"a")
    user.apply(b"on")
    assert user.accepts(b"a")
    assert user.accepts(b"b")
    assert not user.accepts(b"c")
    assert not user.accepts(next(iter(user.passwords)))
    user.apply(b"nopass")
    assert user.accepts(b"c")
    user.apply(b"resetpass")
    assert not user.accepts(b"a")


# ----------------------------------------------------------------------- judging


def test_commands_are_judged_by_their_bits() -> None:
    user = user_of("~*", "&*", "+@all", "-config", "+config|get", "-get")
    assert denied(user, "set k v") is None
    assert denied(user, "get k") == (COMMAND, 0)
    assert denied(user, "config get x") is None
    assert denied(user, "config set x y") == (COMMAND, 0)
    assert denied(user_of("-@all"), "auth x") is None  # whoever may do nothing may log in


def test_first_arguments_allow_what_the_command_alone_does_not() -> None:
    user = user_of("+select|0")
    assert denied(user, "select 0") is None
    assert denied(user, "select 1") == (COMMAND, 0)
    assert denied(user_of("+debug|OBJECT"), "debug object") is None


def test_keys_are_judged_by_what_is_done_to_them() -> None:
    user = user_of("+@all", "%R~r*", "%W~w*", "~b*")
    for request in (
        "get r1", "get b1", "set w1 v", "set b1 v get", "copy r1 w1", "exists r1 w1 b1",
        "mget r1 b1", "del w1", "bitfield r1 get u8 0", "sort r1 store w1", "xread streams r1 0",
        "eval x 2 b1 b2", "zunionstore w1 2 r1 b1", "ping",
    ):  # fmt: skip
        assert denied(user, request) is None, request
    for request, at in (
        ("get w1", 1), ("set r1 v", 1), ("set w1 v get", 1), ("copy w1 w1", 1), ("copy r1 r1", 2),
        ("exists r1 x1", 2), ("mget r1 r2 w1", 3), ("del r1", 1), ("append r1 v", 1),
        ("bitfield r1 set u8 0 1", 1), ("sort r1 store r2", 3), ("eval x 2 b1 r2", 4),
        ("zunionstore w1 2 r1 w2", 4), ("rename r1 w1", 1),
    ):  # fmt: skip
        assert denied(user, request) == (KEY, at), request


def test_channels_are_judged_by_globs_and_patterns_word_for_word() -> None:
    user = user_of("+@all", "~*", "&a*", "&b")
    for request in (
        "publish ax m", "spublish b m", "subscribe ax b", "ssubscribe a1", "psubscribe a* b",
        "unsubscribe x", "punsubscribe x", "sunsubscribe x", "pubsub numsub x",
    ):  # fmt: skip
        assert denied(user, request) is None, request
    for request, at in (
        ("publish x m", 1), ("spublish x m", 1), ("subscribe a x", 2), ("ssubscribe x", 1),
        ("psubscribe a* ax", 2), ("psubscribe *", 1),
    ):  # fmt: skip
        assert denied(user, request) == (CHANNEL, at), request


def test_one_selector_must_allow_all_of_a_request() -> None:
    user = user_of("+get", "~a", "(+set ~b)", "(+publish &c)")
    assert denied(user, "get a") is None
    assert denied(user, "set b v") is None
    assert denied(user, "publish c m") is None
    assert denied(user, "get b") == (KEY, 1)
    assert denied(user, "publish x m") == (CHANNEL, 1)
    assert denied(user, "del a") == (COMMAND, 0)


def test_last_key_that_any_selector_denies_is_told() -> None:
    user = user_of("+mget", "~a", "(+mget ~a ~b)")
    assert denied(user, "mget a b c") == (KEY, 3)


def test_sort_may_read_other_keys_only_with_every_key() -> None:
    argv = [b"sort", b"k", b"get", b"w_*"]
    sort = REGISTRY["sort"]
    assert reads_every_key(user_of("+sort", "~*"), sort, argv)
    assert reads_every_key(user_of("+sort", "%R~*"), sort, argv)
    assert reads_every_key(user_of("~k", "(+sort ~*)"), sort, argv)
    assert not reads_every_key(user_of("+sort", "~k", "~w_*"), sort, argv)
    assert not reads_every_key(user_of("+sort", "~k", "(~*)"), sort, argv)


def test_keys_at_fixed_places_are_always_there() -> None:
    for command in COMMANDS:
        for key in command.fixed_keys or ():
            assert key.position < command.least, command.name


# ------------------------------------------------------------------------ catalog


def test_every_command_has_a_bit_of_its_own() -> None:
    bits = [command.acl_bit for command in COMMANDS]
    assert len({FUTURE, *bits}) == len(bits) + 1
    assert all(bit.bit_count() == 1 for bit in bits)
    assert CATALOG.everything == sum(bits) + FUTURE


def test_who_may_do_all_but_some_is_told_so() -> None:
    assert user_of("+@all", "-get").root.allowed & FUTURE
    by_name = user_of(*(f"+{command.name}" for command in COMMANDS))
    assert not by_name.root.allowed & FUTURE
    assert by_name.root.describe_commands().startswith(b"-@all ")
    assert not by_name.unrestricted


# -------------------------------------------------------------------- any rules

NAMES = st.sampled_from([command.name for command in COMMANDS])
WORDS = st.sampled_from(["a", "b*", "foo:*", "?", "[ab]", "*x"])
COMMAND_RULES = st.one_of(
    st.builds("{}{}".format, st.sampled_from("+-"), NAMES),
    st.builds("{}@{}".format, st.sampled_from("+-"), st.sampled_from(["all", *ACL_CATEGORIES])),
    st.builds("+{}|{}".format, st.sampled_from(["get", "select", "debug"]), WORDS),
)
SELECTOR_RULES = st.one_of(
    COMMAND_RULES,
    st.builds("{}{}".format, st.sampled_from(["~", "%R~", "%W~", "%RW~", "&"]), WORDS),
    st.sampled_from(["allkeys", "resetkeys", "allchannels", "resetchannels"]),
)
USER_RULES = st.one_of(
    SELECTOR_RULES,
    st.sampled_from(
        ["on", "off", "nopass", "resetpass", "reset", ">p", ">q", "<p", "clearselectors",
         "sanitize-payload", "skip-sanitize-payload"]
    ),
    st.builds("({})".format, st.lists(SELECTOR_RULES, max_size=6).map(" ".join)),
)  # fmt: skip


def made_by(rules: list[str], *, all_channels: bool = False) -> User:
    """A user by those of the rules that can be followed."""
    user = User(b"u", CATALOG, all_channels=all_channels)
    for rule in rules:
        try:
            user.apply(rule.encode())
        except RuleError:
            pass
    return user


@settings(max_examples=200)
@given(st.lists(USER_RULES, max_size=25), st.booleans())
def test_told_rules_make_the_same_user(rules: list[str], all_channels: bool) -> None:
    user = made_by(rules, all_channels=all_channels)
    twin = User(b"u", CATALOG, all_channels=all_channels)
    twin.apply_all(merged(user.describe().split(b" ")))
    assert twin.describe() == user.describe()
    assert twin.passwords == user.passwords
    for one, other in zip(user.selectors, twin.selectors, strict=True):
        assert one.allowed == other.allowed
        assert one.first_args.keys() >= other.first_args.keys()
        assert (one.all_keys, one.all_channels) == (other.all_keys, other.all_channels)
        assert {name: key.access for name, key in one.keys.items()} == {
            name: key.access for name, key in other.keys.items()
        }


@settings(max_examples=100)
@given(st.lists(USER_RULES, max_size=15), st.lists(USER_RULES, max_size=10))
def test_staged_rules_leave_the_user_alone(rules: list[str], more: list[str]) -> None:
    user = made_by(rules)
    before = user.describe()
    staged = user.staged(all_channels=False)
    for rule in more:
        try:
            staged.apply(rule.encode())
        except RuleError:
            pass
    assert user.describe() == before
    user.take(staged)
    assert user.describe() == staged.describe()


SCRAPS = st.sampled_from(
    [b"user", b"a", b" ", b" ", b"\n", b"(", b")", b"|", b"+get", b"+config|", b"+@", b"-@all",
     b"~", b"+get|", b"%R~", b"&", b">p", b"#", b"\xff", b"\0", b'"', b"on",
     b"reset", b"allkeys", b"default"]
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.one_of(SCRAPS, st.binary(max_size=3)), max_size=12).map(b"".join))
def test_rule_of_any_bytes_is_followed_or_refused(rule: bytes) -> None:
    user = user_of("on", "~k")
    try:
        for each in merged([rule, b"on"]):
            user.apply(each)
    except RuleError as error:
        assert error.reason
    assert user.line().count(b"\n") == 0


@settings(max_examples=300)
@given(st.lists(st.one_of(SCRAPS, st.binary(max_size=3)), max_size=25).map(b"".join))
def test_acl_file_of_any_bytes_is_read_back_or_refused(data: bytes) -> None:
    def new_user(name: bytes) -> User:
        return User(name, CATALOG, all_channels=False)

    try:
        users = read("users.acl", data, new_user)
    except UserFileError as error:
        assert error.text.endswith(b"rules was performed")
        return
    lines = [user.line() for user in users.values()]
    again = read("users.acl", b"\n".join(lines), new_user)
    assert [user.line() for user in again.values()] == lines
