"""Cold deletion: only what is due and not held, both copies, an event, continued after a kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from audit_platform.archive.manifest import FileEntry
from audit_platform.db.pool import Connection
from audit_platform.errors import PartitionBusy, QueueError, StepRefused
from audit_platform.events.act_log import ActLog, opened_act_log
from audit_platform.retention.advance import LifecycleContext, advance
from audit_platform.retention.classes import ClassPattern, RetentionClasses
from audit_platform.retention.expire import Deletion, Outcome, expirable, expire_file
from audit_platform.retention.holds import Hold, HoldScope, place, release
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import one_at_a_time, read_partition
from audit_platform.retention.rules import Preset, RetentionRule, RuleBook
from audit_platform.retention.span import Span
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.integration.events.shard import Shard
from tests.integration.retention.lives import Life, begin_life, row_of
from tests.integration.retention.merging import unheard_log

pytestmark = pytest.mark.integration

ROWS = 90
HOUR = timedelta(hours=1)
CLASSES = RetentionClasses(
    patterns=(ClassPattern(source="*", action="user.*", retention_class="people"),),
    own_rules=frozenset({("globex", "people")}),
)
BOOK = RuleBook(
    preset=Preset.DEFAULT,
    hot=Span(days=30),
    stored={
        ("*", "people"): RetentionRule(keep=Span(days=60)),
        ("globex", "people"): RetentionRule(keep=Span(days=90)),
    },
)


@pytest.fixture
def life(database: Database, maint: Connection, tmp_path: Path) -> Life:
    """A dropped day with a shared file and one of the tenant globex."""
    made = begin_life(database, tmp_path, rows=ROWS)
    context: LifecycleContext = replace(made.context(), classes=CLASSES)
    for moment in made.moments:
        row = read_partition(maint, made.name)
        assert row is not None
        advance(maint, row, context, now=moment, until=None)
    assert row_of(maint, made).state is State.DROPPED
    return made


def entry_of(conn: Connection, life: Life, tenant: str | None = None) -> FileEntry:
    (found,) = [one for one in row_of(conn, life).files if one.tenant == tenant]
    return found


def due(life: Life, days: int = 60) -> datetime:
    return life.bounds.hi + timedelta(days=days)


@contextmanager
def deletion(life: Life, settings: Settings, book: RuleBook = BOOK) -> Iterator[Deletion]:
    with opened_act_log(settings) as log:
        yield of_log(life, log, book)


def of_log(life: Life, log: ActLog, book: RuleBook = BOOK) -> Deletion:
    context = life.context()
    return Deletion(book=book, store=context.store, copy_store=context.copy_store, log=log)


def step(
    conn: Connection,
    life: Life,
    settings: Settings,
    *,
    now: datetime,
    tenant: str | None = None,
    book: RuleBook = BOOK,
) -> Outcome:
    with deletion(life, settings, book) as given:
        path = entry_of(conn, life, tenant).path
        return expire_file(conn, life.name, path, given, now=now)


def copies(life: Life, path: str) -> list[bool]:
    return [(root / path).exists() for root in (life.archive, life.copy)]


def hold(conn: Connection, life: Life, tenant: str = "acme") -> Hold:
    return place(
        conn,
        hold_id=uuid4(),
        case_id="case-1",
        scope=HoldScope(tenant_id=tenant, lo=life.bounds.lo, hi=life.bounds.hi),
        reason="a court asks for it",
        placed_by="ada",
        now=due(life),
    )


def test_files_are_due_by_the_rule_of_their_tenant_and_class(maint: Connection, life: Life) -> None:
    def found(days: int) -> list[str | None]:
        return [one.entry.tenant for one in expirable(maint, BOOK, now=due(life, days))]

    assert found(59) == []
    assert found(60) == [None]
    assert set(found(90)) == {None, "globex"}
    no_rule = replace(BOOK, stored={})
    assert expirable(maint, no_rule, now=due(life, 9_000)) == []


def test_a_file_is_marked_then_left_for_readers_then_deleted(
    maint: Connection, settings: Settings, shard: Shard, life: Life
) -> None:
    now, entry = due(life), entry_of(maint, life)

    assert step(maint, life, settings, now=now) is Outcome.MARKED
    assert copies(life, entry.path) == [True, True]
    assert entry_of(maint, life).expiring_at == now
    assert step(maint, life, settings, now=now + HOUR / 2) is Outcome.WAITING
    assert step(maint, life, settings, now=now + HOUR) is Outcome.DELETED

    assert copies(life, entry.path) == [False, False]
    after = entry_of(maint, life)
    assert (after.expiring_at, after.expired_at) == (now, now + HOUR)
    assert copies(life, entry_of(maint, life, "globex").path) == [True, True]
    assert step(maint, life, settings, now=now + 2 * HOUR) is Outcome.NOTHING
    shard.drain()
    ((entity_id, user_id, metadata),) = shard.rows(
        "select entity_id, user_id, metadata from audit.event_all"
        " where action = 'audit.archive.expire'"
    )
    assert (entity_id, user_id) == (entry.path, "retention")
    assert (metadata["rows"], metadata["sha256"]) == (entry.rows, entry.sha256)


def test_the_roots_of_an_expired_file_stay(
    maint: Connection, settings: Settings, shard: Shard, life: Life
) -> None:
    before = shard.rows("select * from audit.partition_group order by 3, 4")
    for now in (due(life), due(life) + HOUR):
        step(maint, life, settings, now=now)

    assert before
    assert shard.rows("select * from audit.partition_group order by 3, 4") == before


def test_nothing_goes_before_its_time_or_before_the_drop(
    database: Database, maint: Connection, settings: Settings, life: Life, tmp_path: Path
) -> None:
    assert step(maint, life, settings, now=due(life) - HOUR) is Outcome.NOTHING
    young = begin_life(database, tmp_path / "young", rows=10, day=life.bounds.hi)
    for moment in (young.sealing, young.detaching):
        row = read_partition(maint, young.name)
        assert row is not None
        context = replace(young.context(), classes=CLASSES)
        advance(maint, row, context, now=moment, until=None)
    assert row_of(maint, young).state is State.DETACHED

    assert step(maint, young, settings, now=due(young, 9_000)) is Outcome.NOTHING


@pytest.mark.parametrize(
    ("file_tenant", "hold_tenant", "is_held"),
    [
        (None, "acme", True),
        (None, "*", True),
        ("globex", "globex", True),
        ("globex", "*", True),
        ("globex", "acme", False),
    ],
)
def test_a_hold_keeps_every_file_that_may_contain_its_rows(
    maint: Connection,
    settings: Settings,
    life: Life,
    *,
    file_tenant: str | None,
    hold_tenant: str,
    is_held: bool,
) -> None:
    made = hold(maint, life, hold_tenant)
    now = due(life, 90)

    expected = Outcome.HELD if is_held else Outcome.MARKED
    assert step(maint, life, settings, now=now, tenant=file_tenant) is expected
    listed = {one.entry.tenant: one.is_held for one in expirable(maint, BOOK, now=now)}
    assert listed[file_tenant] is is_held

    release(maint, [made.hold_id], released_by="ada", now=now)
    assert step(maint, life, settings, now=now + HOUR, tenant=file_tenant) is (
        Outcome.MARKED if is_held else Outcome.DELETED
    )


@pytest.mark.parametrize("lost", [[], ["archive"], ["copy"]])
def test_a_hold_that_comes_after_the_mark_keeps_both_copies(
    maint: Connection, settings: Settings, life: Life, lost: list[str]
) -> None:
    """A run that was killed between the two copies has deleted one of them already."""
    entry = entry_of(maint, life)
    step(maint, life, settings, now=due(life))
    for name in lost:
        (getattr(life, name) / entry.path).unlink()
    hold(maint, life)

    assert step(maint, life, settings, now=due(life) + HOUR) is Outcome.SPARED

    assert copies(life, entry.path) == [True, True]
    context = life.context()
    assert context.copy_store is not None
    assert context.store.sha256(entry.path) == context.copy_store.sha256(entry.path)
    assert context.store.sha256(entry.path) == entry.sha256
    assert entry_of(maint, life) == entry


def test_a_hold_that_comes_after_the_deletion_is_told_so(
    maint: Connection, settings: Settings, life: Life
) -> None:
    entry = entry_of(maint, life)
    step(maint, life, settings, now=due(life))
    for root in (life.archive, life.copy):
        (root / entry.path).unlink()
    hold(maint, life)

    with pytest.raises(StepRefused, match="deleted before it was held"):
        step(maint, life, settings, now=due(life) + HOUR)


def test_a_longer_rule_that_comes_after_the_mark_keeps_the_file(
    maint: Connection, settings: Settings, life: Life
) -> None:
    step(maint, life, settings, now=due(life))
    longer = replace(BOOK, stored={("*", "people"): RetentionRule(keep=Span(days=900))})

    assert step(maint, life, settings, now=due(life) + HOUR, book=longer) is Outcome.SPARED
    assert entry_of(maint, life).expiring_at is None
    assert expirable(maint, longer, now=due(life) + HOUR) == []


def test_a_deletion_whose_event_is_not_taken_is_repeated_as_one_event(
    maint: Connection, settings: Settings, shard: Shard, life: Life
) -> None:
    now, entry = due(life), entry_of(maint, life)
    step(maint, life, settings, now=now)

    with unheard_log() as log, pytest.raises(QueueError):
        expire_file(maint, life.name, entry.path, of_log(life, log), now=now + HOUR)
    assert entry_of(maint, life).expired_at is None

    assert step(maint, life, settings, now=now + 2 * HOUR) is Outcome.DELETED
    shard.drain()
    assert shard.rows(
        "select count(*) from audit.event_all where action = 'audit.archive.expire'"
    ) == [(1,)]


def test_a_file_of_a_partition_at_work_is_left_alone(
    admin: Connection, maint: Connection, settings: Settings, life: Life
) -> None:
    with one_at_a_time(admin, life.name), pytest.raises(PartitionBusy):
        step(maint, life, settings, now=due(life))


def test_an_unknown_file_is_nothing(maint: Connection, settings: Settings, life: Life) -> None:
    with deletion(life, settings) as given:
        assert expire_file(maint, life.name, "cold/x", given, now=due(life)) is Outcome.NOTHING
        assert expire_file(maint, "event_x", "cold/x", given, now=due(life)) is Outcome.NOTHING
