"""Sizes and use of the tables and indexes: what takes room, what nobody reads, what is bloated.

Here: reading the catalog and the statistics of the server. Not here: the estimate of bloat
(`retention/bloat.py`), what is remarkable (`retention/size_findings.py`), tables for people
(`cli/storage.py`), observations (`assets/storage_sizes.py`).
Guarantee: it only looks, needs no extension of PostgreSQL, and reads no row of an event.
Source: the monitoring queries of the performance guide (features, section 11).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

from audit_platform.db.pool import Connection, translated
from audit_platform.db.queries import load_queries
from audit_platform.retention.bloat import btree_bloat, heap_bloat

_COUNTS: Final = (
    *("live_rows", "dead_rows", "inserted", "updated", "deleted", "table_scans", "index_scans"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """One table of schema `audit`: a partition, attached or not, or another one.

    Attributes:
        lo: First moment of a partition; None for other tables.
        state: State of the partition in its life cycle.
        heap_bytes: Rows without what is stored aside.
        toast_bytes: Long values stored aside, with their index.
        live_rows: As PostgreSQL counts along; not exact.
        inserted: Since the statistics began, as `updated` and `deleted`.
        frozen_age: Transactions since the oldest row that is not frozen.
        bloat_bytes: Estimate of what a rewrite would give back; None: never analyzed.
    """

    name: str
    lo: datetime | None
    hi: datetime | None
    state: str | None
    is_attached: bool
    heap_bytes: int
    toast_bytes: int
    index_bytes: int
    total_bytes: int
    live_rows: int
    dead_rows: int
    inserted: int
    updated: int
    deleted: int
    table_scans: int
    index_scans: int
    vacuumed_at: datetime | None
    analyzed_at: datetime | None
    frozen_age: int
    bloat_bytes: int | None

    @property
    def dead_share(self) -> float:
        """Share of dead rows, 0 to 1."""
        rows = self.live_rows + self.dead_rows
        return self.dead_rows / rows if rows else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSize:
    """One index of a table of schema `audit`.

    Attributes:
        family: Indexes that do the same for each partition: name of the parent's index, also when
            the partition is detached; for other tables the name itself.
        scans: Uses since the statistics began.
        used_at: Last use.
        bloat_bytes: Estimate; None: not a btree of plain columns, or never analyzed.
    """

    name: str
    table: str
    family: str
    method: str
    bytes_: int
    is_unique: bool
    is_valid: bool
    scans: int
    entries_read: int
    rows_fetched: int
    used_at: datetime | None
    bloat_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFamily:
    """What the indexes of one family come to, over all partitions."""

    name: str
    method: str
    indexes: int
    bytes_: int
    scans: int
    rows_fetched: int
    used_at: datetime | None
    is_unique: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSize:
    """The database as a whole, and the write-ahead log of its server.

    Attributes:
        counted_since: When the statistics of use began; None: with the database.
        wal_bytes: Written since `wal_since`.
        wal_directory_bytes: On disk; None when the role may not look (`pg_monitor`).
        slot_bytes: Kept for the replication slot that is farthest behind; None without slots.
    """

    name: str
    server_version: str
    bytes_: int
    counted_since: datetime | None
    wal_bytes: int
    wal_since: datetime | None
    wal_files: int | None
    wal_directory_bytes: int | None
    max_wal_bytes: int
    slot_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageReport:
    """What was found at one moment; tables and indexes largest first."""

    at: datetime
    database: DatabaseSize
    tables: Sequence[TableSize]
    indexes: Sequence[IndexSize]

    @property
    def partitions(self) -> list[TableSize]:
        """The partitions, in order of time; detached and restored ones too."""
        dated = [(one.lo, one.name, one) for one in self.tables if one.lo is not None]
        return [one for _, _, one in sorted(dated, key=lambda item: item[:2])]

    @property
    def others(self) -> list[TableSize]:
        """All other tables, largest first."""
        return [one for one in self.tables if one.lo is None]

    def families(self) -> list[IndexFamily]:
        """Sum the indexes up by family, largest first."""
        groups: dict[str, list[IndexSize]] = {}
        for index in self.indexes:
            groups.setdefault(index.family, []).append(index)
        found = [_family(name, group) for name, group in groups.items()]
        return sorted(found, key=lambda family: (-family.bytes_, family.name))


def read_storage(conn: Connection, *, now: datetime, patience_s: float = 10.0) -> StorageReport:
    """Read sizes and use.

    Args:
        conn: As owner, outside a transaction; its lock time-out is set.
        now: Aware; noted in the report.
        patience_s: Longest wait for a table that somebody holds for himself; a size needs the
            lightest of locks, for some milliseconds.

    Raises:
        LockNotAvailable: A table is being dropped or rewritten; ask again.
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    queries = load_queries("sizes")
    with translated():
        conn.execute(queries["set_patience"], {"patience_ms": str(max(int(patience_s * 1000), 1))})
        (database,) = _read(conn, "read_database_size")
        wal = _read(conn, "read_wal_directory")[0] if database["may_list_wal"] else None
        block = int(database["block_bytes"])
        tables = [_table(row, block) for row in _read(conn, "list_table_sizes")]
        indexes = [_index(row, block) for row in _read(conn, "list_index_sizes")]
    return StorageReport(
        at=now,
        database=_database(database, wal),
        tables=[one for one in tables if one is not None],
        indexes=[one for one in indexes if one is not None],
    )


def _read(conn: Connection, name: LiteralString) -> list[dict[str, Any]]:
    cursor = conn.execute(load_queries("sizes")[name])
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _table(row: Mapping[str, Any], block_bytes: int) -> TableSize | None:
    """One table; None if it was dropped while it was looked at."""
    if row["total_bytes"] is None or row["heap_bytes"] is None:
        return None
    bloat: int | None = None
    # -1 rows: never counted.
    if row["counted_rows"] >= 0 and row["n_known"] == row["n_columns"]:
        share = heap_bloat(
            rows=row["counted_rows"],
            pages=row["counted_pages"],
            data_width=row["data_width"],
            columns=row["n_columns"],
            has_nulls=row["has_nulls"],
            block_bytes=block_bytes,
        )
        bloat = round(share * row["heap_bytes"])
    # Statistics of a table that was made this moment are still null.
    counts: dict[str, int] = {name: row[name] or 0 for name in _COUNTS}
    return TableSize(
        name=row["name"],
        lo=row["lo"],
        hi=row["hi"],
        state=row["state"],
        is_attached=row["is_attached"],
        heap_bytes=row["heap_bytes"],
        toast_bytes=row["toast_bytes"],
        index_bytes=row["index_bytes"] or 0,
        total_bytes=row["total_bytes"],
        live_rows=counts["live_rows"],
        dead_rows=counts["dead_rows"],
        inserted=counts["inserted"],
        updated=counts["updated"],
        deleted=counts["deleted"],
        table_scans=counts["table_scans"],
        index_scans=counts["index_scans"],
        vacuumed_at=row["vacuumed_at"],
        analyzed_at=row["analyzed_at"],
        frozen_age=row["frozen_age"],
        bloat_bytes=bloat,
    )


def _index(row: Mapping[str, Any], block_bytes: int) -> IndexSize | None:
    if row["bytes"] is None:
        return None
    bloat: int | None = None
    if row["method"] == "btree" and row["counted_rows"] >= 0 and row["key_width"] is not None:
        share = btree_bloat(
            rows=row["counted_rows"],
            pages=row["counted_pages"],
            key_width=row["key_width"],
            block_bytes=block_bytes,
        )
        bloat = round(share * row["bytes"])
    own = row["name"].removeprefix(f"{row['table_name']}_")
    alone = f"event_{own}" if row["is_of_partition"] else row["name"]
    return IndexSize(
        name=row["name"],
        table=row["table_name"],
        family=row["parent_name"] or alone,
        method=row["method"],
        bytes_=row["bytes"],
        is_unique=row["is_unique"],
        is_valid=row["is_valid"],
        scans=row["scans"] or 0,
        entries_read=row["entries_read"] or 0,
        rows_fetched=row["rows_fetched"] or 0,
        used_at=row["used_at"],
        bloat_bytes=bloat,
    )


def _family(name: str, group: Sequence[IndexSize]) -> IndexFamily:
    used = [one.used_at for one in group if one.used_at is not None]
    return IndexFamily(
        name=name,
        method=group[0].method,
        indexes=len(group),
        bytes_=sum(one.bytes_ for one in group),
        scans=sum(one.scans for one in group),
        rows_fetched=sum(one.rows_fetched for one in group),
        used_at=max(used) if used else None,
        is_unique=all(one.is_unique for one in group),
    )


def _database(row: Mapping[str, Any], wal: Mapping[str, Any] | None) -> DatabaseSize:
    return DatabaseSize(
        name=row["name"],
        server_version=row["server_version"].split()[0],
        bytes_=row["bytes"],
        counted_since=row["counted_since"],
        wal_bytes=row["wal_bytes"],
        wal_since=row["wal_since"],
        wal_files=None if wal is None else wal["files"],
        wal_directory_bytes=None if wal is None else wal["bytes"],
        max_wal_bytes=row["max_wal_bytes"],
        slot_bytes=row["slot_bytes"],
    )
