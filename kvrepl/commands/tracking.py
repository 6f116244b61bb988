"""CLIENT TRACKING and its kin: server-assisted client-side caching, switched and asked about.

What is remembered and who is told stands in kvrepl.engine.tracking.

Source: Redis 7.0 networking.c (clientCommand).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvrepl.commands.arguments import integer
from kvrepl.engine.spec import command
from kvrepl.engine.tracking import NO_REDIRECTION, Mode, redirected_to
from kvrepl.errors import SYNTAX, CommandError
from kvrepl.resp.values import OK, Reply, SetReply

if TYPE_CHECKING:
    from kvrepl.engine.client import Client

REDIRECTED_TWICE: Final = CommandError(b"ERR A client can only redirect to a single other client")
REDIRECTED_TO_NOBODY: Final = CommandError(b"ERR The client ID you want redirect to does not exist")
PREFIX_WITHOUT_BCAST: Final = CommandError(b"ERR PREFIX option requires BCAST mode to be enabled")
BCAST_SWITCHED: Final = CommandError(
    b"ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then"
    b" re-enabling it with a different mode."
)
BCAST_CHOOSES: Final = CommandError(b"ERR OPTIN and OPTOUT are not compatible with BCAST")
IN_AND_OUT: Final = CommandError(b"ERR You can't specify both OPTIN mode and OPTOUT mode")
IN_OR_OUT_SWITCHED: Final = CommandError(
    b"ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then"
    b" re-enabling it with a different mode."
)
NO_CACHING: Final = CommandError(
    b"ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or"
    b" OPTOUT mode enabled"
)
CACHING_YES: Final = CommandError(
    b"ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
)
CACHING_NO: Final = CommandError(
    b"ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."
)


@command("client|tracking", -3, "noscript loading stale", acl="connection")
def client_tracking(c: Client, argv: list[bytes]) -> Reply:
    """Have the current connection told when keys change that it may hold. O(1); O(prefixes)."""
    mode, prefixes = _mode(c, argv)
    word = argv[2].lower()
    if word == b"on":
        _check(c, mode, prefixes)
        c.engine.tracking.enable(c, mode, prefixes)
    elif word == b"off":
        c.engine.tracking.disable(c)
    else:
        raise SYNTAX
    return OK


def _mode(c: Client, argv: list[bytes]) -> tuple[Mode, list[bytes]]:
    """Read the options: the mode and the prefixes."""
    mode = Mode()
    prefixes: list[bytes] = []
    rest = iter(argv[3:])
    for word in rest:
        option = word.upper()
        if option == b"BCAST":
            mode.bcast = True
        elif option == b"OPTIN":
            mode.optin = True
        elif option == b"OPTOUT":
            mode.optout = True
        elif option == b"NOLOOP":
            mode.noloop = True
        elif option in (b"REDIRECT", b"PREFIX") and (value := next(rest, None)) is not None:
            if option == b"PREFIX":
                prefixes.append(value)
                continue
            if mode.redirect != NO_REDIRECTION:
                raise REDIRECTED_TWICE
            mode.redirect = integer(value)
            if mode.redirect not in c.engine.clients:
                raise REDIRECTED_TO_NOBODY
        else:
            raise SYNTAX
    return mode, prefixes


def _check(c: Client, mode: Mode, prefixes: list[bytes]) -> None:
    """See that the options go together, and with the mode that is on."""
    held: Mode | None = c.tracking
    if prefixes and not mode.bcast:
        raise PREFIX_WITHOUT_BCAST
    if held is not None and held.bcast != mode.bcast:
        raise BCAST_SWITCHED
    if mode.bcast and (mode.optin or mode.optout):
        raise BCAST_CHOOSES
    if mode.optin and mode.optout:
        raise IN_AND_OUT
    if held is not None and ((mode.optin and held.optout) or (mode.optout and held.optin)):
        raise IN_OR_OUT_SWITCHED


@command("client|trackinginfo", 2, "noscript loading stale", acl="connection")
def client_trackinginfo(c: Client, argv: list[bytes]) -> Reply:
    """Get the state of client-side caching on the current connection. O(prefixes)."""
    mode: Mode | None = c.tracking
    if mode is None:
        return {b"flags": SetReply([b"off"]), b"redirect": redirected_to(c), b"prefixes": []}
    c.engine.tracking.redirection(c)
    flags = (
        (True, b"on"),
        (mode.bcast, b"bcast"),
        (mode.optin, b"optin"),
        (mode.optin and mode.caching, b"caching-yes"),
        (mode.optout, b"optout"),
        (mode.optout and mode.caching, b"caching-no"),
        (mode.noloop, b"noloop"),
        (mode.broken, b"broken_redirect"),
    )
    return {
        b"flags": SetReply([name for holds, name in flags if holds]),
        b"redirect": mode.redirect,
        b"prefixes": sorted(mode.prefixes),
    }


@command("client|getredir", 2, "noscript loading stale", acl="connection")
def client_getredir(c: Client, argv: list[bytes]) -> Reply:
    """Get the ID of the connection that invalidations are redirected to. O(1)."""
    return redirected_to(c)


@command("client|caching", 3, "noscript loading stale", acl="connection")
def client_caching(c: Client, argv: list[bytes]) -> Reply:
    """Say whether the keys of the next command are tracked. O(1)."""
    mode: Mode | None = c.tracking
    if mode is None:
        raise NO_CACHING
    word = argv[2].lower()
    if word == b"yes":
        if not mode.optin:
            raise CACHING_YES
    elif word == b"no":
        if not mode.optout:
            raise CACHING_NO
    else:
        raise SYNTAX
    mode.caching = True
    return OK
