"""Every partition as operators see it: state, rows, bytes, root, files, holds, what comes next.

Here: putting together what `audit.partition`, the catalog and the holds say. Not here: the record
itself (`retention/partition_table.py`), tables for people (`cli/partitions.py`), metadata of assets
(`assets/partition_lifecycle.py`).
Guarantee: it only looks, and reads no event; a thousand partitions take three statements.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.retention.holds import Hold, list_holds
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_states import (
    HOT_STATES,
    LifecycleRules,
    Step,
    due_at,
    following_step,
)
from audit_platform.retention.partition_table import PartitionRow, list_partitions


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionOverview:
    """One partition, with what surrounds it.

    Attributes:
        row: Its record.
        table_bytes: Table with its indexes; None once it is dropped.
        estimated_rows: What the planner believes; None if nobody analyzed the table yet.
        reopened_at: When it was last opened again after a seal; None if it never was.
        holds: Active holds that cover its range.
        next_step: What comes next, whenever that is; None after the last step.
        due_at: From when on; None after the last step.
    """

    row: PartitionRow
    table_bytes: int | None
    estimated_rows: int | None
    reopened_at: datetime | None
    holds: tuple[Hold, ...]
    next_step: Step | None
    due_at: datetime | None

    @property
    def rows(self) -> int | None:
        """Rows counted at the seal; before it, the estimate."""
        return self.estimated_rows if self.row.n is None else self.row.n

    @property
    def is_estimate(self) -> bool:
        """Whether nobody counted the rows yet."""
        return self.row.n is None

    @property
    def archive_bytes(self) -> int:
        """Bytes of its files that are not deleted."""
        return sum(entry.bytes for entry in self.row.files if entry.expired_at is None)

    @property
    def expired_files(self) -> int:
        """Files that were deleted after their time."""
        return sum(entry.expired_at is not None for entry in self.row.files)

    @property
    def waits_since(self) -> datetime | None:
        """Since when its next step could have been taken; None after the last step.

        Not since it was due alone: an import or a merge may have made it due long ago.
        """
        row = self.row
        if self.due_at is None:
            return None
        began = (row.opened_at, row.sealed_at, row.exported_at, row.verified_at, row.detached_at)
        return max(m for m in (self.due_at, self.reopened_at, *began) if m is not None)

    @property
    def held_step(self) -> Step | None:
        """The next step, if a hold forbids it; None otherwise."""
        if self.next_step is Step.DROP and self.holds:
            return Step.DROP
        is_hot = self.next_step is Step.DETACH and self.row.state in HOT_STATES
        if is_hot and any(hold.scope.keep_hot for hold in self.holds):
            return Step.DETACH
        return None

    def is_due(self, now: datetime) -> bool:
        """Whether its next step is due."""
        return self.due_at is not None and self.due_at <= now


def read_overview(conn: Connection, *, rules: LifecycleRules) -> list[PartitionOverview]:
    """Look at all partitions, in order of time.

    Args:
        conn: As `audit_maint` or the owner.
        rules: When steps are due.
    """
    rows, holds = list_partitions(conn), list_holds(conn)
    with as_owner(conn):
        found = conn.execute(load_queries("lifecycle")["measure_partition_tables"]).fetchall()
    tables = {name: (*rest,) for name, *rest in found}
    return [_overview(row, tables.get(row.name, (None, None, None)), holds, rules) for row in rows]


def _overview(
    row: PartitionRow,
    table: tuple[Any, ...],
    holds: Sequence[Hold],
    rules: LifecycleRules,
) -> PartitionOverview:
    table_bytes, estimated_rows, reopened_at = table
    return PartitionOverview(
        row=row,
        table_bytes=table_bytes,
        estimated_rows=estimated_rows,
        reopened_at=reopened_at,
        holds=tuple(h for h in holds if h.scope.lo < row.hi and row.lo < h.scope.hi),
        next_step=following_step(row),
        due_at=due_at(row, rules),
    )
