"""The same events twice: all in partitions of PostgreSQL, and spread over everything there is.

Here: the events, the two databases, the archive of the second. The days of the second database
stand in every state that a reader can meet:

    0  dropped         the table is gone
    1  dropped         with late rows, some of which are archived as well
    2  detached        the table is there, beside the parent; two classes, a tenant's own file
    3  detach_started  still attached
    4  detach_started  the detach was interrupted: attached, but hidden from readers
    5  verified        in PostgreSQL, archived too
    6  open            opened again; the files of its first generation are still there
    7  open
    8  –               no partition: all its rows are late
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from audit_platform.archive.columns import COLUMNS
from audit_platform.archive.store import ArchiveStore, open_store
from audit_platform.db import migrate
from audit_platform.db.pool import connected
from audit_platform.local.postgres import PostgresServer
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import PartitionBounds, bounds_for
from audit_platform.search.border import Span
from tests.archiving import DAY, stored_row, write_partition
from tests.conftest import TEMPLATE

DAYS: Final = 9
NOW: Final = DAY + timedelta(days=DAYS, hours=3)
ROWS_PER_DAY: Final = 40
LATE_DAY: Final = 8
STATES: Final = {
    0: "dropped",
    1: "dropped",
    2: "detached",
    3: "detach_started",
    4: "detach_started",
    5: "verified",
}

TENANTS: Final = ("acme", "Zeta", "Ünï")
ACTIONS: Final = ("order.create", "order.Delete", "ord", "user.login", "100%_x")
TEXTS: Final = (None, "", "Émile 50% Ärger", 'say "hi" \\ $', "ΣΊΣΥΦΟΣ ς", "K2 İstanbul", "a\nb")
METADATA: Final = (
    "{}",
    '{"plan":"pro","seats":12}',
    '{"plan":"pro","seats":"12"}',
    '{"plan":"free","seats":1.2e1}',
    '{"plan":"fre\\u0065","seats":1.2e1}',
    '{"n":12345678901234567890123}',
    '{"n":1e400,"ok":true,"none":null}',
    '{"a":{"b":[1,"x",{"c":"0012"}]}}',
    '{"a":[{"b":1}],"x.y":"say \\"hi\\""}',
    '{"ok":"true", "none":"null", "n":-0.0}',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One of the databases, as reader and as operator."""

    reader_url: str
    maint_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoDatabases:
    """All rows, and where they are."""

    rows: Sequence[dict[str, Any]]
    hot: Place
    spread: Place
    archive_url: str


def day_of(number: int) -> PartitionBounds:
    return bounds_for(DAY + timedelta(days=number), "day")


def made_rows() -> list[dict[str, Any]]:
    """The same rows in every run, but for their ids."""
    chance = random.Random(20260305)
    rows: list[dict[str, Any]] = []
    for number in range(DAYS):
        lo = day_of(number).lo
        moments = [
            lo,
            lo + timedelta(days=1) - timedelta(microseconds=1),
            *(
                # Few hours and milliseconds, so that many events share a microsecond.
                lo + timedelta(hours=chance.randrange(24), milliseconds=chance.randrange(2))
                for _ in range(ROWS_PER_DAY - 2)
            ),
        ]
        rows += [_made_row(moment, chance) for moment in moments]
    return rows


def _made_row(moment: Any, chance: random.Random) -> dict[str, Any]:
    has_entity = chance.random() < 0.8
    return stored_row(
        moment,
        tenant_id=chance.choice(TENANTS),
        source=chance.choice(("user", "api")),
        action=chance.choice(ACTIONS),
        status=chance.choice(("success", "success", "failure", "denied")),
        entity_type=chance.choice(("order", "AWS::S3::Bucket")) if has_entity else None,
        entity_id=str(chance.randrange(6)) if has_entity else None,
        entity_label=chance.choice(TEXTS),
        actor_type=chance.choice(("user", "service")),
        user_id=chance.choice((None, "7", "u-9", "Ä")),
        user_label=chance.choice((None, "e@x.org")),
        description=chance.choice(TEXTS),
        changes=chance.choice((None, '{"a":{"old":1,"new":2.50}}')),
        metadata=chance.choice(METADATA),
        context=chance.choice(("{}", '{"ip": "192.0.2.7"}')),
        correlation_id=chance.choice((None, "c-1")),
        trace_id=chance.choice((None, "0" * 32)),
        bulk_action_id=chance.choice((None, uuid4())),
        bulk_item_no=chance.choice((None, 2**53 + 1)),
        severity=chance.choice((None, 3)),
        sampled_rate=chance.choice((1.0, 0.1, 0.333)),
        producer_id=chance.choice((None, 5)),
        producer_epoch=chance.choice((None, 1)),
        producer_seq=chance.choice((None, 2**40)),
    )


@contextmanager
def two_databases(server: PostgresServer, place: Path) -> Iterator[TwoDatabases]:
    """Make both, give them for a block, remove them."""
    hot, spread = (f"audit_{uuid4().hex[:12]}" for _ in range(2))
    rows = made_rows()
    with connected(server.config.url("postgres"), application="test") as admin:
        try:
            admin.execute(f"create database {hot} template {TEMPLATE}".encode())
            _fill(_place(server, hot), server.config.url(hot), rows)
            admin.execute(f"create database {spread} template {hot}".encode())
            store = open_store(place.as_uri())
            with psycopg.connect(server.config.url(spread), autocommit=True) as conn:
                _spread(conn, server.config.url(spread), store)
            yield TwoDatabases(
                rows=rows,
                hot=_place(server, hot),
                spread=_place(server, spread),
                archive_url=store.url,
            )
        finally:
            for name in (hot, spread):
                admin.execute(f"drop database if exists {name} with (force)".encode())


def _place(server: PostgresServer, name: str) -> Place:
    url = server.config.url(name)
    return Place(
        reader_url=migrate.with_login(url, "audit_reader", "reader-password"),
        maint_url=migrate.with_login(url, "audit_maint", "maint-password"),
    )


def _fill(place: Place, url: str, rows: Sequence[dict[str, Any]]) -> None:
    with connected(place.maint_url, application="test") as conn:
        ensure_partitions(conn, [day_of(number) for number in range(DAYS)])
    with psycopg.connect(url) as conn:
        insert_rows(conn, rows)


def insert_rows(conn: "psycopg.Connection[Any]", rows: Sequence[dict[str, Any]]) -> None:
    """Store rows in `audit.event` as they are; leaves are not looked at by readers."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    values = ", ".join(f"%({name})s" for name in COLUMNS)
    statement = (
        f"insert into audit.event ({names}, leaf_hash) "
        f"values ({values}, decode(repeat('00', 32), 'hex'))"
    )
    conn.cursor().executemany(statement.encode(), rows)


def _spread(conn: "psycopg.Connection[Any]", url: str, store: ArchiveStore) -> None:
    _make_late(conn)
    for number, state in STATES.items():
        archive_day(conn, store, number, state)
    # A day that was opened again: its first generation has fewer rows than there are now.
    fewer = partition_rows(conn, 6)[:10]
    write_partition(store, fewer, span_of(6))
    conn.execute("update audit.partition set generation = 2 where name = %s", [day_of(6).name])
    for number in (0, 1):
        conn.execute(f"alter table audit.event detach partition {_table(number)}".encode())
        conn.execute(f"drop table {_table(number)}".encode())
    conn.execute(f"alter table audit.event detach partition {_table(2)}".encode())
    interrupt_detach(conn, url, 4)
    _drop_unknown(conn)


def _make_late(conn: "psycopg.Connection[Any]") -> None:
    """All rows of the last day, some of a dropped one; of these, some are archived as well."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    for number, table_share in ((LATE_DAY, 1.0), (1, 0.3), (3, 0.1)):
        conn.execute(
            f"insert into audit.event_late ({names}, leaf_hash, late_reason) "
            f"select {names}, leaf_hash, 'sealed' from only {_table(number)} "
            "order by id limit %s".encode(),
            [int(ROWS_PER_DAY * table_share)],
        )
        # Half of them stay where they were.
        conn.execute(
            f"delete from only {_table(number)} where id in "
            "(select id from audit.event_late where get_byte(uuid_send(id), 15) %% 2 = 0 "
            "or %s)".encode(),
            [number == LATE_DAY],
        )


def archive_day(
    conn: "psycopg.Connection[Any]", store: ArchiveStore, number: int, state: str
) -> None:
    """Write the files of a day and set its state; the table stays."""
    partition = write_partition(
        store,
        partition_rows(conn, number),
        span_of(number),
        class_of=lambda source, _: "long" if number == 2 and source == "api" else "standard",
        file_tenant=lambda tenant, _: tenant if number == 2 and tenant == "acme" else None,
        rows_per_group=7,
    )
    files = Jsonb([entry.to_row() for entry in partition.files])
    conn.execute(
        """
        update audit.partition
        set state = %s, files = %s, n = 1, root = %s, leaf_digest = %s, manifest_sha256 = %s,
          sealed_at = hi, exported_at = hi, verified_at = hi, verified_by = 'test',
          detached_at = hi + interval '1 day', dropped_at = hi + interval '9 days'
        where name = %s
        """,
        [state, files, bytes(32), bytes(32), bytes(32), day_of(number).name],
    )


def span_of(number: int) -> Span:
    bounds = day_of(number)
    return Span(name=bounds.name, lo=bounds.lo, hi=bounds.hi, generation=1)


def partition_rows(conn: "psycopg.Connection[Any]", number: int) -> list[dict[str, Any]]:
    """Rows of one table, JSON as its text."""
    shown = ", ".join(
        f"{name}::text" if name in {"changes", "metadata", "context"} else f'"{name}"'
        for name in COLUMNS
    )
    cursor = conn.execute(
        f'select {shown} from only {_table(number)} order by "timestamp"'.encode()
    )
    return [dict(zip(COLUMNS, values, strict=True)) for values in cursor]


def interrupt_detach(conn: "psycopg.Connection[Any]", url: str, number: int) -> None:
    """Leave a detach between its two transactions: hidden from readers, still attached."""
    with psycopg.connect(url) as reader:
        reader.execute("lock table only audit.event in access share mode")
        conn.execute("set statement_timeout = '300ms'")
        try:
            conn.execute(
                f"alter table audit.event detach partition {_table(number)} concurrently".encode()
            )
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            conn.execute("set statement_timeout = 0")
    found = conn.execute(
        "select inhdetachpending from pg_inherits where inhrelid = %s::regclass",
        [_table(number)],
    ).fetchone()
    assert found == (True,), "the detach was not interrupted"


def _drop_unknown(conn: "psycopg.Connection[Any]") -> None:
    """A day without partition and without record; its rows are late."""
    conn.execute(f"drop table {_table(LATE_DAY)}".encode())
    conn.execute("delete from audit.partition where name = %s", [day_of(LATE_DAY).name])


def _table(number: int) -> str:
    return f"audit.{day_of(number).name}"
