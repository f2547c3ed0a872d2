"""Memory of an export stays the same, however many events it holds."""

import subprocess
import sys
from pathlib import Path

import pytest

from audit_platform.exports.order import ExportFormat

_MEASURE = """
import resource, sys
from datetime import timedelta
from pathlib import Path
from audit_platform.archive.local_store import LocalStore
from audit_platform.exports.order import ExportFormat, ExportOrder
from audit_platform.exports.search_export import run_export
from audit_platform.search.hot import Page
from audit_platform.search.query import EventQuery, Position
from tests.unit.exports.rows import NOW, row

form, total, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
given = 0

def pages(query):
    global given
    count = min(query.limit, total - given)
    rows = [row(given + n, description="d" * 300) for n in range(count)]
    given += count
    last = rows[-1]
    after = Position(timestamp=last["timestamp"], tenant_id="acme", event_id=str(last["id"]))
    return Page(rows=rows, next_position=after if given < total else None)

order = ExportOrder(name="a", format=ExportFormat(form), query=EventQuery())
done = run_export(order, pages=pages, store=LocalStore(directory), now=NOW, report=lambda _: None)
assert done.rows == total
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("form", list(ExportFormat))
def test_memory_does_not_grow_with_the_export(tmp_path: Path, form: ExportFormat) -> None:
    """Once it is in full use, which for Parquet means a full row group: 50,000 events."""
    peaks_mib = [
        int(
            subprocess.run(
                [sys.executable, "-c", _MEASURE, form, str(total), tmp_path / str(total)],
                capture_output=True,
                check=True,
                cwd=Path(__file__).parents[3],
            ).stdout
        )
        for total in (60_000, 180_000)
    ]

    assert peaks_mib[1] - peaks_mib[0] < 30, peaks_mib
