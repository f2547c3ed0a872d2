"""What a data directory says about its platform: the lock, `platform.json`, `platform.env`.

Here: who runs on the directory, where its services listen, and the settings other commands and
applications need; written atomically. Not here: starting and stopping (`supervisor.py`).
Guarantee: at most one platform holds the lock, also after kill -9 of the last one, because the
kernel releases it; a reader sees a whole old or a whole new file, never a part.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self, cast
from urllib.parse import unquote, urlsplit

import psutil

from audit_platform.errors import AlreadyRunning, DiskFull, StartRefused
from audit_platform.settings import PLATFORM_ENV

MARKER_FILE: Final = "AUDIT_PLATFORM_DATA"
LOCK_FILE: Final = "platform.lock"
STATE_FILE: Final = "platform.json"
PASSWORD_FILE: Final = "pgpass"  # noqa: S105 - a file name
# An empty cluster of PostgreSQL 18 takes 40 MB and its log 16 MB a segment; a start with less
# than this would end in the middle.
LEAST_FREE_BYTES: Final = 256 << 20
_MARKER_TEXT = "Data directory of Audit Platform, version 1. `audit-platform reset` removes it.\n"
_PRIVATE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformState:
    """One run of the platform, as told to other processes.

    Attributes:
        pid: Process id of the supervisor.
        started_at: Seconds since 1970 at which the supervisor process was started, as the
            kernel tells it; with `pid` it names the process for good.
        is_ready: Whether everything answered once.
        ports: Port by service name; services outside are left out.
        pids: Process id by process name.
        process_started_at: Seconds since 1970 by process name.
        ui_url: Address of the Dagster UI.
    """

    pid: int
    started_at: float
    is_ready: bool
    ports: Mapping[str, int]
    ui_url: str
    pids: Mapping[str, int] = field(default_factory=dict)
    process_started_at: Mapping[str, float] = field(default_factory=dict)


class PlatformLock:
    """Exclusive right to run on a data directory."""

    def __init__(self, data_dir: Path) -> None:
        """Name the directory; nothing is opened yet."""
        self._data_dir = data_dir
        self._descriptor: int | None = None

    def acquire(self) -> Self:
        """Take the lock.

        Raises:
            AlreadyRunning: Another platform holds it; the message names its URL and pid.
        """
        descriptor = os.open(self._data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, _PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise AlreadyRunning(_already_running(self._data_dir)) from exc
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Give the lock back; the file stays, because removing it would let two in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_locked(data_dir: Path) -> bool:
    """Say whether a platform runs on the directory now."""
    try:
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def prepare_data_dir(data_dir: Path, *, least_free_bytes: int = LEAST_FREE_BYTES) -> None:
    """Create the directory and its marker; check that it is ours and has room.

    Raises:
        StartRefused: It cannot be written, or holds files of somebody else.
        DiskFull: Less than `least_free_bytes` are free.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in data_dir.iterdir()}
        if names and MARKER_FILE not in names:
            message = (
                f"Directory {data_dir} holds files that are not ours: "
                "set AUDIT_DATA_DIR to an empty or a new directory."
            )
            raise StartRefused(message, setting="AUDIT_DATA_DIR")
        # Written anew each time: the cheapest proof that the directory can be written.
        (data_dir / MARKER_FILE).write_text(_MARKER_TEXT)
        free_bytes = shutil.disk_usage(data_dir).free
    except OSError as exc:
        raise refused_by_disk(data_dir, exc) from exc
    if free_bytes < least_free_bytes:
        message = (
            f"Only {free_bytes >> 20} MiB are free for {data_dir}, "
            f"{least_free_bytes >> 20} MiB are needed: "
            "free space, or set AUDIT_DATA_DIR to another disk."
        )
        raise DiskFull(message, setting="AUDIT_DATA_DIR")


def refused_by_disk(data_dir: Path, exc: OSError) -> StartRefused:
    """Translate an error of the file system into one line that names the setting."""
    reason = (exc.strerror or str(exc)).lower()
    if exc.errno in {28, 122}:  # ENOSPC, EDQUOT
        return DiskFull(
            f"The disk of {data_dir} is full: free space, or set AUDIT_DATA_DIR to another disk.",
            setting="AUDIT_DATA_DIR",
        )
    return StartRefused(
        f"Directory {data_dir} cannot be used ({reason}): set AUDIT_DATA_DIR to one you may write.",
        setting="AUDIT_DATA_DIR",
    )


def is_ours(data_dir: Path) -> bool:
    """Say whether the directory was made by a platform; only then may it be removed."""
    with suppress(OSError):
        return (data_dir / MARKER_FILE).read_text() == _MARKER_TEXT
    return False


def write_atomically(path: Path, text: str, *, mode: int = _PRIVATE) -> None:
    """Replace a file as a whole and flush it; a crash leaves the old or the new one."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), mode)  # a left-over of a crash may have another mode
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def write_state(data_dir: Path, state: PlatformState) -> None:
    """Write `platform.json`."""
    write_atomically(data_dir / STATE_FILE, json.dumps(asdict(state), indent=2) + "\n", mode=0o644)


def read_state(data_dir: Path) -> PlatformState | None:
    """Read `platform.json`; None when there is none or it is no state of ours."""
    try:
        values: Any = json.loads((data_dir / STATE_FILE).read_text())
        return PlatformState(**cast("dict[str, Any]", values))
    except (OSError, ValueError, TypeError):
        return None


def remove_state(data_dir: Path) -> None:
    """Remove `platform.json` after an orderly stop; `platform.env` stays and names the keys."""
    (data_dir / STATE_FILE).unlink(missing_ok=True)


def running_state(data_dir: Path) -> PlatformState | None:
    """Read the state of the platform that runs now; None when none runs or it just began."""
    if not is_locked(data_dir):
        return None
    state = read_state(data_dir)
    return state if state is not None and _is_alive(state) else None


def write_platform_env(data_dir: Path, values: Mapping[str, str]) -> None:
    """Write `platform.env`, which `settings.py` reads below `.env`; only the owner can read it.

    Args:
        data_dir: The data directory.
        values: Value by variable name, `AUDIT_` included.
    """
    lines = [
        "# Written by `audit-platform up` at each start; holds secrets. Changes here are lost:",
        "# use the environment or `.env`.",
        *(f"{name}='{value}'" for name, value in sorted(values.items())),
    ]
    write_atomically(data_dir / PLATFORM_ENV, "\n".join(lines) + "\n")


def write_password_file(data_dir: Path, urls: Iterable[str]) -> None:
    """Write `pgpass` for psql, so that no password stands on a command line."""
    lines = [":".join(_password_fields(url)) for url in urls]
    write_atomically(data_dir / PASSWORD_FILE, "\n".join(lines) + "\n")


def _password_fields(url: str) -> tuple[str, ...]:
    """Host, port, database, user, password, with psql's escapes."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    values = (parts.hostname or "", str(parts.port or 5432), "*", user, password)
    return tuple(value.replace("\\", "\\\\").replace(":", "\\:") for value in values)


def _is_alive(state: PlatformState) -> bool:
    with suppress(psutil.Error):
        return abs(psutil.Process(state.pid).create_time() - state.started_at) < 1.0
    return False


def _already_running(data_dir: Path) -> str:
    state = read_state(data_dir)
    who = f"pid {state.pid}, {state.ui_url}" if state is not None else "it is starting or stopping"
    return (
        f"A platform already runs on {data_dir} ({who}): use it, "
        "stop it with `audit-platform down`, or set AUDIT_DATA_DIR to another directory."
    )
