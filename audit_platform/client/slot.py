"""Process slots: which directory a process may write, and what dead processes left there.

Here: claiming a slot by a lock, its state files, slots that nobody claims any more. Not here: the
state file (`client/sequence_state.py`), the segments beside it (`client/spool.py`).
Guarantees: one living process per slot. The kernel gives the lock back when the process ends,
however it ends. Slots are never deleted, so that a lock is never that of a deleted file.

    <base>/<producer>/<n>/lock, <start>.state, <epoch>-<first_seq>.seg
"""

import errno
import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from audit_platform.client.private_files import (
    FILE_MODE,
    as_spool_error,
    make_directory,
    set_aside,
)
from audit_platform.client.sequence_state import (
    EndedProcess,
    NotAState,
    SequenceState,
    read_state,
)
from audit_platform.errors import SpoolFailed

logger = logging.getLogger(__name__)

MAX_SLOTS: Final = 1024
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")
_NAME_CHARACTERS: Final = 64
# Somebody else holds the lock; anything else is an error of the file system.
_TAKEN: Final = frozenset({errno.EAGAIN, errno.EACCES})


class Slot:
    """A directory that this process alone writes, until `release` or its end."""

    def __init__(self, directory: Path, lock: int) -> None:
        """Keep a lock that is held; use `claim`.

        Args:
            directory: Of the slot.
            lock: Descriptor of its locked file.
        """
        self.number, self.directory = int(directory.name), directory
        self.bad_states = 0
        self._lock: int | None = lock
        self._states: list[SequenceState] = []

    @classmethod
    def claim(cls, base: Path, producer_name: str) -> Self:
        """Take the first free slot of a producer.

        Args:
            base: Directory of all spools; made when missing.
            producer_name: Any text; producers of one name share slots, those of others do not.

        Raises:
            SpoolFailed: The directory cannot be made or written, or 1,024 slots are taken.
        """
        producer = base / directory_name(producer_name)
        try:
            make_directory(base)
            make_directory(producer)
            for number in range(MAX_SLOTS):
                directory = producer / str(number)
                make_directory(directory)
                lock = _try_lock(directory)
                if lock is not None:
                    return cls(directory, lock)
        except OSError as exc:
            raise _failed(exc, producer, "claim a slot") from exc
        raise SpoolFailed(
            f"all {MAX_SLOTS} slots below {producer} are taken. Give processes that are no"
            " instances of one program their own AUDIT_PRODUCER_NAME.",
            path=str(producer),
        )

    def begin(self, epochs: Sequence[int]) -> SequenceState:
        """Make the state file of this process.

        Raises:
            SpoolFailed: The file cannot be made.
        """
        try:
            state = SequenceState.create(
                self.directory, epochs, started_ms=time.time_ns() // 1_000_000
            )
        except OSError as exc:
            raise _failed(exc, self.directory, "keep its numbers") from exc
        self._states.append(state)
        return state

    def ended(self) -> list[EndedProcess]:
        """Read the state files of dead processes, the oldest first.

        What is no state file is set aside and counted in `bad_states`. The numbers are those of
        the files; segments may hold higher ones after a power loss.

        Raises:
            SpoolFailed: The directory cannot be listed.
        """
        own = {state.path for state in self._states}
        try:
            paths = sorted(self.directory.glob("*.state"))
        except OSError as exc:
            raise _failed(exc, self.directory, "list its slot") from exc
        found = [self._read(path) for path in paths if path not in own]
        return [one for one in found if one is not None]

    def forget(self, ended: EndedProcess) -> None:
        """Delete the state file of a dead process, once its end is confirmed."""
        try:
            ended.path.unlink(missing_ok=True)
        except OSError as exc:
            # It is announced again at the next start, which changes nothing.
            logger.warning("%s cannot be deleted: %s", ended.path, exc.strerror)

    def leftovers(self) -> list["Slot"]:
        """Claim the other slots of this producer that nobody holds and that hold something.

        Returns:
            Locked slots, in order of their numbers; the caller releases them.

        Raises:
            SpoolFailed: The directory cannot be listed.
        """
        slots: list[Slot] = []
        try:
            directories = sorted(self.directory.parent.iterdir(), key=_number)
        except OSError as exc:
            raise _failed(exc, self.directory.parent, "list its slots") from exc
        for directory in directories:
            if directory == self.directory or _number(directory) < 0 or not _holds(directory):
                continue
            try:
                lock = _try_lock(directory)
            except OSError as exc:
                logger.warning("slot %s cannot be claimed: %s", directory, exc.strerror)
                continue
            if lock is not None and _holds(directory):
                slots.append(Slot(directory, lock))
            elif lock is not None:
                os.close(lock)
        return slots

    def release(self) -> None:
        """Let go of the slot; its files stay."""
        self.abandon_after_fork()

    def abandon_after_fork(self) -> None:
        """In a forked child: close the copies of the parent's files; the parent keeps the lock."""
        for state in self._states:
            state.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            # Not LOCK_UN, which would unlock it for the parent as well: the lock belongs to the
            # open file that both share, and goes with the last descriptor of it.
            os.close(lock)

    def _read(self, path: Path) -> EndedProcess | None:
        try:
            return read_state(path)
        except NotAState:
            self.bad_states += 1
            set_aside(path)
            logger.warning("%s is no state file; it was set aside as .bad", path)
        except OSError as exc:
            self.bad_states += 1
            logger.warning("%s cannot be read: %s", path, exc.strerror)
        return None


def directory_name(producer_name: str) -> str:
    """Make a directory name of a producer's name: readable, and different for different names."""
    raw = producer_name.encode("utf-8", "surrogatepass")
    readable = _NOT_IN_NAMES.sub("_", producer_name).lstrip(".")[:_NAME_CHARACTERS]
    return f"{readable}-{hashlib.sha256(raw).hexdigest()[:8]}"


def _try_lock(directory: Path) -> int | None:
    """Lock a slot; None when somebody else holds it."""
    path = directory / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        if exc.errno in _TAKEN:
            return None
        raise
    return descriptor


def _number(directory: Path) -> int:
    """Number of a slot's directory; -1 for any other name."""
    return int(directory.name) if re.fullmatch(r"\d{1,4}", directory.name) else -1


def _holds(directory: Path) -> bool:
    """Tell whether a slot holds records or numbers of a dead process."""
    try:
        return any(path.suffix in {".seg", ".state"} for path in directory.iterdir())
    except OSError:
        return False


def _failed(exc: OSError, path: Path, act: str) -> SpoolFailed:
    return SpoolFailed(as_spool_error(exc, path=path, act=act).message, path=str(path))
