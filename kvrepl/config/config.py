"""The configuration of a running server: plain attributes, and the logic of CONFIG.

A value is read as an attribute (`config.repl_timeout`), which is what hot code does. It changes in
three ways, and the order within each is what callers rely on:

    at start        `Config.from_args`: defaults, then files, standard input and options, in order
    CONFIG SET      `set_many`: every name is looked up, every value parsed, all are assigned, then
                    the subscribers of those that changed run, each once; where one refuses, all
                    values are put back and the subscribers run again
    by the server   an attribute is assigned (`config.dir` after chdir, `config.replicaof` after
                    REPLICAOF); nobody is told

Nothing is read or written here: files come as text and go as text, and what a new value means for
a socket, a folder or a thread is the business of the subscriber.

Source: Redis config.c (configSetCommand, configGetCommand, rewriteConfig).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from kvrepl import glob
from kvrepl.config.attributes import Attributes
from kvrepl.config.errors import BadValue, ConfigError
from kvrepl.config.loader import Declaration, ExpandPattern, Loader, ReadFile, options_text
from kvrepl.config.rewrite import OldFile
from kvrepl.config.setting import Flags, Setting
from kvrepl.config.table import BY_NAME, SETTINGS
from kvrepl.config.text import to_bytes, to_text
from kvrepl.errors import CommandError, KvreplError

Subscriber = Callable[["Config"], None]
"""Called after new values are in place; refuses them with ConfigError or CommandError."""

_PATTERN_CHARACTERS = b"*?["


def _no_file(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def _no_match(pattern: str) -> Sequence[str]:
    return ()


class Config(Attributes):
    """All settings, each an attribute; made with the defaults.

    config_file: the file that was read, as an absolute path; "" without one.
    explicit: the settings that files and options have set, in any order.
    renames, users: the `rename-command` and `user` lines, for those who understand them.
    """

    __slots__ = ("_subscribers", "config_file", "explicit", "renames", "users")

    def __init__(self) -> None:
        for setting in SETTINGS:
            setattr(self, setting.attribute, setting.default)
        self.config_file = ""
        self.explicit: set[Setting] = set()
        self.renames: list[Declaration] = []
        self.users: list[Declaration] = []
        self._subscribers: dict[Setting, list[Subscriber]] = {}

    @classmethod
    def from_args(
        cls,
        arguments: Sequence[str],
        read_file: ReadFile = _no_file,
        *,
        expand_pattern: ExpandPattern = _no_match,
        read_stdin: Callable[[], str] = str,
        absolute: Callable[[str], str] = str,
    ) -> Self:
        """The configuration of a server started with these arguments.

        Args:
            arguments: what follows the program's name: [FILE] [-] [--name value ...].
            read_file: gives the text of a file; raises OSError.
            expand_pattern: gives the files that match a pattern (`include conf.d/*.conf`).
            read_stdin: gives the text of standard input; called for "-" only.
            absolute: makes a path absolute, for `config_file`.

        Raises:
            ConfigError: something is wrong; its `report()` is for stderr, the exit status is 1.
        """
        config = cls()
        rest = list(arguments)
        if rest and not rest[0].startswith("-"):
            config.config_file = absolute(rest.pop(0))
        from_stdin = bool(rest) and (rest[-1] == "-" or (rest[0] == "-" and not config.config_file))
        if from_stdin:
            rest.pop(-1 if rest[-1] == "-" else 0)
        more = (read_stdin() if from_stdin else "") + "\n" + options_text(rest)
        loader = Loader(config, read_file, expand_pattern)
        if config.config_file:
            loader.load_file(config.config_file, more)
        else:
            loader.load_text(more)
        if config.cluster_enabled and config.replicaof:
            raise ConfigError("replicaof directive not allowed in cluster mode")
        return config

    def value_of(self, setting: Setting) -> Any:
        """The current value."""
        return getattr(self, setting.attribute)

    def put(self, setting: Setting, value: Any) -> None:
        """Take a value from a file or an option."""
        setattr(self, setting.attribute, value)
        self.explicit.add(setting)

    def without_effect(self) -> list[str]:
        """The names of settings that were given another value, and that nothing here depends on."""
        return sorted(
            setting.name
            for setting in self.explicit
            if setting.has(Flags.NO_EFFECT) and getattr(self, setting.attribute) != setting.default
        )

    @staticmethod
    def is_sensitive(name: bytes) -> bool:
        """Whether the setting's value must not be logged; False for unknown names."""
        setting = BY_NAME.get(name.lower())
        return setting is not None and setting.has(Flags.SENSITIVE)

    def subscribe(self, name: str, subscriber: Subscriber) -> None:
        """Have a function called when CONFIG SET has changed a setting.

        A function that is subscribed to several settings runs once for all of them.

        Args:
            name: the setting's name or an alias of it.
            subscriber: raises ConfigError or CommandError to refuse; it must be able to run
                again with the old values.
        """
        self._subscribers.setdefault(BY_NAME[name.encode()], []).append(subscriber)

    def get(self, patterns: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """The answer to CONFIG GET: (name, value) pairs.

        A pattern without *, ? or [ is a name, and is answered as it was spelled; a pattern finds
        names and aliases but no hidden setting. O(patterns * settings).
        """
        found: dict[bytes, tuple[bytes, Setting]] = {}
        for pattern in patterns:
            if not any(byte in _PATTERN_CHARACTERS for byte in pattern):
                setting = BY_NAME.get(pattern.lower())
                if setting is not None:
                    found.setdefault(pattern.lower(), (pattern, setting))
                continue
            matches = glob.compile(pattern, True)
            for name, setting in BY_NAME.items():
                if not setting.has(Flags.HIDDEN) and matches(name):
                    found.setdefault(name, (name, setting))
        return [(name, self._shown(setting)) for name, setting in found.values()]

    def _shown(self, setting: Setting) -> bytes:
        return to_bytes(setting.kind.show(self.value_of(setting)))

    def set_many(
        self,
        pairs: Sequence[tuple[bytes, bytes]],
        *,
        local_client: bool = False,
        loading: bool = False,
    ) -> None:
        """CONFIG SET: take all values, or none.

        Args:
            pairs: names and values, as the client sent them.
            local_client: the client is on this machine, for `enable-protected-configs local`.
            loading: a dataset is being loaded, during which some settings are refused.

        Raises:
            CommandError: with Redis's text; nothing has changed.
        """
        chosen = self._look_up(pairs, local_client, loading)
        staged: dict[Setting, Any] = {}
        for name, setting, text in chosen:
            current = self.value_of(setting)
            words = [text]
            if setting.kind.several_words:
                words = text.split(b" ") if text else []
            if setting.kind.appends:
                current = type(current)()
            try:
                staged[setting] = setting.parse(words, current, at_start=False)
            except BadValue as refusal:
                raise _refused(name, refusal.reason) from None
        self._apply(staged, {setting: name for name, setting, _ in reversed(chosen)})

    def _look_up(
        self, pairs: Sequence[tuple[bytes, bytes]], local_client: bool, loading: bool
    ) -> list[tuple[bytes, Setting, bytes]]:
        """The settings behind the names, refused where the names alone are reason enough."""
        allowed = self.enable_protected_configs
        protected_ok = allowed == "yes" or (allowed == "local" and local_client)
        seen: set[bytes] = set()
        out = []
        for spelled, text in pairs:
            name = spelled.lower()
            setting = BY_NAME.get(name)
            if setting is None:
                raise CommandError(
                    b"ERR Unknown option or number of arguments for CONFIG SET - '%b'" % spelled
                )
            if setting.has(Flags.IMMUTABLE):
                raise _refused(spelled, "can't set immutable config")
            if setting.has(Flags.PROTECTED) and not protected_ok:
                raise _refused(spelled, "can't set protected config")
            if loading and setting.has(Flags.DENY_LOADING):
                raise CommandError(b"LOADING Redis is loading the dataset in memory")
            if name in seen:
                raise _refused(spelled, "duplicate parameter")
            seen.add(name)
            out.append((name, setting, text))
        return out

    def _apply(self, staged: dict[Setting, Any], names: dict[Setting, bytes]) -> None:
        """Assign the values, tell the subscribers, and take all of it back if one refuses."""
        old = {setting: self.value_of(setting) for setting in staged}
        calls: dict[Subscriber, Setting] = {}
        for setting, value in staged.items():
            setattr(self, setting.attribute, value)
            if value != old[setting] or setting.has(Flags.VOLATILE):
                for subscriber in self._subscribers.get(setting, ()):
                    calls.setdefault(subscriber, setting)
        done: list[Subscriber] = []
        for subscriber, setting in calls.items():
            done.append(subscriber)
            try:
                subscriber(self)
            except KvreplError as refusal:
                error = _refused(names[setting], _reason(refusal))
                self._take_back(old, done, error)
                raise error from refusal

    def _take_back(
        self, old: dict[Setting, Any], done: Sequence[Subscriber], error: CommandError
    ) -> None:
        """Restore the values and run again what has run; a second failure becomes a note."""
        for setting, value in old.items():
            setattr(self, setting.attribute, value)
        for subscriber in done:
            try:
                subscriber(self)
            except KvreplError as failure:
                error.add_note(f"restoring failed: {_reason(failure)}")

    def rewrite(
        self, old_text: str, *, user_lines: Sequence[bytes] = (), force_all: bool = False
    ) -> str:
        """CONFIG REWRITE: the new text of the file.

        Args:
            old_text: the file as it is, "" where there is none.
            user_lines: a `user NAME rules...` line for each ACL user, sorted by name; ignored
                where `aclfile` is set, for then they are kept there.
            force_all: also write every setting that has its default
                (DEBUG CONFIG-REWRITE-FORCE-ALL).

        Returns:
            The text, which ends in a newline. O(length + settings).
        """
        file = OldFile(old_text)
        for setting in SETTINGS:
            lines = setting.kind.lines(setting.name, self.value_of(setting), setting.default)
            file.write(setting.name, lines, force_all=force_all)
        file.write_users([] if self.aclfile else [to_text(line) for line in user_lines])
        return file.text()


def _refused(name: bytes, reason: str) -> CommandError:
    """The reply of a CONFIG SET that failed at one name."""
    return CommandError(
        b"ERR CONFIG SET failed (possibly related to argument '%b') - %b" % (name, to_bytes(reason))
    )


def _reason(error: KvreplError) -> str:
    """Why a subscriber refused, without the error code of a reply."""
    if isinstance(error, ConfigError):
        return error.reason
    if isinstance(error, CommandError):
        return to_text(error.text.removeprefix(b"ERR "))
    return str(error)
