"""A user: a name, passwords, and permissions as a root selector with others beside it.

    on off   nopass resetpass  >PASSWORD <PASSWORD  #HASH !HASH   skip-sanitize-payload
    sanitize-payload   (RULES)  clearselectors   reset   and the root selector's own rules

A request is allowed where one of the selectors allows all of it. Passwords are kept as SHA-256 in
hexadecimal digits, and compared in a time that does not depend on where they differ.

`sanitize-payload` is kept and told as Redis does; here every payload of RESTORE is checked.

Source: Redis 7.0 acl.c (ACLSetUser, ACLDescribeUser, ACLMergeSelectorArguments,
ACLCheckUserCredentials).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final, Self

from kvrepl.config.text import split_words
from kvrepl.engine.acl.catalog import Catalog
from kvrepl.engine.acl.selector import RuleError, Selector

NO_SUCH_PASSWORD: Final = b"The password you are trying to remove from the user does not exist"
BAD_HASH: Final = (
    b"The password hash must be exactly 64 characters and contain only lowercase hexadecimal"
    b" characters"
)

_HASH: Final = re.compile(rb"[0-9a-f]{64}")


class Unmatched(RuleError):
    """A parenthesis is opened and not closed.

    Args:
        rule: the one that opens it.
    """

    def __init__(self, rule: bytes) -> None:
        super().__init__(b"Unmatched parenthesis in acl selector starting at '%b'." % rule)


class User:
    """Somebody who can log in.

    Args:
        name: unique within a server.
        catalog: the commands that there are.
        all_channels: whether fresh selectors may use every channel (acl-pubsub-default).

    Attributes:
        enabled: whether anybody can log in as this user.
        no_password: whether any password does.
        passwords: the hashes of its passwords, in the order in which they came.
        sanitizes: what (skip-)sanitize-payload said, None where neither was.
        selectors: the root selector, and others.
    """

    __slots__ = (
        "_all_channels", "_catalog", "enabled", "name", "no_password", "passwords", "sanitizes",
        "selectors",
    )  # fmt: skip

    def __init__(self, name: bytes, catalog: Catalog, *, all_channels: bool) -> None:
        self.name = name
        self._catalog = catalog
        self._all_channels = all_channels
        self.enabled = False
        self.no_password = False
        self.passwords: dict[bytes, None] = {}
        self.sanitizes: bool | None = None
        self.selectors = [Selector(catalog, all_channels=all_channels)]

    def staged(self, *, all_channels: bool) -> Self:
        """A copy to try rules on. `take` makes them true."""
        twin = type(self)(self.name, self._catalog, all_channels=all_channels)
        twin.take(self)
        return twin

    def take(self, other: User) -> None:
        """Have the passwords and permissions of another user, whose name is kept out of it."""
        self.enabled = other.enabled
        self.no_password = other.no_password
        self.passwords = dict(other.passwords)
        self.sanitizes = other.sanitizes
        self.selectors = [selector.copy() for selector in other.selectors]

    @property
    def root(self) -> Selector:
        """The selector that rules outside of parentheses change."""
        return self.selectors[0]

    @property
    def unrestricted(self) -> bool:
        """Whether nothing is denied to this user."""
        return any(selector.unrestricted for selector in self.selectors)

    def accepts(self, password: bytes) -> bool:
        """Whether somebody with this password may log in. O(password + passwords)."""
        if not self.enabled:
            return False
        if self.no_password:
            return True
        given = hashed(password)
        found = False
        for known in self.passwords:
            found |= hmac.compare_digest(given, known)
        return found

    # --------------------------------------------------------------- changing

    def apply_all(self, rules: Iterable[bytes]) -> None:
        """Follow rules that must be right."""
        for rule in rules:
            self.apply(rule)

    def apply(self, rule: bytes) -> None:
        """Follow a rule.

        Raises:
            RuleError: it is wrong; nothing has changed.
        """
        match rule.lower():
            case b"":
                pass
            case b"on":
                self.enabled = True
            case b"off":
                self.enabled = False
            case b"skip-sanitize-payload":
                self.sanitizes = False
            case b"sanitize-payload":
                self.sanitizes = True
            case b"nopass" | b"resetpass" as word:
                self.no_password = word == b"nopass"
                self.passwords.clear()
            case b"clearselectors":
                del self.selectors[1:]
            case b"reset":
                self._reset()
            case _:
                self._apply_other(rule)

    def _apply_other(self, rule: bytes) -> None:
        sign, rest = rule[:1], rule[1:]
        if sign in (b">", b"#"):
            self.passwords[hashed(rest) if sign == b">" else _checked(rest)] = None
            self.no_password = False
        elif sign in (b"<", b"!"):
            password = hashed(rest) if sign == b"<" else _checked(rest)
            if password not in self.passwords:
                raise RuleError(NO_SUCH_PASSWORD)
            del self.passwords[password]
        elif sign == b"(" and rule.endswith(b")"):
            selector = Selector(self._catalog, all_channels=self._all_channels)
            for word in split_words(rule[1:-1]) or ():
                selector.apply(word)
            self.selectors.append(selector)
        else:
            self.root.apply(rule)

    def _reset(self) -> None:
        self.enabled = self.no_password = False
        self.passwords.clear()
        self.sanitizes = True
        self.selectors = [Selector(self._catalog, all_channels=self._all_channels)]

    # ---------------------------------------------------------------- telling

    def flags(self) -> list[bytes]:
        """The rules of one word that say how it may log in."""
        words = [b"on" if self.enabled else b"off"]
        if self.no_password:
            words.append(b"nopass")
        if self.sanitizes is not None:
            words.append(b"sanitize-payload" if self.sanitizes else b"skip-sanitize-payload")
        return words

    def describe(self) -> bytes:
        """The rules that make this user out of a fresh one."""
        root, *others = self.selectors
        words = [*self.flags(), *(b"#" + password for password in self.passwords)]
        words.append(root.describe())
        words += (b"(%b)" % selector.describe() for selector in others)
        return b" ".join(words)

    def line(self) -> bytes:
        """The line that declares it, in a configuration and in an ACL file."""
        return b"user %b %b" % (self.name, self.describe())


def hashed(password: bytes) -> bytes:
    """A password as it is kept."""
    return hashlib.sha256(password).hexdigest().encode()


def _checked(digits: bytes) -> bytes:
    if not _HASH.fullmatch(digits):
        raise RuleError(BAD_HASH)
    return digits


def merged(rules: Iterable[bytes]) -> list[bytes]:
    """Rules with each selector in one piece, however it was split at blanks.

    Raises:
        Unmatched: one is not closed.
    """
    whole: list[bytes] = []
    opened: list[bytes] = []
    for rule in rules:
        if rule.startswith(b"(") and not rule.endswith(b")"):
            opened = [rule]
        elif opened:
            opened.append(rule)
            if rule.endswith(b")"):
                whole.append(b" ".join(opened))
                opened = []
        else:
            whole.append(rule)
    if opened:
        raise Unmatched(opened[0])
    return whole
