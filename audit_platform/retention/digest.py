"""Reads a table of events in canonical order: its digest, and what a seal says of it.

Here: one pass over the rows in order of (id, leaf), streamed; the flat digest, the group roots, the
proofs. Not here: recomputing leaves from columns (`archive/verify.py`, `archive/compare.py`), when
a partition is sealed (`retention/seal.py`), the form of a group record (`archive/manifest.py`).
Guarantee: memory does not grow with the rows, only with the number of tenants and classes; rows
that contradict each other are counted, all of them, and some are named.

`ONLY` the table is read: through `audit.event` the rows of other partitions would count too, and a
detached table has no parent. The server sorts, in its temporary files if need be.

The digest is SHA-256 over all leaves one after the other, of any number of rows. In SQL it is
`sha256(string_agg(leaf_hash, ''::bytea order by id, leaf_hash))`, which ends at 33 million rows
(1 GB); this module does not.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from psycopg import sql

from audit_platform.archive.manifest import Group, partition_root
from audit_platform.db.pool import Connection, translated
from audit_platform.errors import RowCountMismatch, SealRefused
from audit_platform.integrity.merkle import RootBuilder
from audit_platform.retention.lifecycle import as_owner
from audit_platform.retention.partition_table import DEFAULT_CLASS, SealedContents

ClassOf = Callable[[str, str], str]
"""Retention class of events of a source and action."""
NAMED_IDS: Final = 10
"""So many ids of contradicting rows stand in the message; all of them are counted."""
_LEAVES_AT_ONCE: Final = 8_192
# Binary COPY counts microseconds from 2000 on, ids milliseconds from 1970 on.
_EPOCH_SHIFT_US: Final = 946_684_800_000_000
_US_PER_MS: Final = 1_000
_ID_TIME_BYTES: Final = 6
_Fields = tuple[bytes, ...]

# One large sort: with the usual 4 MB it would merge dozens of runs.
_WORK_MEM: Final = sql.SQL("set local work_mem = '64MB'")
# Fetched and not by COPY: psycopg goes through its generators for every row of a COPY, 1.6 of the
# 2.6 us that a row took. Ids as their bytes: a UUID object per row would cost half of that again.
_LEAVES: Final = sql.SQL(
    "declare leaves no scroll cursor for"
    " select uuid_send(id), leaf_hash from only {table} order by id, leaf_hash"
)
_FETCH: Final = sql.SQL("fetch {} from leaves").format(sql.Literal(_LEAVES_AT_ONCE))
_CLOSE: Final = sql.SQL("close leaves")
_ROWS: Final = sql.SQL(
    'copy (select id, leaf_hash, "timestamp", tenant_id, source, action from only {table}'
    " order by id, leaf_hash) to stdout with (format binary)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDigest:
    """Rows of a table and what their leaves come to.

    Attributes:
        min_id: Smallest id; None for an empty table.
        max_id: Largest id; None likewise.
        leaf_digest: SHA-256 over all leaves in order of id, then leaf.
    """

    n: int
    min_id: UUID | None
    max_id: UUID | None
    leaf_digest: bytes


@dataclass(slots=True)
class _Digest:
    """The flat digest, fed leaf by leaf; hashing thousands at once costs a fifth."""

    n: int = 0
    first_id: bytes = b""
    last_id: bytes = b""
    _sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    _pending: list[bytes] = field(default_factory=list[bytes])

    def add(self, event_id: bytes, leaf: bytes) -> None:
        if not self.n:
            self.first_id = event_id
        self.last_id = event_id
        self.n += 1
        self._pending.append(leaf)
        if len(self._pending) >= _LEAVES_AT_ONCE:
            self._hash()

    def add_all(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Take ids and leaves of at least one row."""
        if not self.n:
            self.first_id = rows[0][0]
        self.last_id = rows[-1][0]
        self.n += len(rows)
        self._sha256.update(b"".join([leaf for _, leaf in rows]))

    def result(self) -> TableDigest:
        self._hash()
        return TableDigest(
            n=self.n,
            min_id=UUID(bytes=self.first_id) if self.n else None,
            max_id=UUID(bytes=self.last_id) if self.n else None,
            leaf_digest=self._sha256.digest(),
        )

    def _hash(self) -> None:
        self._sha256.update(b"".join(self._pending))
        self._pending.clear()


@dataclass(slots=True)
class _Contradictions:
    """Rows that cannot both, or cannot at all, be right."""

    bad_ids: int = 0
    duplicate_ids: int = 0
    named: list[str] = field(default_factory=list[str])
    _last_id: bytes = b""
    _tenants: set[bytes] = field(default_factory=set[bytes])

    def look(self, event_id: bytes, timestamp: bytes, tenant: bytes) -> None:
        """Take the next row; equal ids follow one another."""
        since_1970_us = int.from_bytes(timestamp, signed=True) + _EPOCH_SHIFT_US
        if int.from_bytes(event_id[:_ID_TIME_BYTES]) != since_1970_us // _US_PER_MS:
            self.bad_ids += 1
            self._name(event_id)
        if event_id != self._last_id:
            self._last_id = event_id
            self._tenants = {tenant}
        elif tenant in self._tenants:
            self.duplicate_ids += 1
            self._name(event_id)
        else:
            self._tenants.add(tenant)  # ids are unique within a tenant

    def _name(self, event_id: bytes) -> None:
        name = str(UUID(bytes=event_id))
        if len(self.named) < NAMED_IDS and name not in self.named:
            self.named.append(name)


def digest_of(conn: Connection, table: str) -> TableDigest:
    """Count and hash the rows of a table.

    Args:
        conn: As `audit_maint` or the owner; inside a transaction, the digest is of its snapshot.
        table: In schema audit, a partition or not.

    Raises:
        DatabaseError: There is no such table, or the connection broke.
    """
    digest = _Digest()
    with as_owner(conn), translated():
        conn.execute(_WORK_MEM)
        conn.execute(_LEAVES.format(table=sql.Identifier("audit", table)))
        while rows := conn.execute(_FETCH, binary=True).fetchall():
            digest.add_all(rows)
        conn.execute(_CLOSE)
    return digest.result()


def contents_of(conn: Connection, table: str, class_of: ClassOf) -> SealedContents:
    """Count, hash and prove the rows of a partition that takes no more of them.

    Args:
        conn: As `audit_maint` or the owner.
        table: In schema audit, sealed.
        class_of: Asked once per source and action, more or less.

    Raises:
        SealRefused: An id does not say the millisecond of its timestamp, or a tenant has an id
            twice; names how many rows and which ids.
        RowCountMismatch: The server sent another number of rows than it says.
        DatabaseError: There is no such table, or the connection broke.
    """
    digest, wrong, groups = _Digest(), _Contradictions(), _Groups(class_of)
    with _streamed(conn, _ROWS, table) as rows:
        for event_id, leaf, timestamp, tenant, source, action in rows:
            digest.add(event_id, leaf)
            wrong.look(event_id, timestamp, tenant)
            groups.add(leaf, tenant, source, action)
    if wrong.bad_ids or wrong.duplicate_ids:
        raise _refusal(table, wrong)
    found, ordered = digest.result(), groups.ordered()
    return SealedContents(
        n=found.n,
        min_id=found.min_id,
        max_id=found.max_id,
        leaf_digest=found.leaf_digest,
        root=partition_root(ordered),
        groups=ordered,
        classes=groups.classes,
    )


class _Groups:
    """A Merkle tree per tenant and retention class, all growing at once."""

    def __init__(self, class_of: ClassOf) -> None:
        self._class_of = class_of
        self._decided: dict[tuple[bytes, bytes], str] = {}
        self._trees: dict[tuple[bytes, str], RootBuilder] = {}
        self.classes: dict[tuple[str, str], str] = {}
        """Of each (source, action) that is not in the default class."""

    def add(self, leaf: bytes, tenant: bytes, source: bytes, action: bytes) -> None:
        """Take a leaf; those of one group come in order."""
        named = self._decided.get((source, action))
        if named is None:
            named = self._decide(source, action)
        tree = self._trees.get((tenant, named))
        if tree is None:
            tree = self._trees[(tenant, named)] = RootBuilder()
        tree.add(leaf)

    def ordered(self) -> tuple[Group, ...]:
        """All groups, in the order of (tenant, class), by bytes."""
        keys = sorted(self._trees, key=lambda key: (key[0], key[1].encode()))
        return tuple(
            Group(
                tenant_id=key[0].decode(),
                retention_class=key[1],
                n=self._trees[key].n,
                root=self._trees[key].root(),
            )
            for key in keys
        )

    def _decide(self, source: bytes, action: bytes) -> str:
        named = self._class_of(source.decode(), action.decode())
        if named != DEFAULT_CLASS:
            self.classes[(source.decode(), action.decode())] = named
        if len(self._decided) >= _LEAVES_AT_ONCE:  # an application that invents actions
            self._decided.clear()
        self._decided[(source, action)] = named
        return named


@contextmanager
def _streamed(conn: Connection, statement: sql.SQL, table: str) -> Iterator[Iterator[_Fields]]:
    """Give the rows of one COPY, fields as bytes; none is missing when the block ends."""
    with as_owner(conn), conn.cursor() as cursor:
        conn.execute(_WORK_MEM)
        source = sql.Identifier("audit", table)
        read = _Counter()
        with translated(), cursor.copy(statement.format(table=source)) as copy:
            yield read.counted(copy.rows())
        if read.n != cursor.rowcount:
            raise RowCountMismatch(sent=cursor.rowcount, read=read.n)


class _Counter:
    """Counts what passes."""

    def __init__(self) -> None:
        self.n = 0

    def counted(self, rows: Iterator[_Fields]) -> Iterator[_Fields]:
        """Pass rows on; `n` is their number once they have all passed."""
        n = 0
        for row in rows:
            n += 1
            yield row
        self.n = n


def _refusal(table: str, wrong: _Contradictions) -> SealRefused:
    found: list[str] = []
    if wrong.bad_ids:
        found.append(f"{wrong.bad_ids} rows whose id is not of the millisecond of their timestamp")
    if wrong.duplicate_ids:
        found.append(f"{wrong.duplicate_ids} rows whose id their tenant has already")
    return SealRefused(
        f"{table} holds {' and '.join(found)}, first of all {', '.join(wrong.named)}: it takes no "
        "more rows and gets no root until somebody has looked at them",
        name=table,
        bad_id=wrong.bad_ids,
        dup_id=wrong.duplicate_ids,
        ids=tuple(wrong.named),
    )
