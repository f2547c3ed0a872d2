"""The plan of a start: which services are ours, ports, URLs, what is written."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from audit_platform.errors import StartRefused, WrongServerVersion
from audit_platform.local.platform_plan import PlatformPlan, Service, make_plan
from audit_platform.local.platform_secrets import SECRETS_FILE, load_or_make_secrets
from audit_platform.local.platform_state import write_platform_env
from audit_platform.settings import load_settings

FREE: dict[str, Any] = {"postgres_port": 0, "redis_port": 0, "webserver_port": 0}


def plan_of(data_dir: Path, **overrides: object) -> PlatformPlan:
    settings = load_settings(data_dir=data_dir, **{**FREE, **overrides})
    return make_plan(settings, load_or_make_secrets(data_dir), random=Random(5))


def test_without_urls_both_services_are_embedded(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)

    assert plan.postgres is not None
    assert plan.redis is not None
    assert set(plan.ports) == {
        Service.POSTGRES,
        Service.REDIS,
        Service.CODE_SERVER,
        Service.WEBSERVER,
    }
    assert len(set(plan.ports.values())) == 4
    assert f":{plan.ports[Service.REDIS]}/" in plan.values["redis_url"]


def test_each_role_gets_its_own_login(tmp_path: Path) -> None:
    values = plan_of(tmp_path).values

    urls = [value for name, value in values.items() if name.endswith("_url") and "@" in value]
    logins = {url.split("//")[1].split("@")[0] for url in urls}
    assert len(logins) == 8
    assert "audit_admin" not in " ".join(logins)


def test_named_servers_are_used_and_get_no_port(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        database_url="postgresql://boss:pw@db.example:5433/events",
        redis_url="redis://queue.example:6380/0",
    )

    assert plan.postgres is None
    assert plan.redis is None
    assert Service.POSTGRES not in plan.ports
    assert plan.values["writer_url"].startswith("postgresql://audit_writer:")
    assert plan.values["writer_url"].endswith("@db.example:5433/events")
    assert plan.values["dagster_url"].endswith("/events_dagster")
    assert plan.values["redis_consumer_url"] == "redis://queue.example:6380/0"
    assert "queue.example" not in str(plan.file_values)


def test_urls_of_the_last_start_do_not_count_as_named_by_the_user(tmp_path: Path) -> None:
    write_platform_env(tmp_path, plan_of(tmp_path).file_values)

    again = plan_of(tmp_path)

    assert again.redis is not None
    assert again.postgres is not None
    assert again.given == frozenset()


def test_another_shell_looks_in_the_archive_that_this_start_uses(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, archive_url="s3://bucket/audit", archive_copy_url="file:///mnt/copy")
    write_platform_env(tmp_path, plan.file_values)

    other = load_settings(data_dir=tmp_path)

    assert other.archive_place() == "s3://bucket/audit"
    assert other.archive_copy_url == "file:///mnt/copy"


def test_archive_lies_in_the_data_directory_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    values = plan_of(tmp_path).file_values

    assert values["AUDIT_ARCHIVE_URL"] == (tmp_path / "archive").as_uri()
    assert "AUDIT_ARCHIVE_COPY_URL" not in values


def test_place_that_only_the_last_start_named_is_not_kept(tmp_path: Path) -> None:
    """The data directory was moved, and the second copy is no longer wanted."""
    (tmp_path / "old").mkdir()
    old = plan_of(tmp_path / "old", archive_copy_url="file:///mnt/copy").file_values
    (tmp_path / "new").mkdir()
    write_platform_env(tmp_path / "new", old)

    values = plan_of(tmp_path / "new").file_values

    assert values["AUDIT_ARCHIVE_URL"] == (tmp_path / "new" / "archive").as_uri()
    assert "AUDIT_ARCHIVE_COPY_URL" not in values


def test_place_that_somebody_repeats_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_platform_env(tmp_path, {"AUDIT_ARCHIVE_URL": "s3://bucket/audit"})
    monkeypatch.setenv("AUDIT_ARCHIVE_URL", "s3://bucket/audit")

    assert plan_of(tmp_path).values["archive_url"] == "s3://bucket/audit"


def test_cluster_of_another_version_is_not_left_behind(tmp_path: Path) -> None:
    (tmp_path / "postgres-16").mkdir()

    with pytest.raises(WrongServerVersion, match="AUDIT_POSTGRES_VERSION=16"):
        plan_of(tmp_path, postgres_version=18)

    assert plan_of(tmp_path, postgres_version=16).postgres is not None


def test_secrets_stay_the_same_from_start_to_start(tmp_path: Path) -> None:
    first, second = load_or_make_secrets(tmp_path), load_or_make_secrets(tmp_path)

    assert first == second
    assert first.database["writer"] != first.database["reader"]


def test_damaged_secrets_are_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / SECRETS_FILE
    path.write_text("{")

    with pytest.raises(StartRefused, match="backup"):
        load_or_make_secrets(tmp_path)

    assert path.read_text() == "{"


def test_what_the_user_gave_is_used_but_never_written(tmp_path: Path) -> None:
    key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    plan = plan_of(tmp_path, dead_letter_key=key, reader_url="postgresql://r:pw@127.0.0.1/audit")

    assert plan.values["dead_letter_key"] == key
    assert plan.values["reader_url"] == "postgresql://r:pw@127.0.0.1/audit"
    assert "AUDIT_DEAD_LETTER_KEY" not in plan.file_values
    assert "AUDIT_READER_URL" not in plan.file_values
    assert "AUDIT_WRITER_URL" in plan.file_values


def test_administrator_is_never_written(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)

    assert plan.secrets.database["admin"] not in " ".join(plan.file_values.values())


def test_plan_shows_no_secret_when_printed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)

    shown = repr(plan)
    for password in (*plan.secrets.database.values(), *plan.secrets.redis.values()):
        assert password not in shown
