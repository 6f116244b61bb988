"""`user` lines: those of a configuration, and those of the ACL file.

    user NAME RULE RULE ...

The ACL file has one user a line and nothing else but empty lines; words are split at each blank
and have no quotes. It is taken as a whole or not at all, and all that is wrong with it is told at
once. A file without the user `default` makes that one what it is in a server without any users.

Source: Redis 7.0 acl.c (ACLLoadFromFile, ACLLoadConfiguredUsers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kvrepl.config.loader import Declaration
from kvrepl.engine.acl.selector import RuleError, UnknownCommand, has_spaces
from kvrepl.engine.acl.user import Unmatched, User, merged
from kvrepl.errors import KvreplError

NewUser = Callable[[bytes], User]
"""Makes a fresh user of that name."""

_BLANKS = b" \t\r\n"


class UserFileError(KvreplError):
    """An ACL file is refused.

    Args:
        text: all that is wrong with it, in Redis's words.
    """

    def __init__(self, text: bytes) -> None:
        super().__init__(text.decode("utf-8", "backslashreplace"))
        self.text = text


def read(name: str, data: bytes, new_user: NewUser) -> dict[bytes, User]:
    """The users of an ACL file. O(length).

    Args:
        name: of the file, for the errors.
        data: its content.
        new_user: see NewUser.

    Raises:
        UserFileError: something is wrong with it.
    """
    users: dict[bytes, User] = {}
    faults: list[bytes] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        words = line.strip(_BLANKS).split(b" ")
        if words != [b""]:
            where = b"%b:%d" % (name.encode("utf-8", "surrogateescape"), number)
            faults += _read_line(words, where, number, users, new_user)
    if faults:
        raise UserFileError(
            b"".join(faults) + b"WARNING: ACL errors detected, no change to the previously active"
            b" ACL rules was performed"
        )
    return users


def _read_line(
    words: list[bytes], where: bytes, number: int, users: dict[bytes, User], new_user: NewUser
) -> Iterable[bytes]:
    """Add the user of a line; gives what is wrong with it."""
    if words[0] != b"user" or len(words) < 2:
        yield b"%b should start with user keyword followed by the username. " % where
        return
    name = words[1]
    if has_spaces(name):
        yield b"'%b: username '%b' contains invalid characters. " % (where, name)
        return
    if name in users:
        yield b"WARNING: Duplicate user '%b' found on line %d. " % (name, number)
        return
    user = users[name] = new_user(name)
    try:
        rules = merged(words[2:])
    except Unmatched:
        yield b"%b: Unmatched parenthesis in selector definition." % where
        return
    told = False
    for rule in rules:
        rule = rule.strip(b"\t\r\n")
        try:
            user.apply(rule)
        except UnknownCommand as error:
            yield b"%b: Error in applying operation '%b': %b. " % (where, rule, error.reason)
        except RuleError as error:
            # What follows may be wrong only because of this one; and a rule can hold a password.
            if not told:
                yield b"%b: %b. " % (where, error.reason)
            told = True


def declare(
    declarations: Iterable[Declaration], users: dict[bytes, User], new_user: NewUser
) -> None:
    """Add the users of a configuration; `default`, which is there already, is made anew.

    Raises:
        ConfigError: a line is wrong.
    """
    seen: set[bytes] = set()
    for declaration in declarations:
        _, name, *words = declaration.words
        if name in seen:
            raise _refused(
                declaration,
                name,
                b"Duplicate user found. A user can only be defined once in config files",
            )
        if has_spaces(name):
            raise declaration.error("Spaces not allowed in ACL usernames")
        seen.add(name)
        rule = name
        try:
            user = new_user(name)
            if name in users:
                user.apply(b"reset")
            for rule in merged(words):
                user.apply(rule)
        except RuleError as error:
            raise _refused(declaration, rule, error.reason) from None
        known = users.setdefault(name, user)
        if known is not user:
            known.take(user)


def _refused(declaration: Declaration, word: bytes, reason: bytes) -> Exception:
    text = b"Error in user declaration '%b': %b" % (word, reason)
    return declaration.error(text.decode("utf-8", "surrogateescape"))
