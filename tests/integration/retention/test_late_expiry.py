"""Late rows whose day is gone: they go by the rules and holds by which its files went."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from audit_platform.db.pool import OWNER_ROLE, Connection, connected
from audit_platform.errors import PartitionBusy, QueueError
from audit_platform.events.act_log import ActLog, opened_act_log
from audit_platform.events.completeness import read_completeness
from audit_platform.retention.classes import ClassPattern, RetentionClasses
from audit_platform.retention.expire import Deletion, Outcome, expirable, expire_file
from audit_platform.retention.holds import Hold, HoldScope, place, release
from audit_platform.retention.late_expiry import (
    ExpiredLate,
    LateDeletion,
    expire_late,
    late_partitions,
)
from audit_platform.retention.partition_states import State
from audit_platform.retention.partition_table import one_at_a_time
from audit_platform.retention.rules import Preset, RetentionRule, RuleBook
from audit_platform.retention.span import Span
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.factories import wire
from tests.integration.events.shard import Shard
from tests.integration.retention.deadly import Place, expire_rows, killed
from tests.integration.retention.lives import begin_life
from tests.integration.retention.merging import Merging, unheard_log

pytestmark = pytest.mark.integration

HOUR = timedelta(hours=1)
KEPT_DAYS = 60
CLASSES = RetentionClasses(
    patterns=(ClassPattern(source="*", action="payment.*", retention_class="payments"),)
)
BOOK = RuleBook(
    preset=Preset.DEFAULT,
    hot=Span(days=30),
    stored={
        ("*", "standard"): RetentionRule(keep=Span(days=KEPT_DAYS)),
        ("globex", "standard"): RetentionRule(keep=Span(days=90)),
        ("*", "payments"): RetentionRule(keep=Span(days=900)),
    },
)


@pytest.fixture
def merging(
    database: Database, maint: Connection, settings: Settings, tmp_path: Path, shard: Shard
) -> Merging:
    """A day whose files expired, and rows that came for it after that."""
    del shard
    life = begin_life(database, tmp_path, rows=30)
    made = Merging(conn=maint, database=database, settings=settings, life=life)
    made.bring_to(State.DROPPED)
    with opened_act_log(settings) as log:
        context = life.context()
        given = Deletion(book=BOOK, store=context.store, copy_store=context.copy_store, log=log)
        for now in (due(made), due(made) + HOUR):
            for file in expirable(maint, BOOK, now=now):
                expire_file(maint, file.partition, file.entry.path, given, now=now)
    made.store(made.late_events(2, tenant_id="acme"))
    made.store(made.late_events(3, tenant_id="globex"))
    made.store(made.late_events(4, tenant_id="acme", action="payment.refund"))
    (report,) = made.merge(now=due(made))
    assert report.skipped is not None
    return made


def due(merging: Merging, days: int = KEPT_DAYS) -> datetime:
    return merging.life.bounds.hi + timedelta(days=days)


@contextmanager
def deletion(merging: Merging) -> Iterator[LateDeletion]:
    with opened_act_log(merging.settings) as log:
        yield of_log(log)


def of_log(log: ActLog) -> LateDeletion:
    return LateDeletion(book=BOOK, classes=CLASSES, log=log)


def expire(merging: Merging, *, now: datetime) -> list[ExpiredLate]:
    with deletion(merging) as given:
        return expire_late(merging.conn, merging.life.name, given, now=now)


def waiting(shard: Shard) -> dict[tuple[str, str], int]:
    """Late rows by tenant and action."""
    rows = shard.rows("select tenant_id, action, count(*) from audit.event_late group by 1, 2")
    return {(tenant_id, action): count for tenant_id, action, count in rows}


def hold(merging: Merging, tenant: str) -> Hold:
    return place(
        merging.conn,
        hold_id=uuid4(),
        case_id="case-1",
        scope=HoldScope(tenant_id=tenant, lo=merging.life.bounds.lo, hi=merging.life.bounds.hi),
        reason="a court asks for it",
        placed_by="ada",
        now=due(merging),
    )


def test_rows_go_by_the_rule_of_their_tenant_and_class(merging: Merging, shard: Shard) -> None:
    before = waiting(shard)
    assert late_partitions(merging.conn) == [merging.life.name]

    early = expire(merging, now=due(merging) - HOUR)
    first = expire(merging, now=due(merging))
    second = expire(merging, now=due(merging, 90))

    assert early == []
    assert [(one.tenant_id, one.retention_class, one.rows) for one in first] == [
        ("acme", "standard", 2)
    ]
    assert [(one.tenant_id, one.rows, one.outcome) for one in second] == [
        ("globex", 3, Outcome.DELETED)
    ]
    left = ("acme", "payment.refund")
    assert waiting(shard) == {left: before[left]}


def test_each_deletion_is_an_event_of_the_log(merging: Merging, shard: Shard) -> None:
    expire(merging, now=due(merging))

    shard.drain()

    ((user_id, entity_id, metadata),) = shard.rows(
        "select user_id, entity_id, metadata from audit.event_all"
        " where action = 'audit.late.expire'"
    )
    assert (user_id, entity_id) == ("retention", merging.life.name)
    assert (metadata["tenant"], metadata["class"], metadata["rows"]) == ("acme", "standard", 2)


@pytest.mark.parametrize("tenant", ["acme", "*"])
def test_a_hold_keeps_late_rows_of_its_tenant(merging: Merging, shard: Shard, tenant: str) -> None:
    made = hold(merging, tenant)
    before = waiting(shard)

    found = expire(merging, now=due(merging, 90))

    outcomes = {one.tenant_id: one.outcome for one in found}
    assert outcomes["acme"] is Outcome.HELD
    assert outcomes["globex"] is (Outcome.HELD if tenant == "*" else Outcome.DELETED)
    assert {key: n for key, n in waiting(shard).items() if key[0] == "acme"} == {
        key: n for key, n in before.items() if key[0] == "acme"
    }
    release(merging.conn, [made.hold_id], released_by="ada", now=due(merging))
    assert Outcome.HELD not in {one.outcome for one in expire(merging, now=due(merging, 90))}
    assert {key[1] for key in waiting(shard)} == {"payment.refund"}


def test_without_the_log_nothing_goes(merging: Merging, shard: Shard) -> None:
    before = waiting(shard)

    with unheard_log() as log, pytest.raises(QueueError):
        expire_late(merging.conn, merging.life.name, of_log(log), now=due(merging))

    assert waiting(shard) == before


def test_a_deletion_killed_before_its_commit_is_repeated(
    admin: Connection, merging: Merging, shard: Shard
) -> None:
    before = waiting(shard)
    doomed = Place(
        maint_url=merging.database.maint_url,
        redis_url=merging.settings.redis_url.get_secret_value(),
        key_prefix=merging.settings.key_prefix,
        life=merging.life,
        now=due(merging),
        deadly="log",
    )

    killed(admin, expire_rows, doomed, BOOK)

    assert waiting(shard) == before
    assert [one.rows for one in expire(merging, now=due(merging))] == [2]


def test_rows_of_a_partition_at_work_are_left_alone(admin: Connection, merging: Merging) -> None:
    with one_at_a_time(admin, merging.life.name), pytest.raises(PartitionBusy):
        expire(merging, now=due(merging))


def test_only_rows_of_a_dropped_day_go(
    database: Database, merging: Merging, shard: Shard, tmp_path: Path
) -> None:
    life = begin_life(database, tmp_path / "other", rows=5, day=merging.life.bounds.hi)
    other = replace(merging, life=life)
    other.bring_to(State.DETACHED)
    other.store(other.late_events(1, tenant_id="acme"))
    before = waiting(shard)

    assert expire(other, now=due(other, 9_000)) == []

    assert waiting(shard) == before
    assert late_partitions(merging.conn) == [merging.life.name]


def test_their_numbers_are_late_no_more(merging: Merging, shard: Shard) -> None:
    events = merging.late_events(3, tenant_id="acme")
    shard.add_batch([wire(one) for one in events], p=17, e=4, s=1)
    shard.drain()

    def account() -> tuple[int, int, int]:
        url = merging.database.maint_url
        with connected(url, application="test", role=OWNER_ROLE) as conn:
            (one,) = read_completeness(conn, producer_ids=[17]).accounts
        return one.accepted, one.stored, one.late

    assert account() == (3, 0, 3)
    expire(merging, now=due(merging))
    assert account() == (3, 3, 0)
