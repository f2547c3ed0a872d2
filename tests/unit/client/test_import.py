"""Importing the SDK loads its two dependencies and nothing of the server."""

import subprocess
import sys

HEAVY = ("dagster", "polars", "pyarrow", "psycopg", "psycopg_pool", "msgspec", "yaml", "sqlalchemy")


def test_import_loads_no_server_library() -> None:
    script = (
        "import sys, audit_platform.client; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )

    completed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert completed.stdout.strip() == "[]"


def test_making_a_client_and_logging_loads_no_server_library() -> None:
    script = (
        "import sys; from audit_platform.client import AuditClient; "
        "client = AuditClient.from_env(redis_url='redis://127.0.0.1:1/0', close_timeout_s=0); "
        "client.log('a', metadata={'n': 1}); client.close(); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )

    completed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert completed.stdout.strip() == "[]"
