"""The title of the process by its template."""

from __future__ import annotations

import pytest

from kvrepl.config import Config
from kvrepl.server.process import title_of


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (["--port", "7000"], "kvrepl-server *:7000"),
        (["--port", "7000", "--bind", "-::1 127.0.0.1"], "kvrepl-server ::1:7000"),
        (["--port", "0", "--unixsocket", "/run/x.sock"], "kvrepl-server /run/x.sock"),
        (["--proc-title-template", "{{a} {port}-{tls-port} {title}"], "{a} 6379-0 kvrepl-server"),
    ],
)
def test_title_of_template_is_filled_in(arguments: list[str], title: str) -> None:
    assert title_of(Config.from_args(arguments)) == title
