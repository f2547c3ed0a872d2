"""Entry point of `audit-platform`: says what to install where only the producer SDK is.

Here: that one sentence. Not here: the commands (`cli/app.py`).
"""

import sys


def main() -> None:
    """Run the command line, or end with exit code 1 and the remedy."""
    try:
        # The base install is the SDK alone; the import shows whether the extra is there.
        from audit_platform.cli.app import main as run
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("audit_platform"):
            raise
        sys.exit(
            f"audit-platform: {exc.name} is not installed, this is the producer SDK alone: "
            "pip install 'audit-platform[server]'"
        )
    run()
