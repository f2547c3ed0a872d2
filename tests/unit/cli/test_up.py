"""`up`, `status`, `reset`, `config`, `doctor` without a platform: words, masks, refusals."""

import json
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from audit_platform.cli.app import app
from audit_platform.cli.doctor import report_text
from audit_platform.cli.up import hidden_password, ready_text, shown_value, status_text
from audit_platform.errors import AlreadyRunning, NotRunning, StartRefused
from audit_platform.local.control import (
    PlatformStatus,
    ProcessStatus,
    remove_data,
    require_removable,
    stop_running,
)
from audit_platform.local.platform_plan import make_plan
from audit_platform.local.platform_secrets import load_or_make_secrets
from audit_platform.local.platform_state import PlatformLock, prepare_data_dir
from audit_platform.selfcheck import CheckResult, Outcome, granted_commands
from audit_platform.settings import load_settings


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("redis://producer:pw@127.0.0.1:6379/0", "redis://producer:***@127.0.0.1:6379/0"),
        ("postgresql://u:p%40w@h/d?sslmode=require", "postgresql://u:***@h/d?sslmode=require"),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("bm90IGEgdXJs", "***"),
    ],
)
def test_password_is_hidden_and_the_place_is_not(secret: str, shown: str) -> None:
    assert hidden_password(secret) == shown
    assert shown_value(SecretStr(secret)) == shown


def test_config_tells_value_and_origin_of_each_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_SHARDS", "2")
    (tmp_path / ".env").write_text("AUDIT_CURSOR_KEY=top-secret\n")

    shown = CliRunner().invoke(app, ["config", "--json"])

    rows = {row["setting"]: row for row in json.loads(shown.stdout)}
    assert rows["AUDIT_SHARDS"]["value"] == 2
    assert rows["AUDIT_SHARDS"]["origin"] == "environment"
    assert rows["AUDIT_CURSOR_KEY"]["origin"] == ".env"
    assert rows["AUDIT_APP"]["origin"] == "default"
    assert "top-secret" not in shown.stdout


def test_ready_text_has_places_and_no_password(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, postgres_port=0, redis_port=0, webserver_port=0)
    plan = make_plan(settings, load_or_make_secrets(tmp_path), random=Random(1))

    text = ready_text(plan, took_s=8.34)

    assert "Ready after 8.3 s" in text
    assert plan.ui_url in text
    assert "PGPASSFILE=" in text
    for password in (*plan.secrets.database.values(), *plan.secrets.redis.values()):
        assert password not in text


def test_status_text_shows_processes_queue_and_last_batch() -> None:
    batch = dict.fromkeys(("n_read", "n_new", "n_dup", "n_late", "n_bad"), 1_234)
    status = PlatformStatus(
        is_ready=True,
        ui_url="http://127.0.0.1:3000",
        uptime_s=3_723,
        processes=(ProcessStatus(name="redis", state="running", pid=7, uptime_s=3_723, port=9),),
        queue_length={0: 1_204},
        redis_memory_share=0.734,
        overload_level={0: 2},
        last_batch={"committed_at": datetime(2026, 11, 22, tzinfo=UTC), **batch},
        partitions_ahead=7,
    )

    text = status_text(status)

    assert status.is_well
    assert "1:02:03" in text
    assert "shard 0: 1,204" in text
    assert "level shard 0: 2; Redis memory 73% used" in text
    assert "1,234 duplicate" in text


def test_ended_process_makes_the_status_unwell() -> None:
    status = PlatformStatus(
        is_ready=True,
        ui_url="",
        uptime_s=1,
        processes=(ProcessStatus(name="redis", state="ended"),),
        trouble=("Redis does not answer.",),
    )

    assert not status.is_well
    assert "Redis does not answer." in status_text(status)


def test_report_has_one_line_per_check_with_its_remedy() -> None:
    results = (
        CheckResult(name="clock", outcome=Outcome.OK, finding="0.001 s apart"),
        CheckResult(name="keys", outcome=Outcome.FAIL, finding="not set", remedy="set them"),
    )

    assert report_text(results).splitlines() == [
        "OK    clock  0.001 s apart",
        "FAIL  keys   not set – set them",
    ]


def test_reset_asks_and_keeps_the_data_without_a_yes(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    prepare_data_dir(directory)

    answered = CliRunner().invoke(app, ["reset", "--data-dir", str(directory)], input="n\n")

    assert answered.exit_code == 1
    assert directory.exists()


def test_reset_removes_a_directory_of_ours(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    prepare_data_dir(directory)
    (directory / "postgres-18").mkdir()

    answered = CliRunner().invoke(app, ["reset", "--yes", "--data-dir", str(directory)])

    assert answered.exit_code == 0
    assert not directory.exists()


def test_reset_never_touches_a_directory_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")

    with pytest.raises(StartRefused, match="not made by a platform"):
        remove_data(tmp_path)

    assert (tmp_path / "thesis.txt").exists()


def test_reset_refuses_while_a_demo_runs_below(tmp_path: Path) -> None:
    prepare_data_dir(tmp_path)
    prepare_data_dir(tmp_path / "demo")

    lock = PlatformLock(tmp_path / "demo").acquire()

    with pytest.raises(AlreadyRunning):
        remove_data(tmp_path)

    assert (tmp_path / "demo").exists()
    lock.release()


def test_reset_refuses_a_directory_in_use(tmp_path: Path) -> None:
    prepare_data_dir(tmp_path)
    lock = PlatformLock(tmp_path).acquire()

    with pytest.raises(StartRefused, match="already runs"):
        require_removable(tmp_path)

    lock.release()


def test_down_without_a_platform_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="audit-platform up"):
        stop_running(tmp_path)


def test_category_less_exceptions_is_read_as_commands() -> None:
    """Redis 6.2 describes a user by `+@stream` less what is not granted."""
    removed = ("xadd", "xgroup", "xrange", "xread", "xrevrange", "xsetid", "xtrim", "xautoclaim")
    rules = frozenset(
        {"-@all", "+@stream", "+ping", "+xgroup|create", "-xreadgroup"}
        | {f"-{command}" for command in removed}
    )

    assert granted_commands(rules) == {
        *("ping", "xgroup|create", "xack", "xclaim", "xdel", "xinfo", "xlen", "xpending"),
    }
    assert "@all" in granted_commands(frozenset({"+@all"}))
