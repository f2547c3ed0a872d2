"""Preparing services that are not there: one line with the setting to change."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from audit_platform.errors import ServiceUnreachable, WrongServerVersion
from audit_platform.local.platform_plan import PlatformPlan, make_plan
from audit_platform.local.platform_secrets import load_or_make_secrets
from audit_platform.local.prepare import (
    check_redis_version,
    endpoint,
    prepare_database,
    prepare_partitions,
    prepare_queue,
)
from audit_platform.settings import load_settings

NOBODY = "127.0.0.1:1"


@pytest.fixture
def plan(tmp_path: Path) -> PlatformPlan:
    settings = load_settings(
        data_dir=tmp_path,
        webserver_port=0,
        database_url=f"postgresql://boss:secret@{NOBODY}/events",
        redis_url=f"redis://boss:secret@{NOBODY}/0",
    )
    return make_plan(settings, load_or_make_secrets(tmp_path), random=Random(4))


def test_database_that_is_away_names_its_setting(plan: PlatformPlan) -> None:
    with pytest.raises(ServiceUnreachable, match=rf"{NOBODY}.*AUDIT_DATABASE_URL") as refused:
        prepare_database(plan)

    assert "secret" not in refused.value.message


def test_partitions_without_a_database_name_its_setting(plan: PlatformPlan) -> None:
    with pytest.raises(ServiceUnreachable, match="AUDIT_DATABASE_URL"):
        prepare_partitions(plan.values["maint_url"], plan.settings, now=datetime.now(UTC))


def test_queue_that_is_away_names_its_setting(plan: PlatformPlan) -> None:
    with pytest.raises(ServiceUnreachable, match=rf"{NOBODY}.*AUDIT_REDIS_URL") as refused:
        prepare_queue(plan)

    assert "secret" not in refused.value.message


def test_old_redis_is_refused_with_the_setting() -> None:
    with pytest.raises(WrongServerVersion, match=r"Redis 6\.0\.16 .*AUDIT_REDIS_URL"):
        check_redis_version((6, 0, 16))


@pytest.mark.parametrize("version", [(6, 2, 0), (7, 4), (8, 0, 1)])
def test_recent_redis_is_accepted(version: tuple[int, ...]) -> None:
    check_redis_version(version)


def test_endpoint_shows_neither_user_nor_password() -> None:
    assert endpoint("postgresql://boss:pw@db.example:5433/x") == "db.example:5433"
    assert endpoint("redis://:pw@db.example/0") == "db.example"
