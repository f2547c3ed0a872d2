"""The data directory: lock, marker, state, `platform.env`."""

import errno
import os
import stat
from pathlib import Path

import psutil
import pytest

from audit_platform.errors import AlreadyRunning, DiskFull, StartRefused
from audit_platform.local import platform_state
from audit_platform.local.platform_state import PlatformLock, PlatformState
from audit_platform.settings import load_settings


def a_state(**changes: object) -> PlatformState:
    own = psutil.Process()
    values: dict[str, object] = {
        "pid": own.pid,
        "started_at": own.create_time(),
        "is_ready": True,
        "ports": {"postgres": 25_432},
        "ui_url": "http://127.0.0.1:3000",
        "pids": {"postgres": own.pid},
        "process_started_at": {"postgres": own.create_time()},
    }
    return PlatformState(**{**values, **changes})  # pyright: ignore[reportArgumentType]


def test_new_directory_becomes_ours(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"

    platform_state.prepare_data_dir(directory)

    assert platform_state.is_ours(directory)


def test_directory_with_foreign_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")

    with pytest.raises(StartRefused, match="AUDIT_DATA_DIR"):
        platform_state.prepare_data_dir(tmp_path)

    assert not platform_state.is_ours(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_file_in_place_of_the_directory_names_the_setting(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")

    with pytest.raises(StartRefused, match="AUDIT_DATA_DIR"):
        platform_state.prepare_data_dir(place)


def test_too_little_space_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="AUDIT_DATA_DIR"):
        platform_state.prepare_data_dir(tmp_path, least_free_bytes=1 << 60)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EACCES, StartRefused)],
)
def test_error_of_the_file_system_is_one_line(
    tmp_path: Path, number: int, kind: type[StartRefused]
) -> None:
    refused = platform_state.refused_by_disk(tmp_path, OSError(number, os.strerror(number)))

    assert type(refused) is kind
    assert "AUDIT_DATA_DIR" in refused.message
    assert "\n" not in refused.message


def test_second_lock_names_the_first_platform(tmp_path: Path) -> None:
    first = PlatformLock(tmp_path).acquire()
    platform_state.write_state(tmp_path, a_state())

    with pytest.raises(AlreadyRunning) as refused:
        PlatformLock(tmp_path).acquire()

    assert str(os.getpid()) in refused.value.message
    assert "http://127.0.0.1:3000" in refused.value.message
    first.release()


def test_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    PlatformLock(tmp_path).acquire().release()

    assert not platform_state.is_locked(tmp_path)
    again = PlatformLock(tmp_path).acquire()
    assert platform_state.is_locked(tmp_path)
    again.release()


def test_state_survives_writing_and_reading(tmp_path: Path) -> None:
    platform_state.write_state(tmp_path, a_state())

    assert platform_state.read_state(tmp_path) == a_state()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "null"])
def test_damaged_state_reads_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / platform_state.STATE_FILE).write_text(text)

    assert platform_state.read_state(tmp_path) is None


def test_state_without_a_lock_is_no_running_platform(tmp_path: Path) -> None:
    platform_state.write_state(tmp_path, a_state())

    assert platform_state.running_state(tmp_path) is None


def test_state_of_a_reused_process_number_is_no_running_platform(tmp_path: Path) -> None:
    lock = PlatformLock(tmp_path).acquire()
    platform_state.write_state(tmp_path, a_state(started_at=1.0))

    assert platform_state.running_state(tmp_path) is None
    lock.release()


def test_replaced_file_keeps_its_mode_and_leaves_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for text in ("one", "two"):
        platform_state.write_atomically(path, text)

    assert path.read_text() == "two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_settings_read_what_the_platform_wrote(tmp_path: Path) -> None:
    url = "postgresql://audit_writer:p%27w$HOME#x@127.0.0.1:25432/audit"
    platform_state.write_platform_env(tmp_path, {"AUDIT_WRITER_URL": url, "AUDIT_SHARDS": "4"})

    settings = load_settings(data_dir=tmp_path)

    assert settings.database_url_of("writer") == url
    assert settings.shards == 4
    assert stat.S_IMODE((tmp_path / "platform.env").stat().st_mode) == 0o600


def test_password_file_is_private_and_unescaped_for_psql(tmp_path: Path) -> None:
    platform_state.write_password_file(
        tmp_path, ("postgresql://audit_reader:a%3Ab%5Cc@127.0.0.1:25432/audit",)
    )

    path = tmp_path / platform_state.PASSWORD_FILE
    assert path.read_text() == "127.0.0.1:25432:*:audit_reader:a\\:b\\\\c\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
