"""The directory of a demo: claimed, emptied, and never somebody else's."""

from pathlib import Path

import pytest

from audit_platform.errors import AlreadyRunning, StartRefused
from audit_platform.local.traffic.place import claimed_place, demo_settings


def test_two_demos_at_once_take_two_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with claimed_place(None) as first, claimed_place(None) as second:
        assert first.data_dir == tmp_path / ".audit-platform" / "demo"
        assert second.data_dir == tmp_path / ".audit-platform" / "demo-2"


def test_only_one_demo_of_a_machine_takes_the_default_ports(tmp_path: Path) -> None:
    with claimed_place(tmp_path / "a"), claimed_place(tmp_path / "b") as second:
        settings = demo_settings(second)

    assert not second.has_default_ports
    assert {settings.postgres_port, settings.redis_port, settings.webserver_port} == {0}


def test_the_next_demo_removes_what_the_last_one_left(tmp_path: Path) -> None:
    with claimed_place(tmp_path / "demo") as place:
        (place.data_dir / "leftover").write_text("x")

    with claimed_place(tmp_path / "demo") as place:
        assert place.was_replaced
        assert not (place.data_dir / "leftover").exists()


def test_a_named_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        claimed_place(tmp_path / "demo"),
        pytest.raises(AlreadyRunning),
        claimed_place(tmp_path / "demo"),
    ):
        pass


def test_a_directory_that_is_no_demo_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")

    with pytest.raises(StartRefused, match="something else"), claimed_place(tmp_path):
        pass

    assert (tmp_path / "precious").exists()


def test_a_demo_never_uses_servers_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", "postgresql://admin@db.example/real")
    monkeypatch.setenv("AUDIT_REDIS_URL", "redis://redis.example/0")
    with claimed_place(tmp_path / "demo") as place:
        settings = demo_settings(place)

    assert settings.database_url is None
    assert settings.redis_url.get_secret_value() == ""
