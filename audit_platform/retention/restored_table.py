"""A table filled from archive files, proved before anybody may use it.

Here: making such a table, the COPY from files, the proof that its rows are those that were sealed.
Not here: which partition and what becomes of the table (`retention/restore.py`,
`retention/drill.py`), dropping it (`retention/removed_table.py`), reading files
(`archive/read.py`), the comparisons (`archive/compare.py`, `retention/digest.py`).
Guarantees: rows are there all or none, and only if the leaves of their columns are those that
were sealed, since COPY and proof are one transaction; a killed restore leaves at most an empty
table with a remark, which the next one replaces; a table that something else made stays untouched.

The table is made in a transaction of its own: `like audit.event` holds a lock on the parent until
its transaction ends, and a detach of another partition would wait for a whole COPY. TRUNCATE then
makes the rows frozen from the start (COPY … FREEZE), which a table made earlier is not allowed.
"""

import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from psycopg import sql

from audit_platform.archive.compare import TABLE_COLUMNS, review_table, sum_of_marks
from audit_platform.archive.manifest import FileEntry
from audit_platform.archive.read import frame_of, read_rows
from audit_platform.archive.store import ArchiveStore
from audit_platform.crash_points import crash
from audit_platform.db.pool import Connection, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import (
    ArchiveMismatch,
    PermissionRefused,
    RowCountMismatch,
    StepRefused,
)
from audit_platform.events.copy_text import copy_text
from audit_platform.integrity.leaf import leaf_hashes
from audit_platform.retention.digest import digest_of
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition import PRIMARY_KEY
from audit_platform.retention.removed_table import NOT_PROVED, REMARK

_THREADS: Final = 2

_CREATE: Final = sql.SQL(
    "create table {table} (like audit.event"
    " including defaults including constraints including storage including generated)"
)
_COMMENT: Final = sql.SQL("comment on table {table} is {text}")
_DROP: Final = sql.SQL("drop table if exists {table}")
_EMPTY: Final = sql.SQL("truncate {table}")
_COPY: Final = sql.SQL("copy {table} ({columns}) from stdin with (freeze)")
_ANALYZE: Final = sql.SQL("analyze {table}")
_ADD_KEY: Final = sql.SQL("alter table {table} add primary key ({key})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a COPY brought in.

    Attributes:
        rows: As the files hold and the server took.
        mark_sum: As `archive/compare.py::sum_of_marks` of all rows.
        seconds: From the first byte to the last row.
    """

    rows: int
    mark_sum: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What was brought back.

    Attributes:
        table: In schema audit.
        rows: In it.
        seconds: Of the COPY, files read and leaves computed meanwhile; 0 where the table was there.
        proof_seconds: Of everything else until it can be used: the proof, keys, attaching.
        indexing_seconds: Of the cold indexes of an attached partition, which searches do not need.
        is_attached: Whether searches read it.
        expired_files: Files left out because their rows were deleted on purpose.
        is_root_equal: Whether the rows are exactly those under the sealed root; False where files
            expired: then those of each group that is left are.
    """

    partition: str
    generation: int
    table: str
    rows: int
    seconds: float
    proof_seconds: float
    is_attached: bool
    expired_files: int
    is_root_equal: bool
    indexing_seconds: float = 0.0


def make_table(conn: Connection, table: str) -> None:
    """Make an empty table with the columns of `audit.event`, or replace what a kill left of one.

    Args:
        conn: As `audit_maint` or the owner, outside a transaction.
        table: In schema audit.

    Raises:
        StepRefused: A table of this name exists that no restore made, or that is a partition.
        PermissionRefused: A default privilege grants somebody the new table.
    """
    queries = load_queries("restore")
    name = sql.Identifier("audit", table)
    with as_owner(conn):
        found = conn.execute(queries["inspect_restored_table"], {"name": table}).fetchone()
        is_there, is_attached, remark = found or (False, False, None)
        if is_there and (is_attached or not str(remark).startswith(REMARK)):
            raise StepRefused(
                f"audit.{table} exists and was not made by a restore: rename it, then repeat",
                name=table,
                reason="exists",
            )
        conn.execute(_DROP.format(table=name))
        conn.execute(_CREATE.format(table=name))
        conn.execute(_COMMENT.format(table=name, text=sql.Literal(NOT_PROVED)))
        refuse_grants(conn, table)
    crash("R_TABLE_MADE")


def refuse_grants(conn: Connection, table: str) -> None:
    """Refuse a table of events that somebody besides the owner may touch, past the tenant filter.

    Args:
        conn: As the owner, inside the transaction that makes the table or attaches it.
        table: In schema audit.

    Raises:
        PermissionRefused: Names the roles.
    """
    with translated():
        found = conn.execute(load_queries("restore")["find_table_grants"], {"name": table})
        roles = ", ".join(str(one[0]) for one in found.fetchall())
    if roles:
        raise PermissionRefused(
            f"audit.{table} would be open to {roles}: remove the ALTER DEFAULT PRIVILEGES that "
            "grants new tables of audit_owner to somebody",
            name=table,
        )


def is_proved(conn: Connection, table: str, *, partition: str, generation: int) -> bool:
    """Whether a table is there that a restore made of this generation and proved."""
    with as_owner(conn):
        found = conn.execute(
            load_queries("restore")["inspect_restored_table"], {"name": table}
        ).fetchone()
    is_there, _, remark = found or (False, False, None)
    return is_there and remark == _proved(partition, generation)


def fill_table(
    conn: Connection, table: str, store: ArchiveStore, entries: Sequence[FileEntry]
) -> Filled:
    """COPY the rows of archive files into an empty table.

    Args:
        conn: As the owner, inside the transaction that also proves the rows.
        table: As `make_table` made it.
        store: Where the files lie.
        entries: Files, none of them expired.

    Raises:
        ArchiveMissing: A file is not there.
        ArchiveDamaged: A file is not what was written.
        RowCountMismatch: The server took another number of rows.
    """
    began_s = time.monotonic()
    name = sql.Identifier("audit", table)
    columns = sql.SQL(", ").join(map(sql.Identifier, TABLE_COLUMNS))
    sent = marks = 0
    with translated():
        conn.execute(_EMPTY.format(table=name))
    with (
        closing(_texts(store, entries)) as texts,
        conn.cursor() as cursor,
        translated(),
    ):
        with cursor.copy(_COPY.format(table=name, columns=columns)) as copy:
            for text in texts:
                copy.write(text.data)
                sent += text.rows
                marks += text.mark_sum
        stored = cursor.rowcount
    if stored != sent:
        raise RowCountMismatch(sent=sent, stored=stored)
    crash("R_COPIED")
    return Filled(rows=stored, mark_sum=marks, seconds=time.monotonic() - began_s)


def add_primary_key(conn: Connection, table: str) -> None:
    """Build the primary key in bulk, after the rows; inside the transaction of the COPY.

    Raises:
        Redelivered: A key occurs twice.
    """
    with translated():
        conn.execute(
            _ADD_KEY.format(table=sql.Identifier("audit", table), key=sql.SQL(PRIMARY_KEY))
        )


def prove_table(
    conn: Connection, table: str, *, rows: int, leaf_digest: bytes | None, mark_sum: int | None
) -> None:
    """Compare what the table holds with what was sealed and what was sent.

    Args:
        conn: As the owner; inside the transaction of the COPY its rows are visible.
        table: In schema audit.
        rows: That must be there.
        leaf_digest: Of the seal; None where some files expired, so that it cannot be equal.
        mark_sum: Of the rows that were sent; None where nothing was.

    Raises:
        ArchiveMismatch: Says what differs; nothing of the transaction stays.
    """
    found, review = digest_of(conn, table), review_table(conn, table)
    wrong: list[str] = []
    if found.n != rows:
        wrong.append(f"it holds {found.n:,} rows, not {rows:,}")
    if leaf_digest is not None and found.leaf_digest != leaf_digest:
        wrong.append("its leaves have another digest than the seal")
    if review.bad_leaves:
        wrong.append(f"the columns of {review.bad_leaves:,} rows do not give their leaves")
    if mark_sum is not None and review.mark_sum != mark_sum:
        wrong.append("what is stored about the arrival of rows differs from the files")
    if wrong:
        raise ArchiveMismatch(
            f"audit.{table} is not what was sealed: {'; '.join(wrong)}. It is not used; verify the "
            "archive and restore from its second copy",
            name=table,
            mismatches=max(1, review.bad_leaves, abs(found.n - rows)),
        )
    crash("R_PROVED")


def take_statistics(conn: Connection, table: str) -> None:
    """Let the planner know the table; inside the transaction of the COPY."""
    with translated():
        conn.execute(_ANALYZE.format(table=sql.Identifier("audit", table)))


def remark_proved(conn: Connection, table: str, *, partition: str, generation: int) -> None:
    """Say in the comment of the table what it holds."""
    text = sql.Literal(_proved(partition, generation))
    statement = _COMMENT.format(table=sql.Identifier("audit", table), text=text)
    with translated():
        conn.execute(statement)


def _proved(partition: str, generation: int) -> str:
    return f"{REMARK} of {partition}, generation {generation}; proved against its seal"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """One batch as COPY text."""

    data: bytes
    rows: int
    mark_sum: int


def _texts(store: ArchiveStore, entries: Sequence[FileEntry]) -> Generator[_Text]:
    """Prepare batches in threads while this one reads and the server takes those before.

    Two threads: all but the hashing of rows is done outside the interpreter's lock, and the server
    is busy for half as long with a batch as one thread is.
    """
    coming: deque[Future[_Text]] = deque()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="restore") as pool:
        for batch in read_rows(store, entries):
            coming.append(pool.submit(_text_of, batch))
            if len(coming) > _THREADS:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _text_of(batch: pa.RecordBatch) -> _Text:
    """COPY text of a batch, each row with the leaf that its columns give."""
    rows = frame_of(batch)
    rows = rows.with_columns(leaf_hashes(rows))
    return _Text(data=copy_text(rows, TABLE_COLUMNS), rows=rows.height, mark_sum=sum_of_marks(rows))
