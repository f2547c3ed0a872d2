"""Self-checks against real services: each finds what it is there for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit_platform.db.pool import connected
from audit_platform.errors import StartRefused
from audit_platform.events.stream import Consumer
from audit_platform.local.readiness import refuse_unsafe_start
from audit_platform.selfcheck import CheckResult, Outcome, run_checks
from audit_platform.settings import Settings, load_settings
from tests.conftest import Database, RedisSpace

pytestmark = pytest.mark.integration


def clock() -> datetime:
    return datetime.now(UTC)


def checked(settings: Settings, *, clock: Callable[[], datetime] = clock) -> dict[str, CheckResult]:
    return {result.name: result for result in run_checks(settings, clock=clock)}


@pytest.fixture
def prepared(settings: Settings) -> Settings:
    """Settings of services that are as `up` leaves them, durability of the test server apart."""
    with Consumer(
        settings.redis_url_of("janitor"), key_prefix=settings.key_prefix, shard=0
    ) as consumer:
        consumer.ensure_group()
    return settings


@contextmanager
def altered(url: str, before: str, after: str) -> Iterator[None]:
    """Change something for one test and change it back."""
    with connected(url, application="tests") as connection:
        connection.execute(before.encode())
        try:
            yield
        finally:
            connection.execute(after.encode())


def test_prepared_services_pass_every_check(prepared: Settings) -> None:
    results = checked(prepared)

    # The test server runs without fsync, for speed; that this is found has its own test.
    failed = {name for name, result in results.items() if result.outcome is Outcome.FAIL}
    assert failed == {"PostgreSQL durability"}
    assert len(results) == 11


def test_server_that_loses_commits_is_refused(prepared: Settings) -> None:
    result = checked(prepared)["PostgreSQL durability"]

    assert result.refuses_start
    assert "fsync" in result.finding


def test_start_is_refused_in_one_line_that_names_the_item(prepared: Settings) -> None:
    with pytest.raises(StartRefused) as refused:
        refuse_unsafe_start(prepared)

    assert "PostgreSQL durability: fsync" in refused.value.message
    assert "postgresql.conf" in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("grant", "revoke", "found"),
    [
        (
            "grant delete on audit.event to audit_writer",
            "revoke delete on audit.event from audit_writer",
            "DELETE on event",
        ),
        (
            "grant select (metadata) on audit.event to audit_writer",
            "revoke select (metadata) on audit.event from audit_writer",
            "SELECT on event.metadata",
        ),
        (
            "grant select on audit.event_all to public",
            "revoke select on audit.event_all from public",
            "SELECT on event_all",
        ),
    ],
)
def test_right_too_many_of_the_writer_is_found(
    prepared: Settings, database: Database, grant: str, revoke: str, found: str
) -> None:
    with altered(database.admin_url, grant, revoke):
        result = checked(prepared)["writer privileges"]

    assert result.refuses_start
    assert found in result.finding


def test_grant_on_a_partition_is_found(prepared: Settings, database: Database) -> None:
    with connected(database.admin_url, application="tests") as connection:
        row = connection.execute("select name from audit.partition limit 1").fetchone()
    assert row is not None
    grant = f"grant select on audit.{row[0]} to audit_reader"
    revoke = f"revoke select on audit.{row[0]} from audit_reader"

    with altered(database.admin_url, grant, revoke):
        result = checked(prepared)["partition grants"]

    assert result.refuses_start
    assert row[0] in result.finding


def test_short_runway_is_found(prepared: Settings) -> None:
    in_seven_days = checked(prepared, clock=lambda: clock() + timedelta(days=7))

    assert in_seven_days["partitions ahead"].refuses_start


@pytest.mark.parametrize("offset_s", [-6, 6])
def test_wrong_clock_is_found(prepared: Settings, offset_s: int) -> None:
    results = checked(prepared, clock=lambda: clock() + timedelta(seconds=offset_s))

    assert results["clock"].refuses_start


def test_missing_group_is_found(settings: Settings) -> None:
    result = checked(settings)["consumer groups"]

    assert result.refuses_start
    assert "shard 0" in result.finding


@pytest.mark.parametrize(
    ("parameter", "value", "usual"),
    [("maxmemory-policy", "allkeys-lru", "noeviction"), ("appendonly", "no", "yes")],
)
def test_redis_that_may_lose_entries_is_refused(
    prepared: Settings, redis_space: RedisSpace, parameter: str, value: str, usual: str
) -> None:
    redis_space.cli("config", "set", parameter, value)
    try:
        result = checked(prepared)["Redis policy"]
    finally:
        redis_space.cli("config", "set", parameter, usual)

    assert result.refuses_start
    assert f"{parameter} is {value}" in result.finding


def test_redis_user_with_too_many_rights_is_found(
    prepared: Settings, redis_space: RedisSpace
) -> None:
    redis_space.cli("acl", "setuser", "sensor", "+flushall")
    try:
        result = checked(prepared)["Redis users"]
    finally:
        redis_space.cli("acl", "setuser", "sensor", "-flushall")

    assert result.outcome is Outcome.FAIL
    assert "sensor flushall" in result.finding


def test_missing_key_is_found(prepared: Settings) -> None:
    result = checked(prepared.model_copy(update={"dead_letter_key": None}))["keys"]

    assert result.refuses_start
    assert "AUDIT_DEAD_LETTER_KEY" in result.finding


def test_database_that_is_away_is_a_result(prepared: Settings) -> None:
    away = load_settings(
        **{
            **{name: getattr(prepared, name) for name in prepared.model_fields_set},
            "writer_url": "postgresql://audit_writer:x@127.0.0.1:1/audit",
        }
    )

    results = checked(away)

    assert results["PostgreSQL"].outcome is Outcome.FAIL
    assert results["PostgreSQL"].remedy


def test_settings_without_a_platform_are_a_result(tmp_path: Path) -> None:
    results = checked(load_settings(data_dir=tmp_path))

    assert results["keys"].outcome is Outcome.FAIL
    assert "AUDIT_WRITER_URL" in results["PostgreSQL"].finding


def test_redis_without_a_memory_limit_is_found(prepared: Settings, redis_space: RedisSpace) -> None:
    usual = redis_space.cli("config", "get", "maxmemory").split()[-1]
    redis_space.cli("config", "set", "maxmemory", "0")
    try:
        result = checked(prepared)["Redis memory"]
    finally:
        redis_space.cli("config", "set", "maxmemory", usual)

    assert result.outcome is Outcome.FAIL
    assert "maxmemory" in result.remedy


def test_redis_that_is_over_half_full_is_a_warning(
    prepared: Settings, redis_space: RedisSpace
) -> None:
    usual = redis_space.cli("config", "get", "maxmemory").split()[-1]
    # Written before the limit is set: a full Redis would take no other check's entries either.
    redis_space.cli("config", "set", "maxmemory", "4mb")
    redis_space.cli("setrange", f"{redis_space.prefix}:filler", str(2 << 20), "x")
    try:
        result = checked(prepared)["Redis memory"]
    finally:
        redis_space.cli("config", "set", "maxmemory", usual)
        redis_space.cli("del", f"{redis_space.prefix}:filler")

    assert result.outcome is Outcome.WARN
    assert "MiB used" in result.finding
