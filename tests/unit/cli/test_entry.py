"""The command in an install of the producer SDK alone."""

import subprocess
import sys

WITHOUT_TYPER = (
    "import sys; sys.modules['typer'] = None; import audit_platform.cli.entry as e; e.main()"
)


def test_command_without_the_server_says_what_to_install() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_TYPER], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert "pip install 'audit-platform[server]'" in ended.stderr
    assert "Traceback" not in ended.stderr
