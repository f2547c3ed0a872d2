"""Steps of a partition's life, each in a process of its own that reports its time and its memory.

Here: starting such a process, and the steps it can take; what `archive_export.py` and
`archive_restore.py` time. The process has imported what a run of the life cycle has; verification
is a program of its own and imports itself only, as in production.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from audit_platform.archive.manifest import manifest_path
from audit_platform.archive.store import open_store
from audit_platform.db.pool import Connection, connected
from audit_platform.retention.advance import LifecycleContext
from audit_platform.retention.classes import RetentionClasses
from audit_platform.retention.partition_states import LifecycleRules
from audit_platform.retention.partition_table import PartitionRow, read_groups, read_partition
from benchmarks.memory import peak_kib
from benchmarks.stack import Stack

RULES: Final = LifecycleRules(
    seal_after=timedelta(hours=48), hot_for=timedelta(days=30), grace=timedelta(days=7)
)
ROWS_PER_GROUP: Final = 100_000
FILE_BYTES: Final = 128 << 20
"""As the settings have them by default."""
_CHILD: Final = "from benchmarks.archive_steps import take_and_report; take_and_report()"
_VERIFIER: Final = """
import json, sys, time
from audit_platform.archive.verify import main
from benchmarks.memory import peak_kib
began_s = time.monotonic()
if code := main(sys.argv[1:]):
    sys.exit(code)
seconds = time.monotonic() - began_s
print(json.dumps({"seconds": seconds, "peak_kib": peak_kib(), "figures": {}}))
"""
"""The program imports itself only: `peak_kib` comes after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a step came to.

    Attributes:
        seconds: Of the step alone, connecting and imports left out.
        peak_mb: Largest resident memory of the process.
        figures: Whatever the step says.
    """

    seconds: float
    peak_mb: float
    figures: Mapping[str, Any]


def maint_url(stack: Stack) -> str:
    """URL of the maintenance login."""
    url = stack.settings.maint_url
    assert url is not None  # noqa: S101 - set by running_stack
    return url.get_secret_value()


def context_of(url: str) -> LifecycleContext:
    """What a step needs, with one copy of the archive."""
    return LifecycleContext(
        rules=RULES,
        store=open_store(url),
        copy_store=None,
        classes=RetentionClasses(),
        rows_per_group=ROWS_PER_GROUP,
        file_bytes=FILE_BYTES,
    )


def take(stack: Stack, step: str, name: str, url: str, **more: Any) -> Taken:
    """Take a step of a partition in another process.

    Args:
        stack: Its services.
        step: One of `STEPS`.
        name: Of the partition.
        url: Of the archive.
        **more: Options of the step.
    """
    given = {"step": step, "name": name, "url": url, "maint_url": maint_url(stack), **more}
    return _reported(_CHILD, input=json.dumps(given))


def verify_apart(row: PartitionRow, url: str) -> Taken:
    """Verify a partition by the program that does so in production."""
    path = manifest_path(row.lo, row.hi, row.generation)
    return _reported(_VERIFIER, url, path)


def _reported(program: str, *arguments: str, input: str | None = None) -> Taken:  # noqa: A002
    said = subprocess.run(
        (sys.executable, "-c", program, *arguments),
        input=input,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    found = json.loads(said.splitlines()[-1])
    return Taken(
        seconds=found["seconds"], peak_mb=found["peak_kib"] * 1024 / 1e6, figures=found["figures"]
    )


def take_and_report() -> None:
    """Take the step that standard input names. Runs in the child."""
    given: dict[str, Any] = json.load(sys.stdin)
    import audit_platform.definitions  # noqa: PLC0415 - what a run has imported counts too

    assert audit_platform.definitions  # noqa: S101 - imported for its size
    with connected(given["maint_url"], application="benchmark") as conn:
        row = read_partition(conn, given["name"])
        assert row is not None  # noqa: S101 - the benchmark made it
        began_s = time.monotonic()
        figures = STEPS[given["step"]](conn, row, given)
        seconds = time.monotonic() - began_s
    print(json.dumps({"seconds": seconds, "peak_kib": peak_kib(), "figures": figures}))


def _seal(conn: Connection, row: PartitionRow, given: dict[str, Any]) -> dict[str, Any]:
    from audit_platform.retention.seal import seal  # noqa: PLC0415 - only where it is timed

    classes = RetentionClasses()
    report = seal(conn, row.name, rules=RULES, class_of=classes.class_of, now=_now(given))
    return {"rows": report.n}


def _export(conn: Connection, row: PartitionRow, given: dict[str, Any]) -> dict[str, Any]:
    from audit_platform.archive.export import export_partition  # noqa: PLC0415 - likewise

    context = context_of(given["url"])
    written = export_partition(
        conn,
        row,
        context.store,
        None,
        groups=read_groups(conn, row.name, row.generation),
        file_tenant=context.classes.file_tenant,
        rows_per_group=ROWS_PER_GROUP,
        file_bytes=FILE_BYTES,
        now=_now(given),
    )
    return {"rows": written.rows, "files": len(written.files), "bytes": written.bytes}


def _restore(conn: Connection, row: PartitionRow, given: dict[str, Any]) -> dict[str, Any]:
    from audit_platform.retention.restore import restore_day  # noqa: PLC0415 - likewise

    store = open_store(given["url"])
    report = restore_day(conn, row, store, attach=given["attach"], now=_now(given))
    return {
        "rows": report.rows,
        "copy_s": report.seconds,
        "proof_s": report.proof_seconds,
        "indexing_s": report.indexing_seconds,
        "is_root_equal": report.is_root_equal,
    }


def _now(given: dict[str, Any]) -> datetime:
    return datetime.now(UTC) + timedelta(days=given.get("days_ahead", 0))


_Step = Callable[[Connection, PartitionRow, dict[str, Any]], dict[str, Any]]
STEPS: Final[Mapping[str, _Step]] = {"seal": _seal, "export": _export, "restore": _restore}
