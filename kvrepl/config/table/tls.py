"""TLS: its port, its certificates, and whom it lets in. What they do: `kvrepl/server/tls.py`.

Source: Redis config.c, redis.conf (TLS/SSL); defaults asked of redis-server 7.0.15.
"""

from __future__ import annotations

from typing import Final

from kvrepl.config.kinds import INT_MAX
from kvrepl.config.setting import Flags, Setting, choice, number, secret, text, yes_no

_FILE = Flags.VOLATILE
_NONE = Flags.NO_EFFECT
_SECRET = Flags.SENSITIVE

TLS: Final[tuple[Setting, ...]] = (
    number("tls-port", 0, 65535, 0, "TCP port for TLS; 0 listens on none."),
    number("tls-session-cache-size", 0, INT_MAX, 20480, "Left to OpenSSL.", flags=_NONE),
    number("tls-session-cache-timeout", 0, INT_MAX, 300, "Left to OpenSSL.", flags=_NONE),
    yes_no("tls-cluster", False, "Cluster mode.", flags=_NONE),
    yes_no("tls-replication", False, "Follow masters over TLS, and announce tls-port to them."),
    choice("tls-auth-clients", "no yes optional", "yes", "Ask clients for a certificate."),
    yes_no("tls-prefer-server-ciphers", False, "Choose the cipher by our order, not theirs."),
    yes_no("tls-session-caching", True, "Left to OpenSSL.", flags=_NONE),
    text("tls-cert-file", "Certificate, and those between it and its CA, PEM.", flags=_FILE),
    text("tls-key-file", "Private key of the certificate, PEM.", flags=_FILE),
    secret("tls-key-file-pass", "Password of that file.", _SECRET),
    text("tls-client-cert-file", "Certificate shown to masters, if not the same.", flags=_FILE),
    text("tls-client-key-file", "Private key of that certificate.", flags=_FILE),
    secret("tls-client-key-file-pass", "Password of that file.", _SECRET),
    text("tls-dh-params-file", "Parameters of DHE ciphers, PEM.", flags=_FILE),
    text("tls-ca-cert-file", "Certificates of the CAs that we trust, PEM.", flags=_FILE),
    text("tls-ca-cert-dir", "Folder of such files, named by `openssl rehash`.", flags=_FILE),
    text("tls-protocols", "Of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3; unset is the last two."),
    text("tls-ciphers", "Ciphers up to TLSv1.2, as in `openssl ciphers`."),
    text("tls-ciphersuites", "Ciphers of TLSv1.3: Python cannot choose them.", flags=_NONE),
)
