"""`kvrepl demo` says nothing that it did not check, so its end is the check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_demo_tells_its_story_and_leaves_nothing_behind(tmp_path: Path) -> None:
    told = subprocess.run(
        [str(Path(sys.executable).with_name("kvrepl")), "demo"],
        capture_output=True,
        text=True,
        timeout=100,
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=False,
    )

    assert told.returncode == 0, told.stdout + told.stderr
    assert "READONLY You can't write against a read only replica." in told.stdout
    assert told.stdout.endswith("All servers are stopped, and their folder is gone.\n")
    assert not list(tmp_path.iterdir())
