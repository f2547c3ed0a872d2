"""Folding the ledger: no answer changes, whatever is written meanwhile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_platform.db.pool import Connection, connected
from audit_platform.events.watermark import MAX_GAPS, fold_ranges, read_watermarks
from tests.conftest import Database
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration

PRODUCER = 17
LATEST = 40
STABLE = (
    "select producer_id, epoch, max_seq, is_ended, is_unclean, got::text, late::text, dead::text,"
    " declared::text, missing::text from audit.producer_ledger order by producer_id, epoch"
)


@pytest.fixture
def writer(database: Database) -> Iterator[Connection]:
    with connected(database.writer_url, application="fold test") as connection:
        yield connection


def add(connection: Any, kind: str, first: int, last: int, *, epoch: int = 1) -> None:
    connection.execute(
        "insert into audit.ingest_range (batch_id, producer_id, epoch, kind, reason, r)"
        " values (gen_random_uuid(), %s, %s, %s, %s, int8multirange(int8range(%s, %s, '[]')))",
        [PRODUCER, epoch, kind, "x" if kind == "declared" else None, first, last],
    )


def test_a_fold_changes_no_answer_and_empties_the_ranges(writer: Connection, shard: Shard) -> None:
    for kind, first, last in (("got", 1, 5), ("late", 2, 2), ("dead", 4, 4), ("declared", 7, 8)):
        add(shard.sql, kind, first, last)
    add(shard.sql, "end", 12, 12)
    before = shard.rows(STABLE)

    folded = fold_ranges(writer)

    assert folded == 5
    assert shard.rows(STABLE) == before
    assert shard.rows("select count(*) from audit.ingest_range") == [(0,)]
    assert fold_ranges(writer) == 0


def test_a_fold_that_is_rolled_back_changes_nothing(writer: Connection, shard: Shard) -> None:
    add(shard.sql, "got", 1, 5)
    before = shard.rows("select * from audit.ingest_range"), shard.rows(STABLE)

    with writer.transaction(force_rollback=True):
        assert fold_ranges(writer) == 1

    assert (shard.rows("select * from audit.ingest_range"), shard.rows(STABLE)) == before


def test_a_second_fold_at_the_same_time_leaves_it_to_the_first(
    writer: Connection, shard: Shard, database: Database
) -> None:
    add(shard.sql, "got", 1, 5)
    with connected(database.writer_url, application="other fold") as other, other.transaction():
        assert fold_ranges(other) == 1

        assert fold_ranges(writer) is None

    assert fold_ranges(writer) == 0


def test_ranges_of_a_transaction_that_commits_after_the_fold_are_folded_next_time(
    writer: Connection, shard: Shard, database: Database
) -> None:
    add(shard.sql, "got", 1, 5)
    with psycopg.connect(database.writer_url) as slow:
        add(slow, "got", 6, 9)
        assert fold_ranges(writer) == 1
        assert read_watermarks(writer, [(PRODUCER, 1)])[0].watermark == 5
    assert read_watermarks(writer, [(PRODUCER, 1)])[0].watermark == 9

    assert fold_ranges(writer) == 1

    assert read_watermarks(writer, [(PRODUCER, 1)])[0].watermark == 9


def test_folds_beside_writers_and_readers_lose_no_number(shard: Shard, database: Database) -> None:
    """Four writers, a folder and a reader; the watermark that is read never falls."""
    count = 60

    def write(epoch: int) -> None:
        with psycopg.connect(database.writer_url, autocommit=True) as connection:
            for number in range(1, count + 1):
                add(connection, "got", number, number, epoch=epoch)

    def fold() -> None:
        with connected(database.writer_url, application="fold test") as connection:
            for _ in range(count):
                fold_ranges(connection)

    def read() -> list[int]:
        with connected(database.writer_url, application="fold test") as connection:
            return [read_watermarks(connection, [(PRODUCER, 1)])[0].watermark for _ in range(200)]

    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(write, epoch) for epoch in range(1, 5)]
        folding, reading = [pool.submit(fold) for _ in range(2)], pool.submit(read)
        for one in (*writing, *folding):
            one.result(60)
        seen = reading.result(60)

    assert seen == sorted(seen)
    assert shard.rows("select epoch, got::text from audit.producer_ledger order by epoch") == [
        (epoch, f"{{[1,{count + 1})}}") for epoch in range(1, 5)
    ]


def test_an_epoch_that_nobody_knows_has_nothing_confirmed(writer: Connection) -> None:
    (mark,) = read_watermarks(writer, [(PRODUCER, 5)])

    assert (mark.watermark, mark.max_seq, mark.gaps) == (0, 0, ())


@pytest.mark.parametrize("gaps", [MAX_GAPS, MAX_GAPS + 1])
def test_the_value_ends_before_the_first_gap_that_does_not_fit(
    writer: Connection, shard: Shard, gaps: int
) -> None:
    for number in range(1, 2 * gaps + 2, 2):
        add(shard.sql, "got", number, number)

    (mark,) = read_watermarks(writer, [(PRODUCER, 1)])

    assert mark.gaps == tuple((number, number) for number in range(2, 2 * MAX_GAPS + 1, 2))
    assert mark.max_seq == 2 * MAX_GAPS + 1


def test_an_idle_epoch_has_settled_and_a_busy_one_up_to_an_older_note(
    writer: Connection, shard: Shard
) -> None:
    def settled() -> int:
        return shard.rows("select settled_seq from audit.producer_ledger")[0][0]

    def age(minutes: int) -> None:
        columns = ("updated_at", "older_at", "newer_at")
        aged = ", ".join(f"{name} = {name} - interval '{minutes} min'" for name in columns)
        shard.sql.execute(f"update audit.producer_epoch set {aged}".encode())

    seen: list[int] = []
    for number in (10, 20, 30, 40):
        add(shard.sql, "got", number, number)
        fold_ranges(writer)
        seen.append(settled())
        age(16)
    assert seen == [0, 10, 20, 30]
    assert settled() == 40


@dataclass
class Model:
    """The ledger as Python sets."""

    sets: dict[str, set[int]] = field(
        default_factory=lambda: {kind: set() for kind in ("got", "late", "dead", "declared")}
    )
    end: int | None = None

    def add(self, kind: str, first: int, last: int) -> None:
        if kind == "end":
            self.end = max(self.end or 0, last)
        else:
            self.sets[kind] |= set(range(first, last + 1))

    @property
    def max_seq(self) -> int:
        return max(*(max(one, default=0) for one in self.sets.values()), self.end or 0)

    @property
    def missing(self) -> set[int]:
        return set(range(1, self.max_seq + 1)) - self.sets["got"] - self.sets["declared"]


_STEPS = st.lists(
    st.one_of(
        st.just(("fold", 0, 0)),
        st.tuples(
            st.sampled_from(["got", "got", "got", "late", "dead", "declared", "end"]),
            st.integers(1, LATEST),
            st.integers(0, 8),
        ),
    ),
    max_size=25,
)


@given(_STEPS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_interleaving_of_ranges_and_folds_equals_sets(
    writer: Connection, shard: Shard, steps: list[tuple[str, int, int]]
) -> None:
    shard.sql.execute(b"truncate audit.ingest_range, audit.producer_epoch, audit.producer_numbers")
    model = Model()
    for kind, first, width in steps:
        if kind == "fold":
            fold_ranges(writer)
            continue
        last = first if kind == "end" else first + width
        if kind in {"late", "dead"}:
            # Set aside is a part of what arrived.
            add(shard.sql, "got", first, last)
            model.add("got", first, last)
        add(shard.sql, kind, first, last)
        model.add(kind, first, last)
    _compare(writer, shard, model)
    fold_ranges(writer)
    _compare(writer, shard, model)


def _compare(writer: Connection, shard: Shard, model: Model) -> None:
    (mark,) = read_watermarks(writer, [(PRODUCER, 1)])
    published = {number for first, last in mark.gaps for number in range(first, last + 1)}
    assert published == model.missing
    assert mark.max_seq == model.max_seq
    assert mark.watermark == min(model.missing or {model.max_seq + 1}) - 1
    if not (model.max_seq or model.end is not None):
        return
    row = shard.rows(
        "select max_seq, is_ended, got, late, dead, declared, missing from audit.producer_ledger"
    )[0]
    found = [{n for part in parts for n in range(part.lower, part.upper)} for parts in row[2:]]
    assert row[:2] == (model.max_seq, model.end is not None)
    assert found == [
        model.sets["got"],
        model.sets["late"],
        model.sets["dead"],
        model.sets["declared"] - model.sets["got"],
        model.missing,
    ]
