"""TLS contexts: what we show of ourselves, whom we trust, and what we speak.

There are two, both made from the tls-* settings by `Tls.configure`:

    server    for connections to tls-port. A client is asked for a certificate by tls-auth-clients:
              yes demands one, optional takes none as well, no does not ask
    client    for our link to a master (tls-replication). The master's certificate must come from
              a CA of ours; which host it names is not looked at, as a replica is told addresses.
              We show tls-client-cert-file with its key, or the server's without them

Both are made anew from the files before either is replaced, so that settings that are wrong change
nothing. A connection keeps the context that it began with. A connection that is being opened takes
the one of that moment, so that a certificate renewed in place is in use once CONFIG SET has named
it again.

What Python's ssl leaves to OpenSSL: the suites of TLS 1.3 (tls-ciphersuites) and the cache of
sessions (tls-session-*).

Source: Redis 7.0 tls.c (tlsConfigure, createSSLContext, connCreateAcceptedTLS).
"""

from __future__ import annotations

import re
import ssl
import warnings
from typing import TYPE_CHECKING, Final

from kvrepl.errors import KvreplError

if TYPE_CHECKING:
    from kvrepl.config import Config

_REQUIREMENTS: Final = {
    "yes": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "no": ssl.CERT_NONE,
}
_REFUSALS: Final = {
    "tlsv1": ssl.OP_NO_TLSv1,
    "tlsv1.1": ssl.OP_NO_TLSv1_1,
    "tlsv1.2": ssl.OP_NO_TLSv1_2,
    "tlsv1.3": ssl.OP_NO_TLSv1_3,
}
_DEFAULT_PROTOCOLS: Final = "TLSv1.2 TLSv1.3"
_SOURCE_MARKS: Final = re.compile(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$")


class TlsError(KvreplError):
    """The settings of TLS cannot be used; the text says why, for the log."""


class Tls:
    """The contexts of a server, once `configure` has made them."""

    def __init__(self) -> None:
        self._server: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None

    @property
    def server(self) -> ssl.SSLContext:
        """For connections that come in."""
        assert self._server is not None, "tls-port is listened on before TLS was configured"
        return self._server

    @property
    def client(self) -> ssl.SSLContext:
        """For connections to a master."""
        assert self._client is not None, "tls-replication is on before TLS was configured"
        return self._client

    def configure(self, config: Config) -> None:
        """Make the contexts from the settings, where these have a use for TLS.

        Raises:
            TlsError: a setting or a file is wrong; the contexts stay as they were.
        """
        if not is_used(config):
            return
        if not config.tls_cert_file:
            raise TlsError("No tls-cert-file configured!")
        if not config.tls_key_file:
            raise TlsError("No tls-key-file configured!")
        has_ca = bool(config.tls_ca_cert_file or config.tls_ca_cert_dir)
        if not has_ca and (config.tls_replication or config.tls_auth_clients != "no"):
            raise TlsError(
                "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when"
                " tls-replication or tls-auth-clients are enabled!"
            )
        server = _context(ssl.PROTOCOL_TLS_SERVER, config)
        server.verify_mode = _REQUIREMENTS[config.tls_auth_clients]
        _load_dh_params(server, config.tls_dh_params_file)
        _load_own(server, config.tls_cert_file, config.tls_key_file, config.tls_key_file_pass)
        client = _context(ssl.PROTOCOL_TLS_CLIENT, config)
        client.check_hostname = False
        if config.tls_client_cert_file and config.tls_client_key_file:
            _load_own(
                client,
                config.tls_client_cert_file,
                config.tls_client_key_file,
                config.tls_client_key_file_pass,
            )
        else:
            _load_own(client, config.tls_cert_file, config.tls_key_file, config.tls_key_file_pass)
        self._server, self._client = server, client


def is_used(config: Config) -> bool:
    """Whether anything speaks TLS."""
    return bool(config.tls_port or config.tls_replication)


def reason_of(error: OSError) -> str:
    """Why a handshake failed or a file was refused, without the marks of Python's own source."""
    if isinstance(error, ssl.SSLError):
        return _SOURCE_MARKS.sub("", _SOURCE_MARKS.sub("", error.strerror or str(error.args[0])))
    return error.strerror or str(error) or "the peer closed the connection"


def _context(protocol: ssl._SSLMethod, config: Config) -> ssl.SSLContext:
    """A context with what both sides have in common."""
    context = ssl.SSLContext(protocol)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_SINGLE_DH_USE | ssl.OP_SINGLE_ECDH_USE
    if config.tls_prefer_server_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _choose_protocols(context, config.tls_protocols or _DEFAULT_PROTOCOLS)
    if config.tls_ciphers:
        try:
            context.set_ciphers(config.tls_ciphers)
        except ssl.SSLError as error:
            raise TlsError(f"Failed to configure ciphers: {config.tls_ciphers}") from error
    if config.tls_ca_cert_file or config.tls_ca_cert_dir:
        try:
            context.load_verify_locations(
                config.tls_ca_cert_file or None, config.tls_ca_cert_dir or None
            )
        except OSError as error:
            raise TlsError(
                f"Failed to configure CA certificate(s) file/directory: {reason_of(error)}"
            ) from error
    return context


def _choose_protocols(context: ssl.SSLContext, names: str) -> None:
    chosen = set(names.lower().split())
    if not chosen or not chosen <= _REFUSALS.keys():
        raise TlsError(
            "Invalid tls-protocols specified. Use a combination of 'TLSv1', 'TLSv1.1', 'TLSv1.2'"
            " and 'TLSv1.3'."
        )
    with warnings.catch_warnings():
        # Python wants a range, lowest to highest; any set of versions can be asked for here.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        for name, refusal in _REFUSALS.items():
            if name not in chosen:
                context.options |= refusal


def _load_own(context: ssl.SSLContext, certificate: str, key: str, password: bytes) -> None:
    """Load the certificate that we show."""
    try:
        # Without any password OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(certificate, key, password)
    except OSError as error:
        raise TlsError(
            f"Failed to load certificate {certificate} with private key {key}: {reason_of(error)}"
        ) from error


def _load_dh_params(context: ssl.SSLContext, path: str) -> None:
    if path:
        try:
            context.load_dh_params(path)
        except OSError as error:
            raise TlsError(f"{path}: failed to read DH params: {reason_of(error)}") from error
