"""Planted gaps are found exactly: in the accounts, in the rows, on the command line."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from audit_platform.cli.app import app
from audit_platform.client.core import producer_id_of
from audit_platform.db.pool import OWNER_ROLE, connected
from audit_platform.events.completeness import (
    Account,
    Completeness,
    EpochState,
    count,
    read_completeness,
)
from tests.factories import event, wire
from tests.integration.events.control import end, loss, report, sampled
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.integration

PRODUCER, EPOCH, CONTROL = 17, 4_242, 99
SEED = 20_261_122


def read(shard: Shard, **options: Any) -> Completeness:
    url = shard.settings.database_url_of("maint")
    with connected(url, application="test", role=OWNER_ROLE) as connection:
        return read_completeness(connection, **options)


def account(found: Completeness, epoch: int = EPOCH) -> Account:
    (one,) = [one for one in found.accounts if one.epoch == epoch]
    return one


def add(shard: Shard, numbers: range, *, epoch: int = EPOCH) -> None:
    lines = [wire(event()) for _ in numbers]
    shard.add_batch(lines, p=PRODUCER, e=epoch, s=numbers.start)


def test_every_number_has_one_account(shard: Shard) -> None:
    old = wire(event(timestamp=datetime.now(UTC) - timedelta(days=40)))
    shard.add_batch([wire(event()), old, b"{", wire(event())], p=PRODUCER, e=EPOCH, s=11)
    shard.add_batch(
        [
            loss(PRODUCER, EPOCH, [[1, 4]], reason="shed"),
            loss(PRODUCER, EPOCH, [[5, 5], [15, 16]], reason="spool_full"),
            end(PRODUCER, [[EPOCH, 20]], unclean=True),
            sampled(PRODUCER, CONTROL, [["web", "a", "sampled", 9], ["web", "b", "dropped", 4]]),
            report("end", producer_id=PRODUCER, ended=[], unclean=False, name="billing"),
        ],
        p=PRODUCER,
        e=CONTROL,
        s=1,
    )
    shard.add_event(wire(event()))
    shard.drain()

    found = read(shard)

    one = account(found)
    assert (one.name, one.state, one.accepted) == ("billing", EpochState.UNCLEAN, 20)
    assert (one.stored, one.late, one.dead, one.declared_count) == (2, 1, 1, 7)
    assert one.declared == {"shed": 4, "spool_full": 3}
    assert one.missing == ((6, 10), (17, 20))
    assert one.accepted == one.stored + one.late + one.dead + one.declared_count + one.missing_count
    assert found.left_out == {PRODUCER: {"sampled": 9, "dropped": 4}}
    assert found.unstamped == 1
    assert account(found, CONTROL).is_complete
    assert not found.is_complete


def test_skipped_numbers_are_found_exactly(shard: Shard) -> None:
    """Numbers from one seed; what was not sent is what is missing, neither more nor less."""
    rnd = random.Random(SEED)
    sent = sorted(rnd.sample(range(1, 401), 250))
    for number in sent:
        shard.add_batch([wire(event())], p=PRODUCER, e=EPOCH, s=number)
    shard.add_batch([end(PRODUCER, [[EPOCH, 420]])], p=PRODUCER, e=CONTROL, s=1)
    shard.drain()

    one = account(read(shard))

    missing = {number for first, last in one.missing for number in range(first, last + 1)}
    assert missing == set(range(1, 421)) - set(sent)
    assert one.stored == len(sent)


def test_a_deleted_row_is_found_by_counting_rows(shard: Shard) -> None:
    add(shard, range(1, 51))
    shard.drain()
    assert read(shard, is_verified=True).is_complete
    shard.sql.execute(b"delete from audit.event where producer_seq in (7, 8, 30)")

    believed, counted = read(shard), account(read(shard, is_verified=True))

    assert believed.is_complete
    assert counted.check is not None
    assert counted.check.rows == 47
    assert counted.check.without_row == ((7, 8), (30, 30))
    assert counted.check.without_ledger == ()
    assert not counted.is_complete


def test_a_deleted_ledger_is_found_both_ways(shard: Shard) -> None:
    add(shard, range(1, 21))
    add(shard, range(1, 4), epoch=EPOCH + 1)
    shard.drain()
    shard.sql.execute(b"update audit.producer_numbers set r = r - '{[5,8)}' where epoch = 4242")
    for table in ("producer_epoch", "producer_numbers"):
        shard.sql.execute(f"delete from audit.{table} where epoch = 4243".encode())

    found = read(shard, is_verified=True)

    one, unknown = account(found), account(found, EPOCH + 1)
    assert one.missing == ((5, 7),)
    assert one.check is not None
    assert one.check.without_ledger == ((5, 7),)
    assert unknown.check is not None
    assert (unknown.accepted, unknown.check.without_ledger) == (0, ((1, 3),))
    assert not unknown.is_complete


def test_late_and_bad_events_need_no_row_of_the_event_table(shard: Shard) -> None:
    old = wire(event(timestamp=datetime.now(UTC) - timedelta(days=40)))
    shard.add_batch([wire(event()), old, b"{"], p=PRODUCER, e=EPOCH, s=1)
    shard.drain()

    found = read(shard, is_verified=True)

    assert found.is_complete
    check = account(found).check
    assert check is not None
    assert check.rows == 2


def test_a_gap_settles_after_a_quarter_of_an_hour(shard: Shard) -> None:
    add(shard, range(1, 3))
    add(shard, range(5, 7))
    shard.drain()
    young = account(read(shard))
    columns = ("updated_at", "older_at", "newer_at")
    aged = ", ".join(f"{name} = {name} - interval '16 min'" for name in columns)
    shard.sql.execute(f"update audit.producer_epoch set {aged}".encode())

    old = account(read(shard))

    assert (young.missing, young.settled_missing) == (((3, 4),), ())
    assert old.settled_missing == ((3, 4),)
    assert count(old.settled_missing) == 2


def test_only_the_asked_producers_and_times_are_read(shard: Shard) -> None:
    add(shard, range(1, 3))
    shard.add_batch([wire(event())], p=18, e=1, s=1)
    shard.drain()

    assert [one.producer_id for one in read(shard, producer_ids=[18]).accounts] == [18]
    assert read(shard, producer_ids=[]).accounts == ()
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert read(shard, since=later).accounts == ()
    assert len(read(shard, since=later - timedelta(minutes=10)).accounts) == 2


@pytest.fixture
def _environment(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_MAINT_URL", shard.settings.database_url_of("maint"))
    monkeypatch.setenv("AUDIT_DATA_DIR", str(shard.settings.data_dir))
    monkeypatch.setenv("COLUMNS", "160")


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["completeness", *arguments])


@pytest.mark.usefixtures("_environment")
def test_command_is_content_when_nothing_is_missing(shard: Shard) -> None:
    add(shard, range(1, 6))
    shard.drain()

    result = _run("--verify")

    assert result.exit_code == 0, result.output
    assert "every number is accounted for: 5 accepted, 5 stored" in result.output


@pytest.mark.usefixtures("_environment")
def test_command_names_the_missing_numbers_and_fails(shard: Shard) -> None:
    add(shard, range(1, 6))
    add(shard, range(9, 10))
    shard.add_batch([wire(event())], p=18, e=1, s=1)
    shard.add_event(wire(event()))
    shard.drain()

    result = _run()

    assert result.exit_code == 1
    assert "17:4242 (open): missing 6-8 (3 of them for less than 15 minutes)" in result.output
    assert "numbers are missing: 10 accepted, 7 stored" in result.output
    assert "1 events came without a number" in result.output
    assert _run("--producer", "18").exit_code == 0
    assert _run("--producer", "nobody").output.startswith("no producer that gives numbers")


@pytest.mark.usefixtures("_environment")
def test_command_finds_a_producer_by_its_name_in_every_slot(shard: Shard) -> None:
    for slot in (0, 3):
        number = producer_id_of("billing", slot)
        shard.add_batch([wire(event())], p=number, e=slot, s=1)
    add(shard, range(5, 6))
    shard.drain()

    result = _run("--producer", "billing", "--json")

    assert result.exit_code == 0, result.output
    found = {one["producer_id"] for one in json.loads(result.output)["accounts"]}
    assert found == {producer_id_of("billing", 0), producer_id_of("billing", 3)}


@pytest.mark.usefixtures("_environment")
def test_command_gives_json_of_incomplete_runs_only(shard: Shard) -> None:
    add(shard, range(3, 6))
    shard.add_batch([wire(event())], p=18, e=1, s=1)
    shard.drain()

    result = _run("--only-incomplete", "--json", "--since", "2020-01-01")

    assert result.exit_code == 1
    found = json.loads(result.output)
    (one,) = found["accounts"]
    assert (one["missing_ranges"], one["missing"], one["stored"]) == ([[1, 2]], 2, 3)
    assert found["is_complete"] is False


@pytest.mark.usefixtures("_environment")
def test_command_without_any_producer_says_so(shard: Shard) -> None:
    shard.add_event(wire(event()))
    shard.drain()

    result = _run()

    assert result.exit_code == 0
    assert "1 events came without a number" in result.output
