"""Where a demo lives: a data directory of its own, emptied first, and its settings.

Here: choosing `demo`, `demo-2`, … so that two demos at once do no harm, removing what the last
demo left, and settings under which nothing outside is touched. Not here: the platform itself
(`supervisor.py`).
Guarantee: only a directory that an earlier demo marked as its own is ever removed.
"""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from audit_platform.errors import AlreadyRunning, StartRefused
from audit_platform.local import postgres
from audit_platform.local.leftovers import clear_leftovers
from audit_platform.local.platform_state import is_locked, prepare_data_dir
from audit_platform.local.ports import is_free
from audit_platform.settings import DEFAULT_DATA_DIR, Settings, load_settings

_MARKER: Final = "AUDIT_PLATFORM_DEMO"
_MARKER_TEXT: Final = "Data of `audit-platform demo`; the next demo removes this directory.\n"
_MACHINE_CLAIM: Final = "\0audit-platform-demo"
_PORTS: Final = ("postgres_port", "redis_port", "webserver_port")
# A demo is never to write into a server that the environment names for real work.
_OWN_SERVICES: Final = (
    *("database_url", "writer_url", "reader_url", "maint_url", "dagster_url"),
    *("redis_consumer_url", "redis_sensor_url", "redis_janitor_url"),
    *("dead_letter_key", "cursor_key"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A data directory that belongs to this demo until its end."""

    data_dir: Path
    was_replaced: bool
    """Whether the data of an earlier demo was removed."""
    has_default_ports: bool
    """Whether this is the one demo of the machine that may take the default ports."""

    @property
    def history_dir(self) -> Path:
        """Where the producers write what the queue has taken."""
        return self.data_dir / "history"


@contextmanager
def claimed_place(data_dir: Path | None) -> Iterator[Place]:
    """Claim a directory for one demo and empty it.

    Args:
        data_dir: The one to use; None takes the first of `demo`, `demo-2`, … in the default data
            directory that no other demo uses.

    Raises:
        AlreadyRunning: A platform runs on the named directory.
        StartRefused: The named directory holds something else than a demo.
    """
    base = DEFAULT_DATA_DIR.absolute()
    candidates = [data_dir.absolute()] if data_dir else (base / _name(n) for n in count(1))
    if data_dir is None:
        prepare_data_dir(base)  # so that a later `audit-platform up` finds its own directory
    for candidate in candidates:
        candidate.parent.mkdir(parents=True, exist_ok=True)
        claim = os.open(
            candidate.with_name(f".{candidate.name}.claim"), os.O_RDWR | os.O_CREAT, 0o600
        )
        try:
            if _is_claimed(claim) and not is_locked(candidate):
                with _default_ports() as has_default_ports:
                    yield Place(
                        data_dir=candidate,
                        was_replaced=_emptied(candidate),
                        has_default_ports=has_default_ports,
                    )
                return
        finally:
            os.close(claim)
    raise AlreadyRunning(
        f"A platform already runs on {data_dir}: stop it, or name another --data-dir."
    )


def demo_settings(place: Place) -> Settings:
    """Make settings for embedded services only, with any free port where a default is taken."""
    given = load_settings(data_dir=place.data_dir)
    ports = {
        name: port if place.has_default_ports and port and is_free(given.host, port) else 0
        for name in _PORTS
        for port in (getattr(given, name),)
    }
    return load_settings(
        data_dir=place.data_dir, redis_url="", **dict.fromkeys(_OWN_SERVICES), **ports
    )


@contextmanager
def _default_ports() -> Iterator[bool]:
    """Whether the default ports are ours during the block.

    That a port is free says nothing about the demo that starts beside this one, perhaps in another
    checkout or for another user: both would see it free, and one would fail seconds later. A name
    in Linux' abstract namespace is unique wherever ports are, and goes with its process.
    """
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(_MACHINE_CLAIM)
        except OSError:
            yield False
        else:
            yield True


def _name(number: int) -> str:
    return "demo" if number == 1 else f"demo-{number}"


def _is_claimed(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _emptied(data_dir: Path) -> bool:
    is_replaced = data_dir.exists() and any(data_dir.iterdir())
    if is_replaced:
        if not (data_dir / _MARKER).exists():
            raise StartRefused(
                f"Directory {data_dir} holds something else than a demo: name another --data-dir."
            )
        clear_leftovers(data_dir, say=lambda _sentence: None)
        _remove(data_dir)
    prepare_data_dir(data_dir)
    (data_dir / _MARKER).write_text(_MARKER_TEXT)
    return is_replaced


def _remove(data_dir: Path) -> None:
    for version in (16, 18):
        # The cluster may lie elsewhere: PostgreSQL never runs as root.
        if any(data_dir.glob(f"postgres-{version}*")):
            postgres.remove(
                postgres.PostgresConfig(data_dir=data_dir, port=0, password="", version=version)
            )
    shutil.rmtree(data_dir)
