"""The users of one engine: who is who, what they are refused, and what a change to them does.

A client has a user (`Client.user`; None: the master's stream and other clients of our own, which
may do everything) and has given its password or not (`Client.authenticated`). Two gates follow
from that, and `refresh` sets them anew for every client whenever a user changes:

    AUTH    nobody may come in without a password as `default`, and this client gave none
    ACL     its user may not do everything, so each request is judged

A login stays good when the user's passwords change. Who is deleted is disconnected; so are
subscribers to channels that their user may no longer use.

Source: Redis 7.0 acl.c, networking.c (clientSetDefaultAuth, authRequired), script.c
(scriptVerifyACL), multi.c (execCommand).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from kvrepl.engine import gates
from kvrepl.engine.acl import userfile
from kvrepl.engine.acl.catalog import Catalog
from kvrepl.engine.acl.judge import CHANNEL, COMMAND, KEY, Denial, judge, reads_every_key
from kvrepl.engine.acl.log import AclLog, Entry
from kvrepl.engine.acl.selector import RuleError
from kvrepl.engine.acl.user import User
from kvrepl.engine.description import PUBSUB, class_of, describe
from kvrepl.errors import CommandError

if TYPE_CHECKING:
    from kvrepl.config import Config
    from kvrepl.config.loader import Declaration
    from kvrepl.engine.client import Client
    from kvrepl.engine.dispatch import Engine
    from kvrepl.engine.spec import Command

DEFAULT: Final = b"default"
"""The user of whoever has not logged in."""

WRONGPASS: Final = CommandError(b"WRONGPASS invalid username-password pair or user is disabled.")

_REASONS: Final = {COMMAND: "command", KEY: "key", CHANNEL: "channel"}
_REFUSALS: Final = {
    COMMAND: b"NOPERM this user has no permissions to run the '%b' command",
    KEY: b"NOPERM this user has no permissions to access one of the keys used as arguments",
    CHANNEL: b"NOPERM this user has no permissions to access one of the channels used as arguments",
}
_CHANGED: Final = (
    b"NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC"
    b" call. This command is no longer allowed for the following reason: "
)
_REFUSALS_IN_EXEC: Final = {
    COMMAND: _CHANGED + b"no permission to execute the command or subcommand",
    KEY: _CHANGED + b"no permission to touch the specified keys",
    CHANNEL: _CHANGED + b"no permission to access one of the channels used as arguments",
}
_REFUSALS_IN_SCRIPT: Final = {
    COMMAND: b"ERR The user executing the script can't run this command or subcommand",
    KEY: b"ERR The user executing the script can't access at least one of the keys mentioned in"
    b" the command arguments",
    CHANNEL: b"ERR The user executing the script can't publish to the channel mentioned in the"
    b" command",
}


class Access:
    """Who may do what on one engine.

    Args:
        engine: whose clients and commands it is about.

    Attributes:
        users: all users by name.
        default: the user `default`; it is never deleted, and always the same object.
        log: what was denied.
    """

    __slots__ = ("_catalog", "_engine", "default", "log", "users")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._catalog = Catalog(engine.commands)
        self.log = AclLog()
        self.default = self._new_default()
        self.users: dict[bytes, User] = {DEFAULT: self.default}
        config = engine.config
        config.subscribe("requirepass", self._set_requirepass)
        if config.requirepass:
            self._set_requirepass(config)

    def _new_user(self, name: bytes) -> User:
        return User(name, self._catalog, all_channels=self._all_channels)

    def _new_default(self) -> User:
        user = self._new_user(DEFAULT)
        user.apply_all((b"+@all", b"~*", b"&*", b"on", b"nopass"))
        return user

    @property
    def _all_channels(self) -> bool:
        return self._engine.config.acl_pubsub_default == "allchannels"

    def _set_requirepass(self, config: Config) -> None:
        """`requirepass` is the one password of the user `default`; empty, it needs none."""
        password = config.requirepass
        self.default.apply_all((b"resetpass", b">" + password) if password else (b"nopass",))
        self.refresh()

    def lines(self) -> list[bytes]:
        """The lines that declare all users, sorted by name."""
        return [self.users[name].line() for name in sorted(self.users)]

    # --------------------------------------------------------------- clients

    @property
    def needs_login(self) -> bool:
        """Whether a new connection may do nothing before AUTH."""
        return not (self.default.no_password and self.default.enabled)

    def welcome(self, client: Client) -> None:
        """Make a client the user `default`, let in if no password is needed (also RESET)."""
        client.user = self.default
        client.authenticated = not self.needs_login
        self._set_gates(client)

    def login(self, client: Client, name: bytes, password: bytes, verb: bytes) -> None:
        """Make a client that user, if the password is right.

        Args:
            client: who asks.
            name, password: what was given.
            verb: the command that was used, for the log.

        Raises:
            CommandError: the user is unknown or disabled, or the password is wrong.
        """
        user = self.users.get(name)
        if user is None or not user.accepts(password):
            self._note(client, "auth", _context(client), verb, name)
            raise WRONGPASS
        client.user = user
        client.authenticated = True
        self._set_gates(client)

    def refresh(self) -> None:
        """Set the gates of every client after users changed. O(clients * selectors)."""
        for client in self._engine.clients.values():
            self._set_gates(client)

    def _set_gates(self, client: Client) -> None:
        raised = 0
        if client.user is not None and not client.user.unrestricted:
            raised |= gates.ACL
        if self.needs_login and not client.authenticated:
            raised |= gates.AUTH
        client.gates = client.gates & ~(gates.ACL | gates.AUTH) | raised

    # --------------------------------------------------------------- judging

    def denial(self, client: Client, command: Command, argv: list[bytes]) -> Denial | None:
        """What is denied to a client in a request, None where nothing is; nothing is logged."""
        if client.user is None or client.exempt & gates.ACL:
            return None
        return judge(client.user, command, argv)

    def refusal(self, client: Client, command: Command, argv: list[bytes]) -> CommandError | None:
        """Judge a request that comes in; what is denied is logged."""
        return self._judged(client, command, argv, _REFUSALS, _context(client))

    def refusal_in_exec(
        self, client: Client, command: Command, argv: list[bytes]
    ) -> CommandError | None:
        """Judge once more what was queued when the user might have been allowed to do it."""
        return self._judged(client, command, argv, _REFUSALS_IN_EXEC, "multi")

    def refusal_in_script(
        self, caller: Client, command: Command, argv: list[bytes]
    ) -> CommandError | None:
        """Judge what a script calls, by the rights of whoever called the script."""
        return self._judged(caller, command, argv, _REFUSALS_IN_SCRIPT, "lua")

    def _judged(
        self,
        client: Client,
        command: Command,
        argv: list[bytes],
        texts: dict[int, bytes],
        context: str,
    ) -> CommandError | None:
        denial = self.denial(client, command, argv)
        if denial is None or client.user is None:
            return None
        reason, at = denial
        name = command.name.encode()
        subject = name if reason == COMMAND else argv[at]
        self._note(client, _REASONS[reason], context, subject, client.user.name)
        text = texts[reason]
        return CommandError(text % name if b"%b" in text else text)

    def _note(
        self, client: Client, reason: str, context: str, subject: bytes, username: bytes
    ) -> None:
        engine = self._engine
        now_ms = engine.keyspace.now_ms
        entry = Entry(reason, context, subject, username, now_ms, describe(client))
        self.log.add(entry, engine.config.acllog_max_len)

    def reads_every_key(self, client: Client, command: Command, argv: list[bytes]) -> bool:
        """Whether the request may also read keys that it does not name."""
        if client.user is None or client.exempt & gates.ACL:
            return True
        return reads_every_key(client.user, command, argv)

    # -------------------------------------------------------------- changing

    def set_user(self, name: bytes, rules: Sequence[bytes], caller: Client) -> None:
        """Make or change a user by rules, all of them or none.

        Raises:
            CommandError: a rule is wrong.
        """
        known = self.users.get(name)
        source = known if known is not None else self._new_user(name)
        staged = source.staged(all_channels=self._all_channels)
        for rule in rules:
            try:
                staged.apply(rule)
            except RuleError as error:
                raise CommandError(
                    b"ERR Error in ACL SETUSER modifier '%b': %b" % (rule, error.reason)
                ) from None
        source.take(staged)
        self.users[name] = source
        self.refresh()
        if known is not None:
            self._end_subscribers(known, caller)

    def delete(self, names: Iterable[bytes], caller: Client) -> int:
        """Delete users, and disconnect who is logged in as one of them.

        Returns:
            How many there were.
        """
        deleted = [user for name in names if (user := self.users.pop(name, None)) is not None]
        self._end(deleted, caller)
        return len(deleted)

    def replace(self, name: str, data: bytes, caller: Client | None = None) -> None:
        """Take the users of an ACL file in place of those there are, and disconnect these.

        Args:
            name: the file's name, for errors.
            data: its content.
            caller: the client that asked for it, if one did.

        Raises:
            userfile.UserFileError: it is refused; nothing has changed.
        """
        users = userfile.read(name, data, self._new_user)
        gone = [user for user in self.users.values() if user is not self.default]
        self.default.take(users.get(DEFAULT) or self._new_default())
        users[DEFAULT] = self.default
        self.users = users
        self._end(gone, caller)
        self.refresh()

    def declare(self, declarations: Iterable[Declaration]) -> None:
        """Add the users that a configuration declares.

        Raises:
            ConfigError: a line is wrong.
        """
        userfile.declare(declarations, self.users, self._new_user)
        self.refresh()

    def _end(self, users: list[User], caller: Client | None) -> None:
        """Disconnect everybody who is logged in as one of these; until then they are nobody."""
        engine = self._engine
        for client in list(engine.clients.values()):
            if client.user in users:
                client.user = self.default
                client.authenticated = False
                self._set_gates(client)
                engine.kill(client, caller)

    def _end_subscribers(self, user: User, caller: Client) -> None:
        """Disconnect subscribers to what their user may no longer subscribe to."""
        selectors = user.selectors
        if any(selector.all_channels for selector in selectors):
            return

        def may(name: bytes, *, literally: bool) -> bool:
            return any(each.allows_channel(name, literally=literally) for each in selectors)

        engine = self._engine
        for client in list(engine.clients.values()):
            if client.user is user and class_of(client) == PUBSUB:
                allowed = (
                    all(may(name, literally=True) for name in client.patterns)
                    and all(may(name, literally=False) for name in client.channels)
                    and all(may(name, literally=False) for name in client.shard_channels)
                )
                if not allowed:
                    engine.kill(client, caller)


def _context(client: Client) -> str:
    return "toplevel" if client.queued is None else "multi"
