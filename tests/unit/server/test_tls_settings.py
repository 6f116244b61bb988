"""What is refused of the tls-* settings before any certificate is looked at."""

from __future__ import annotations

import ssl

import pytest

from kvrepl.config import Config
from kvrepl.server.tls import Tls, TlsError, reason_of

FILES = ["--tls-port", "7000", "--tls-cert-file", "none.crt", "--tls-key-file", "none.key"]
OPEN = [*FILES, "--tls-auth-clients", "no"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--tls-port", "7000"], "No tls-cert-file configured!"),
        (["--tls-replication", "yes"], "No tls-cert-file configured!"),
        (FILES[:4], "No tls-key-file configured!"),
        (FILES, "Either tls-ca-cert-file or tls-ca-cert-dir must be specified"),
        ([*OPEN, "--tls-replication", "yes"], "Either tls-ca-cert-file or tls-ca-cert-dir"),
        ([*OPEN, "--tls-protocols", "SSLv3"], "Invalid tls-protocols specified."),
        ([*OPEN, "--tls-ciphers", "none such"], "Failed to configure ciphers: none such"),
        ([*OPEN, "--tls-ca-cert-file", "none.crt"], "Failed to configure CA certificate"),
        ([*OPEN, "--tls-dh-params-file", "none"], "none: failed to read DH params: No such file"),
        (OPEN, "Failed to load certificate none.crt with private key none.key: No such file"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments: list[str], reason: str) -> None:
    with pytest.raises(TlsError) as refused:
        Tls().configure(Config.from_args(arguments))
    assert str(refused.value).startswith(reason)


def test_settings_without_a_use_for_tls_are_not_looked_at() -> None:
    Tls().configure(Config.from_args(["--tls-cert-file", "none.crt"]))


def test_reason_of_a_failure_has_no_marks_of_pythons_source() -> None:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    assert reason_of(error) == "wrong version number"
    assert reason_of(FileNotFoundError(2, "No such file or directory")) == (
        "No such file or directory"
    )
    assert reason_of(ConnectionResetError()) == "the peer closed the connection"
