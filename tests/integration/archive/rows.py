"""Rows of a sealed partition as PostgreSQL and as an archive tell them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pyarrow as pa

from audit_platform.archive.columns import ARCHIVED, ColumnType
from audit_platform.events.event import timestamp_us
from audit_platform.events.identity import mint
from audit_platform.retention.partition import PartitionBounds
from tests.integration.retention.sealing import DAY

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Row = dict[str, Any]

EVIL_TEXTS = (
    "",
    "\\N",
    "\\.",
    "tab\tnewline\nreturn\rquote\"'comma,",
    "ünïcödé 日本語 🎉 \u202e \u200b",
    "=cmd|' /C calc'!A0",
    "x" * 2_000,
)
EVIL_JSON = (
    '{"n": 1e400}',
    '{"n": 9007199254740993, "d": 1.10, "e": 0.1000000000000000055}',
    '{"b":  1,   "a": [ ], "b": 2}',
    '{"t": "\\u00fc ü \\n"}',
    "[]",
    "null",
    '"text"',
    "1.0",
)


def row_at(moment: datetime, number: int, **override: Any) -> Row:
    """A row as PostgreSQL takes it; the leaf is any 32 bytes, since an export leaves it out."""
    made: Row = {
        "id": mint(timestamp_us(moment), number),
        "timestamp": moment,
        "tenant_id": "acme",
        "source": "app",
        "action": "user.login",
        "actor_type": "user",
        "batch_id": uuid4(),
        "received_at": moment + timedelta(milliseconds=3),
        "ingested_at": moment + timedelta(milliseconds=5),
        "leaf_hash": number.to_bytes(32, "big"),
    }
    return made | override


def evil_rows() -> list[Row]:
    """Every type at its limits, every column filled somewhere and NULL elsewhere."""
    first, last = DAY.lo, DAY.hi - timedelta(microseconds=1)
    rows = [row_at(first, 1), row_at(last, 2), row_at(last, 3, tenant_id="Ümlaut & Söhne")]
    for number, text in enumerate(EVIL_TEXTS, 10):
        moment = first + timedelta(minutes=number)
        texts = dict.fromkeys(
            ("entity_type", "entity_id", "entity_label", "user_id", "user_label"), text[:50]
        )
        others = dict.fromkeys(("impersonator_id", "correlation_id", "trace_id"), text[:32])
        rows.append(
            row_at(
                moment,
                number,
                **texts,
                **others,
                tenant_id=text[:50] or "t",
                source=text[:50] or "s",
                action=text[:50] or "a",
                description=text,
            )
        )
    for number, text in enumerate(EVIL_JSON, 40):
        json = dict.fromkeys(("changes", "metadata", "context"), text)
        rows.append(row_at(first + timedelta(hours=number - 39), number, **json))
    numbers = (-(2**63), -1, 0, 2**53 + 1, 2**63 - 1)
    for number, value in enumerate(numbers, 60):
        rows.append(
            row_at(
                first + timedelta(hours=10, microseconds=number),
                number,
                bulk_action_id=UUID(int=number),
                bulk_item_no=value,
                producer_epoch=value,
                producer_seq=value,
                producer_id=(2**31 - 1) - number,
                severity=number % 6,
                schema_version=32_767 - number,
                sampled_rate=(0.1, 1e-6, 16_777_216.0, 1.17549435e-38, 3.4028235e38)[number - 60],
                status=("success", "failure", "denied", "skipped", "pending")[number - 60],
                actor_type=("admin", "service", "api_key", "anonymous", "bulk_action")[number - 60],
            )
        )
    return rows


def put_rows(
    admin: "psycopg.Connection[Any]", rows: Sequence[Row], *, table: str = DAY.name
) -> None:
    for row in rows:
        names = ", ".join(f'"{name}"' for name in row)
        values = ", ".join(f"%({name})s" for name in row)
        admin.execute(f"insert into audit.{table} ({names}) values ({values})".encode(), row)


def stored_texts(admin: "psycopg.Connection[Any]", table: str = DAY.name) -> list[list[str | None]]:
    """All rows in the words of PostgreSQL, in the order of the files."""
    columns = ", ".join(
        f'(extract(epoch from "{one.name}") * 1000000)::bigint::text'
        if one.type is ColumnType.MOMENT
        else f'"{one.name}"::text'
        for one in ARCHIVED
    )
    order = 'tenant_id collate "C", "timestamp", id'
    found = admin.execute(
        f"select {columns} from only audit.{table} order by {order}".encode()
    ).fetchall()
    return [list(one) for one in found]


def archived_texts(rows: pa.Table) -> list[list[str | None]]:
    """The same words from the files alone."""
    columns = [
        [_text(value, column.type) for value in rows.column(column.name).to_pylist()]
        for column in ARCHIVED
    ]
    return [list(one) for one in zip(*columns, strict=True)]


def _text(value: Any, kind: ColumnType) -> str | None:
    if value is None:
        return None
    if kind is ColumnType.MOMENT:
        return str((value - EPOCH) // timedelta(microseconds=1))
    if kind is ColumnType.UUID:
        return str(uuid_of(value))
    return str(value)


def many_rows(count: int, *, bounds: PartitionBounds = DAY) -> list[Row]:
    """Rows spread over the partition and four tenants, in no order of the key."""
    step = (bounds.hi - bounds.lo) / count
    return [
        row_at(
            bounds.lo + step * number,
            number,
            tenant_id=("zeta", "acme", "Ümlaut", "Acme")[number % 4],
            action=("user.login", "user.pay", "health.check")[number % 3],
            entity_type="user",
            entity_id=str(number % 50),
            user_id=str(number % 7),
        )
        for number in range(count)
    ]


def uuid_of(value: Any) -> UUID:
    """Arrow gives bytes or a UUID, by its version."""
    return value if isinstance(value, UUID) else UUID(bytes=value)
