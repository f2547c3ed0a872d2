"""Steps of a partition as they are recorded, with made-up proofs and files."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from audit_platform.archive.manifest import FileEntry, Group
from audit_platform.db.pool import Connection
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import (
    SealedContents,
    mark_detach_started,
    mark_detached,
    mark_dropped,
    mark_exported,
    mark_indexed,
    mark_root,
    mark_sealed,
    mark_verified,
)
from tests.integration.retention.sealing import DAY, DUE

DETACHED_AT = DAY.hi + timedelta(days=31)
DROPPED_AT = DETACHED_AT + timedelta(days=7)
LEAVES = b"\x01" * 32
MANIFEST = b"\x02" * 32
CONTENTS = SealedContents(
    n=3,
    min_id=UUID(int=1),
    max_id=UUID(int=3),
    leaf_digest=LEAVES,
    root=b"\x03" * 32,
    groups=(
        Group(tenant_id="acme", retention_class="billing", n=1, root=b"\x04" * 32),
        Group(tenant_id="acme", retention_class="standard", n=2, root=b"\x05" * 32),
    ),
    classes={("shop", "order.create"): "billing"},
)
FILE = FileEntry(
    path="cold/date=2025-06-03/standard.all.g1.0000.parquet",
    sha256="ab" * 32,
    bytes=1_234,
    rows=3,
    retention_class="standard",
    tenant=None,
    min_timestamp=DAY.lo,
    max_timestamp=DAY.lo + timedelta(microseconds=1),
    min_id=UUID(int=1),
    max_id=UUID(int=3),
)

Change = Callable[[Connection], bool]


def sealed(conn: Connection) -> bool:
    return mark_sealed(conn, DAY.name, ended_before=DUE, now=DUE)


def rooted(conn: Connection, generation: int = 1) -> bool:
    return mark_root(conn, DAY.name, generation=generation, contents=CONTENTS, now=DUE)


def indexed(conn: Connection, generation: int = 1) -> bool:
    return mark_indexed(conn, DAY.name, generation=generation, now=DUE)


def exported(conn: Connection, generation: int = 1) -> bool:
    return mark_exported(
        conn,
        DAY.name,
        generation=generation,
        files=[FILE],
        manifest_sha256=MANIFEST,
        now=DUE,
    )


def verified(conn: Connection, generation: int = 1, manifest: bytes = MANIFEST) -> bool:
    return mark_verified(
        conn,
        DAY.name,
        generation=generation,
        manifest_sha256=manifest,
        verified_by="test",
        now=DUE,
    )


def detach_started(conn: Connection) -> bool:
    return mark_detach_started(conn, DAY.name)


def detached(conn: Connection) -> bool:
    return mark_detached(conn, DAY.name, now=DETACHED_AT)


def dropped(
    conn: Connection, *, generation: int = 1, n: int = 3, leaf_digest: bytes = LEAVES
) -> bool:
    return mark_dropped(
        conn,
        DAY.name,
        generation=generation,
        n=n,
        leaf_digest=leaf_digest,
        detached_before=DROPPED_AT - timedelta(days=7),
        now=DROPPED_AT,
    )


STEPS: tuple[Change, ...] = (
    sealed,
    rooted,
    indexed,
    exported,
    verified,
    detach_started,
    detached,
    dropped,
)
RESULTS = (
    State.SEALED,
    State.SEALED,
    State.SEALED,
    State.EXPORTED,
    State.VERIFIED,
    State.DETACH_STARTED,
    State.DETACHED,
    State.DROPPED,
)


def advance(conn: Connection, admin: Connection, steps: int) -> None:
    """Take the first so many steps; the table is detached by hand where the catalog is asked."""
    for step in STEPS[:steps]:
        if step is detached:
            admin.execute(f"alter table audit.event detach partition audit.{DAY.name}".encode())
        assert step(conn)


def place_hold(admin: Connection, *, keep_hot: bool, is_released: bool) -> None:
    end = datetime(2026, 1, 1, tzinfo=UTC) if is_released else None
    admin.execute(
        """insert into audit.legal_hold
           (hold_id, case_id, tenant_id, lo, hi, keep_hot, reason, placed_by, released_by,
            released_at)
           values (%s, 'case 1', 'acme', %s, %s, %s, 'test', 'a', %s, %s)""",
        [
            uuid4(),
            DAY.hi - timedelta(microseconds=1),
            DAY.hi + timedelta(days=9),
            keep_hot,
            "b" if is_released else None,
            end,
        ],
    )
