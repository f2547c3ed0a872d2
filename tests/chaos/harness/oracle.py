"""The oracle: what was accepted against what is stored, by sets of ids (faults design, section 2).

Here: reading what is stored, and the verdict. Not here: what was attempted (`history.py`), rows
seen while faults go on (`reader.py`).
Guarantees: nothing of the platform's own accounting is trusted. Rows are counted as rows, gaps are
computed from the ranges of the ledger here, and a loss that a weak class allows is subtracted only
as far as gaps and declared ranges of the very process that lost it cover it: `excused` plus
`unknown` numbers must equal these gaps exactly (goal R3).
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
from tests.chaos.harness.history import History, Mark, ProcessHistory

Epoch = tuple[int, int]
"""Producer id and epoch."""

CONTROL_SOURCE: Final = "audit"
DURABLE: Final = "durable"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The figures of faults design, section 2."""

    accepted: Mapping[str, int]
    """Accepted events by durability class."""
    lost: Mapping[str, int]
    """Accepted and not stored, by class; before anything is excused."""
    excused: int
    """Lost events of weak classes that gaps and declared ranges of their process cover."""
    unexcused: tuple[str, ...] = field(repr=False)
    """Lost ids that nothing excuses: the figure `lost` of the report; must be empty."""
    silent_gaps: int
    """Missing numbers beyond real losses: the ledger claims a loss that did not happen."""
    unexpected: tuple[str, ...] = field(repr=False)
    recovered: int
    """Unknown fate, and stored: allowed."""
    duplicated: int
    dead: int
    control: int
    gap_count: int
    is_conserved: bool
    is_at_rest: bool
    epochs: int

    @property
    def accepted_total(self) -> int:
        """N of the report."""
        return sum(self.accepted.values())

    def problems(self) -> list[str]:
        """What breaks a promise, one line each; empty when all is well."""
        said = {
            "lost": len(self.unexcused),
            "lost of `durable`": self.lost.get(DURABLE, 0),
            "missing numbers without a loss": self.silent_gaps,
            "unexpected": len(self.unexpected),
            "duplicated": self.duplicated,
        }
        lines = [f"{name}: {count}" for name, count in said.items() if count]
        lines += [] if self.is_conserved else ["the ledger's sums differ from the rows"]
        lines += [] if self.is_at_rest else ["entries wait in Redis"]
        return lines


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


def judge(history: History, stored: Stored) -> Verdict:
    """Compare the sets; see `Verdict` and the guarantee above."""
    all_ids = stored.all_ids
    lost = history.ok - all_ids
    lost_by_class = Counter(
        process.durability[one] for process in history.processes for one in process.ok & lost
    )
    excused, silent = _excused(history, stored, lost)
    return Verdict(
        accepted=history.accepted_by_class(),
        lost=lost_by_class,
        excused=len(excused),
        unexcused=tuple(sorted(lost - excused)),
        silent_gaps=silent,
        unexpected=tuple(sorted(all_ids - history.attempted)),
        recovered=len(history.unknown & all_ids),
        duplicated=sum(stored.ids.values()) - len(stored.ids),
        dead=stored.dead_count,
        control=stored.control_count,
        gap_count=sum(len(numbers.gaps) for numbers in stored.numbers.values()),
        is_conserved=stored.is_conserved,
        is_at_rest=stored.is_at_rest,
        epochs=len(stored.numbers),
    )


def _excused(history: History, stored: Stored, lost: set[str]) -> tuple[set[str], int]:
    """Lost ids that missing numbers cover, and missing numbers that cover nothing.

    Per process, by its own epochs. Processes none of whose events is stored are compared together
    with the epochs that nobody claims.
    """
    own_epochs = {
        epoch: process
        for process in history.processes
        for one in process.attempts
        if one in stored.epoch_of
        for epoch in [stored.epoch_of[one][0]]
    }
    missing: Counter[int] = Counter()
    unclaimed = 0
    for epoch, numbers in stored.numbers.items():
        process = own_epochs.get(epoch)
        if process is None:
            unclaimed += numbers.missing
        else:
            missing[id(process)] += numbers.missing
    claimed = {id(process) for process in own_epochs.values()}
    known = [one for one in history.processes if id(one) in claimed]
    others = [one for one in history.processes if id(one) not in claimed]
    pairs = [([process], missing[id(process)]) for process in known]
    excused: set[str] = set()
    silent = 0
    for processes, count in [*pairs, (others, unclaimed)]:
        covered, rest = _cover(processes, count, stored.all_ids, lost)
        excused |= covered
        silent += rest
    return excused, silent


def _cover(
    processes: list[ProcessHistory], missing: int, all_ids: set[str], lost: set[str]
) -> tuple[set[str], int]:
    weak = sorted(
        one
        for process in processes
        for one in process.ok & lost
        if process.durability[one] != DURABLE
    )
    # A refused call, or one cut short, may have used up a number.
    unsure = sum(len((process.unknown | process.ids(Mark.FAIL)) - all_ids) for process in processes)
    durable = sum(len(process.ok & lost) for process in processes) - len(weak)
    rest = max(0, missing - len(weak) - durable - unsure)
    return set(weak[:missing]), rest
