"""Which file takes which rows of an export: by date, retention class and tenant.

Here: splitting batches. Not here: the classes and rules that decide (`retention/classes.py`), the
files (`archive/file_set.py`).
Guarantee: each row goes to exactly one file; the order of rows within a file stays that of the
batch; a batch of one file is not copied.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from audit_platform.archive.columns import TENANT

# Made when it is imported, so that no type checker knows its functions.
_COMPUTE: Final[Any] = pyarrow.compute
_SEPARATOR: Final = "\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKey:
    """Whose rows a file holds.

    Attributes:
        day: UTC date of the rows.
        tenant: None for the file that tenants share.
    """

    day: date
    retention_class: str
    tenant: str | None


def day_of(moment: datetime) -> date:
    """UTC date of an aware moment."""
    return moment.astimezone(UTC).date()


def by_day(
    rows: pa.RecordBatch, *, first: datetime, last: datetime
) -> Iterator[tuple[date, pa.RecordBatch]]:
    """Split a batch by UTC date.

    Args:
        rows: At least one, in the order of their dates.
        first: Earliest moment that a row can have; so is `last` the latest.
    """
    if day_of(first) == day_of(last):
        yield day_of(first), rows
        return
    days = _COMPUTE.cast(rows.column("timestamp"), pa.date32())
    for day in days.unique().to_pylist():
        yield day, rows.filter(_COMPUTE.equal(days, pa.scalar(day, pa.date32())))


def by_file(
    rows: pa.RecordBatch,
    day: date,
    class_of: Callable[[str, str], str],
    file_tenant: Callable[[str, str], str | None],
) -> Iterator[tuple[FileKey, pa.RecordBatch]]:
    """Split rows of one date by class, and set tenants with files of their own apart.

    Args:
        rows: At least one.
        day: Their date.
        class_of: Class of a source and action.
        file_tenant: The tenant where rows of a tenant and class have a file of their own.
    """
    for retention_class, of_class in _by_class(rows, class_of):
        tenants = of_class.column(TENANT)
        own = [t for t in tenants.unique().to_pylist() if file_tenant(t, retention_class) == t]
        for tenant in own:
            key = FileKey(day=day, retention_class=retention_class, tenant=tenant)
            yield key, of_class.filter(_COMPUTE.equal(tenants, tenant))
        shared = (
            of_class.filter(_COMPUTE.invert(_COMPUTE.is_in(tenants, pa.array(own, pa.string()))))
            if own
            else of_class
        )
        yield FileKey(day=day, retention_class=retention_class, tenant=None), shared


def _by_class(
    rows: pa.RecordBatch, class_of: Callable[[str, str], str]
) -> Iterator[tuple[str, pa.RecordBatch]]:
    # Pairs are few: each is decided once per batch. No text of a column holds a NUL.
    pairs = _COMPUTE.binary_join_element_wise(
        rows.column("source"), rows.column("action"), _SEPARATOR
    ).dictionary_encode()
    decided = [class_of(*pair.split(_SEPARATOR, 1)) for pair in pairs.dictionary.to_pylist()]
    if len(set(decided)) == 1:
        yield decided[0], rows
        return
    classes = pa.array(decided, pa.string()).take(pairs.indices)
    for retention_class in sorted(set(decided)):
        yield retention_class, rows.filter(_COMPUTE.equal(classes, retention_class))
