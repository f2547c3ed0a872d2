"""Command lines and environments of the children."""

from pathlib import Path
from random import Random

import pytest

from audit_platform.local.children import dagster_children, settings_environment
from audit_platform.local.dagster_home import dagster_environment, write_home
from audit_platform.local.platform_plan import PlatformPlan, Service, make_plan
from audit_platform.local.platform_secrets import load_or_make_secrets
from audit_platform.local.processes import MARK, ChildSpec
from audit_platform.settings import Settings, load_settings


@pytest.fixture
def plan(tmp_path: Path) -> PlatformPlan:
    settings = load_settings(
        data_dir=tmp_path, postgres_port=0, redis_port=0, webserver_port=0, shards=3
    )
    return make_plan(settings, load_or_make_secrets(tmp_path), random=Random(2))


@pytest.fixture
def children(plan: PlatformPlan, tmp_path: Path) -> dict[Service, ChildSpec]:
    return dagster_children(plan, tmp_path)


def test_no_secret_is_on_a_command_line(
    plan: PlatformPlan, children: dict[Service, ChildSpec]
) -> None:
    words = " ".join(word for spec in children.values() for word in spec.argv)

    for password in (*plan.secrets.database.values(), *plan.secrets.redis.values()):
        assert password not in words


def test_dagster_gets_urls_mark_and_bytecode(
    plan: PlatformPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("AUDIT_DATABASE_URL", "postgresql://boss:pw@db/x")

    environment = dagster_children(plan, tmp_path)[Service.CODE_SERVER].environment

    assert environment["AUDIT_WRITER_URL"] == plan.values["writer_url"]
    assert environment["AUDIT_SHARDS"] == "3"
    assert environment[MARK] == str(plan.data_dir)
    assert environment["DAGSTER_POSTGRES_URL"].startswith("postgresql+psycopg2://audit_dagster:")
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert "AUDIT_DATABASE_URL" not in environment


def test_settings_survive_the_way_through_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = load_settings(
        data_dir=tmp_path,
        postgres_version=16,
        redact_keys="pin,secret",
        batch_preset="low",
        drain_idle_s=2.5,
        app="shop",
        restore_drill_enabled=False,
        export_dir=tmp_path / "exports",
        archive_url="s3://bucket/audit",
        archive_copy_url="file:///mnt/copy",
    )
    for name, value in settings_environment(given, data_dir=tmp_path).items():
        monkeypatch.setenv(name, value)

    received = load_settings()

    differing = [
        name
        for name in Settings.model_fields
        if (not name.endswith("_url") or name.startswith("archive_"))
        and getattr(received, name) != getattr(given, name)
    ]
    assert differing == []


def test_relative_paths_reach_a_child_in_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = load_settings(data_dir=tmp_path, export_dir="exports")

    environment = settings_environment(given, data_dir=tmp_path)

    assert environment["AUDIT_EXPORT_DIR"] == str(tmp_path / "exports")


def test_home_names_the_code_server(tmp_path: Path) -> None:
    home = write_home(tmp_path, host="127.0.0.1", code_server_port=23_456)

    assert "23456" in (home / "workspace.yaml").read_text()
    assert "storage" in (home / "dagster.yaml").read_text()


def test_driver_of_the_storage_is_named(tmp_path: Path) -> None:
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        url = dagster_environment(tmp_path, f"{scheme}://u:p@h/d")["DAGSTER_POSTGRES_URL"]

        assert url == "postgresql+psycopg2://u:p@h/d"
