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

form, early, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
given, peaks = 0, []

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def pages(query):
    global given
    if given >= early and not peaks:
        peaks.append(peak_mib())
    count = min(query.limit, total - given)
    rows = [row(given + n, description="d" * 300) for n in range(count)]
    given += count
    last = rows[-1]
    after = Position(timestamp=last["timestamp"], tenant_id="acme", event_id=str(last["id"]))
    return Page(rows=rows, next_position=after if given < total else None)

order = ExportOrder(name="a", format=ExportFormat(form), query=EventQuery())
store = LocalStore(Path(sys.argv[4]))
done = run_export(order, pages=pages, store=store, now=NOW, report=lambda _: None)
assert done.rows == total
print(*peaks, peak_mib())
"""


@pytest.mark.parametrize(
    ("form", "early", "total"),
    [
        (ExportFormat.CSV, 20_000, 80_000),
        (ExportFormat.NDJSON, 20_000, 80_000),
        # A row group is in full use from 50,000 events on.
        (ExportFormat.PARQUET, 60_000, 120_000),
    ],
)
def test_memory_does_not_grow_with_the_export(
    tmp_path: Path, form: ExportFormat, early: int, total: int
) -> None:
    """The peak of the first events of an export is that of the whole; kept, the rest is 60 MiB."""
    measured = subprocess.run(
        [sys.executable, "-c", _MEASURE, form, str(early), str(total), tmp_path],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    before_mib, after_mib = map(int, measured.stdout.split())

    assert after_mib - before_mib < 30, (before_mib, after_mib)
