"""Days with real rows, and what their seal must come to, computed by other means."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from audit_platform.db.pool import Connection, connected
from audit_platform.events.event import timestamp_us
from audit_platform.events.identity import TAIL_BITS, mint
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import PartitionBounds, bounds_for
from audit_platform.retention.partition_states import LifecycleRules
from audit_platform.retention.partition_table import PartitionRow, read_partition
from audit_platform.retention.seal import SealReport, seal
from tests.conftest import Database
from tests.factories import event
from tests.integration.events.store import frame_of, open_writer

DAY = bounds_for(datetime(2025, 6, 3, tzinfo=UTC), "day")
RULES = LifecycleRules(
    seal_after=timedelta(hours=48), hot_for=timedelta(days=30), grace=timedelta(days=7)
)
DUE = DAY.hi + timedelta(hours=49)
TENANTS = ("acme", "globex", "Ümlaut & Söhne", "acme2", "ac")
ACTIONS = ("user.suspend", "user.login", "order.create")
RAW = """
insert into audit.event
  (id, "timestamp", received_at, batch_id, actor_type, tenant_id, source, action, leaf_hash)
values (%s, %s, now(), %s, 'user', %s, 'test', 'test.insert', sha256(%s))
"""


def standard(_source: str, _action: str) -> str:
    return "standard"


def by_action(_source: str, action: str) -> str:
    return {"user.login": "security", "order.create": "billing"}.get(action, "standard")


def store_rows(
    database: Database, rows: int, *, bounds: PartitionBounds = DAY, **override: Any
) -> list[str]:
    """Make the partition and store rows by the real consumer transaction; returns their ids."""
    with connected(database.maint_url, application="test") as conn:
        ensure_partitions(conn, [bounds])
    step = (bounds.hi - bounds.lo) / max(rows, 1)
    events = [
        event(
            timestamp=bounds.lo + step * number,
            tenant_id=TENANTS[number % len(TENANTS)],
            action=ACTIONS[number % 7 % len(ACTIONS)],
            entity_id=str(number % 97),
            metadata={"plan": ("free", "pro")[number % 2], "number": number},
            changes={"active": {"old": True, "new": False}} if number % 3 == 0 else None,
            description=f"row {number} mentions Größenwahn" if number % 5 == 0 else None,
            **override,
        )
        for number in range(rows)
    ]
    writer = open_writer(database.writer_url)
    try:
        if events:
            assert writer.save(frame_of(events)).n_new == rows
    finally:
        writer.connection.close()
    return sorted(one["id"] for one in events)


def put(
    conn: Connection, moment: datetime, *, tenant: str = "acme", event_id: str | None = None
) -> str:
    """Insert one row past the consumer, with an id of its moment unless one is given."""
    made = event_id or mint(timestamp_us(moment), secrets.randbits(TAIL_BITS))
    conn.execute(RAW, [made, moment, uuid4(), tenant, secrets.token_bytes(8)])
    return made


def seal_day(
    conn: Connection,
    *,
    bounds: PartitionBounds = DAY,
    now: datetime | None = None,
    class_of: Callable[[str, str], str] = standard,
    patience_s: float = 20.0,
) -> SealReport:
    """Seal when it is due."""
    return seal(
        conn,
        bounds.name,
        rules=RULES,
        class_of=class_of,
        now=now or bounds.hi + timedelta(hours=49),
        patience_s=patience_s,
    )


def record_of(conn: Connection, bounds: PartitionBounds = DAY) -> PartitionRow:
    row = read_partition(conn, bounds.name)
    assert row is not None
    return row


def leaves_in_sql(admin: Connection, name: str) -> tuple[int, UUID | None, UUID | None, bytes]:
    """Count, smallest and largest id, and the digest as the storage design spells it in SQL."""
    found = admin.execute(
        f"""select count(*),
              (select id from only audit.{name} order by id limit 1),
              (select id from only audit.{name} order by id desc limit 1),
              sha256(coalesce(string_agg(leaf_hash, ''::bytea order by id, leaf_hash), ''))
            from only audit.{name}""".encode()
    ).fetchone()
    assert found is not None
    return found


@dataclass(frozen=True)
class ExpectedGroup:
    tenant_id: str
    retention_class: str
    n: int
    root: bytes


def groups_by_hand(
    admin: Connection, name: str, class_of: Callable[[str, str], str]
) -> list[ExpectedGroup]:
    """Group roots by the recursive definition of RFC 6962, sorted in this process."""
    leaves: dict[tuple[str, str], list[tuple[bytes, bytes]]] = {}
    for event_id, leaf, tenant, source, action in admin.execute(
        f"select id, leaf_hash, tenant_id, source, action from only audit.{name}".encode()
    ):
        leaves.setdefault((tenant, class_of(source, action)), []).append((event_id.bytes, leaf))
    ordered = sorted(leaves, key=lambda key: (key[0].encode(), key[1].encode()))
    return [
        ExpectedGroup(
            tenant_id=tenant,
            retention_class=named,
            n=len(leaves[(tenant, named)]),
            root=tree_hash([leaf for _, leaf in sorted(leaves[(tenant, named)])]),
        )
        for tenant, named in ordered
    ]


def root_by_hand(groups: list[ExpectedGroup]) -> bytes:
    """Partition root from the record format as documented, not from its code."""
    records: list[bytes] = []
    for group in groups:
        parts = [group.tenant_id, group.retention_class, str(group.n), group.root.hex()]
        text = ",".join(f"{len(part.encode())}:{part}" for part in parts)
        records.append(hashlib.sha256(b"\x00" + text.encode()).digest())
    return tree_hash(records)


def tree_hash(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = tree_hash(leaves[:split]), tree_hash(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def generate(
    admin: Connection, rows: int, *, bounds: PartitionBounds = DAY, actions: int = 5
) -> None:
    """Add rows on the server, where a hundred thousand take a second or two."""
    admin.execute(
        """insert into audit.event
             (id, "timestamp", received_at, batch_id, actor_type, tenant_id, source, action,
              leaf_hash)
           select (lpad(to_hex(ms), 12, '0') || '7' || substr(tail, 1, 3) || '8'
                   || substr(tail, 4, 15))::uuid,
             to_timestamp(ms / 1000.0), now(), gen_random_uuid(), 'user', 't' || g %% 11, 'test',
             'test.' || g %% %(actions)s, sha256(tail::bytea)
           from generate_series(0, %(rows)s - 1) as g,
             lateral (select %(lo)s::bigint + g * (%(span)s::bigint / %(rows)s) as ms,
                        md5(g::text) as tail) as made""",
        {
            "actions": actions,
            "rows": rows,
            "lo": timestamp_us(bounds.lo) // 1000,
            "span": (bounds.hi - bounds.lo) // timedelta(milliseconds=1),
        },
    )
