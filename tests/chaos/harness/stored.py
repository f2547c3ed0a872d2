"""What the platform holds at one moment: rows, dead letters, numbers of producers, entries.

Here: reading it, as administrator, from PostgreSQL and Redis. Not here: what should be there
(`oracle.py`).
Guarantee: everything of the database comes from one snapshot.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import redis

from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.redis_edge import stream_key
from audit_platform.events.stream import GROUP

Epoch = tuple[int, int]
"""Producer id and epoch."""

CONTROL_SOURCE: Final = "audit"

_ROWS: Final = b"""
select id::text, source, producer_id, producer_epoch, producer_seq from audit.event
union all
select id::text, source, producer_id, producer_epoch, producer_seq from audit.event_late
"""
_LEDGER: Final = b"""
select
  coalesce(sum(n_read), 0)::bigint, coalesce(sum(n_new), 0)::bigint,
  coalesce(sum(n_dup), 0)::bigint, coalesce(sum(n_late), 0)::bigint,
  coalesce(sum(n_bad), 0)::bigint,
  (select count(*) from audit.event), (select count(*) from audit.event_late)
from audit.ingest_batch
"""
_RANGES: Final = b"""
with u as (
  select producer_id, epoch, kind, r from audit.ingest_range
  union all select producer_id, epoch, kind, r from audit.producer_numbers
  union all select producer_id, epoch, 'end', int8multirange(int8range(end_seq, end_seq, '[]'))
  from audit.producer_epoch where end_seq is not null)
select producer_id, epoch, kind, lower(x), upper(x) from u, unnest(r) as x
"""


@dataclass(slots=True)
class Numbers:
    """What the ledger knows of the sequence numbers of one epoch."""

    got: set[int] = field(default_factory=set[int])
    declared: set[int] = field(default_factory=set[int])
    last: int = 0
    is_ended: bool = False

    @property
    def gaps(self) -> set[int]:
        """Numbers up to the highest known one that nobody accounts for."""
        return set(range(1, self.last + 1)) - self.got - self.declared

    @property
    def missing(self) -> int:
        """Numbers that are not stored: gaps and what was declared lost."""
        return self.last - len(self.got & set(range(1, self.last + 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Everything the platform holds at one moment."""

    ids: Counter[str]
    """Rows per id in `audit.event` and `audit.event_late`, without control events."""
    dead_ids: frozenset[str]
    dead_count: int
    control_count: int
    epoch_of: Mapping[str, tuple[Epoch, int]]
    """Epoch and number by id, where the row is stamped."""
    numbers: Mapping[Epoch, Numbers]
    is_conserved: bool
    """Σ n_read = Σ (n_new + n_dup + n_late + n_bad), and the tables hold as many rows."""
    pending: int
    length: int

    @property
    def all_ids(self) -> set[str]:
        """Every id that is stored anywhere."""
        return set(self.ids) | self.dead_ids

    @property
    def is_at_rest(self) -> bool:
        """Whether no entry waits in Redis."""
        return (self.pending, self.length) == (0, 0)


def read_stored(
    *, database_url: str, redis_url: str, key_prefix: str, dead_letter_key: str, shards: int = 1
) -> Stored:
    """Look at everything that is stored, in one snapshot of the database.

    Args:
        database_url: As administrator.
        redis_url: As administrator.
        key_prefix: First part of every Redis key.
        dead_letter_key: Opens dead letters.
        shards: Number of streams.
    """
    with psycopg.connect(database_url) as connection:
        connection.execute(b"set transaction isolation level repeatable read read only")
        rows = connection.execute(_ROWS).fetchall()
        sums = connection.execute(_LEDGER).fetchone()
        ranges = connection.execute(_RANGES).fetchall()
        letters = connection.execute(b"select raw from audit.dead_letter").fetchall()
    assert sums is not None
    n_read, n_new, n_dup, n_late, n_bad, events, late = sums
    vault = DeadLetterVault.of_base64(dead_letter_key)
    pending, length = waiting(redis_url, key_prefix=key_prefix, shards=shards)
    own = [row for row in rows if row[1] != CONTROL_SOURCE]
    return Stored(
        ids=Counter(row[0] for row in own),
        dead_ids=frozenset(filter(None, (_id_of(vault.open(raw)) for (raw,) in letters))),
        dead_count=len(letters),
        control_count=len(rows) - len(own),
        epoch_of={row[0]: ((row[2], row[3]), row[4]) for row in own if row[2] is not None},
        numbers=_numbers(ranges),
        is_conserved=n_read == n_new + n_dup + n_late + n_bad and (n_new, n_late) == (events, late),
        pending=pending,
        length=length,
    )


def waiting(redis_url: str, *, key_prefix: str, shards: int = 1) -> tuple[int, int]:
    """Pending entries and length, over all streams; a stream that does not exist is empty."""
    pending = length = 0
    client = redis.Redis.from_url(redis_url, socket_timeout=10)
    try:
        for shard in range(shards):
            key = stream_key(key_prefix, shard)
            if not client.exists(key):
                continue
            length += int(client.xlen(key))
            if any(group["name"] == GROUP.encode() for group in _groups(client, key)):
                summary: Any = client.xpending(key, GROUP)
                pending += summary["pending"]
    finally:
        client.close()
    return pending, length


def _groups(client: "redis.Redis", key: str) -> list[dict[str, Any]]:
    found: Any = client.xinfo_groups(key)
    return found


def _id_of(raw: bytes) -> str | None:
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    return found.get("id") if isinstance(found, dict) else None


def _numbers(ranges: Iterable[tuple[int, int, str, int, int]]) -> dict[Epoch, Numbers]:
    known: defaultdict[Epoch, Numbers] = defaultdict(Numbers)
    for producer_id, epoch, kind, first, end in ranges:
        numbers = known[producer_id, epoch]
        numbers.last = max(numbers.last, end - 1)
        if kind == "got":
            numbers.got.update(range(first, end))
        elif kind == "declared":
            numbers.declared.update(range(first, end))
        elif kind == "end":
            numbers.is_ended = True
    return dict(known)
