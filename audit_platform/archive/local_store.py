"""Archive in a directory: files that survive a power loss from the moment they have their name.

Here: temporary name, fsync, rename, fsync of the directory, and the errors of the disk as ours. Not
here: object stores (`archive/remote_store.py`), what is in the files.
Guarantee: that of `archive/store.py`. A write that fails removes its temporary file; one that is
killed leaves a `*.tmp`, which no reader lists and `remove_leftovers` deletes. Directories get mode
0700 and files 0600.

The digest of a file is taken while it is written and its length checked after fsync; that the disk
kept the bytes is proved by the process that verifies, which reads them all.
"""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from audit_platform.archive.store import ArchiveSink, checked_path
from audit_platform.crash_points import crash
from audit_platform.errors import (
    ArchiveDamaged,
    ArchiveError,
    ArchiveFull,
    ArchiveMissing,
    ArchiveReadOnly,
    ArchiveUnavailable,
)

_TEMPORARY: Final = ".tmp"
_DIRECTORY_MODE: Final = 0o700
# EFBIG: RLIMIT_FSIZE, or a file system with a limit; Python ignores SIGXFSZ.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


class LocalStore:
    """An `ArchiveStore` in a directory, which is made when the first file is written."""

    def __init__(self, directory: Path) -> None:
        """Take the directory; it may not exist yet."""
        self._directory = directory

    @property
    def url(self) -> str:
        """`file://` and the directory."""
        return self._directory.as_uri()

    @contextmanager
    def write(self, path: str) -> Iterator[ArchiveSink]:
        """Write a file; see `ArchiveStore.write`."""
        target = self._place(path)
        with _writing(target):
            _make_directory(target.parent)
            # Another process that writes the same file has another temporary one: whichever
            # renames last wins as a whole.
            descriptor, name = tempfile.mkstemp(
                prefix=f"{target.name}.", suffix=_TEMPORARY, dir=target.parent
            )
        temporary = Path(name)
        try:
            with _FileSink(descriptor, target) as sink:
                yield sink
                sink.settle()
            crash("S_TMP_WRITTEN")
            with _writing(target):
                temporary.replace(target)
                _sync_directory(target.parent)
            crash("S_RENAMED")
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def open(self, path: str) -> BinaryIO:
        """Open a file; see `ArchiveStore.open`."""
        place = self._place(path)
        with _reading(place):
            return place.open("rb")

    def size(self, path: str) -> int:
        """Bytes of a file; see `ArchiveStore.size`."""
        place = self._place(path)
        with _reading(place):
            return place.stat().st_size

    def sha256(self, path: str) -> str:
        """Hash a file; see `ArchiveStore.sha256`."""
        place = self._place(path)
        with _reading(place), place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def exists(self, path: str) -> bool:
        """Whether a file is there; see `ArchiveStore.exists`."""
        try:
            self.size(path)
        except ArchiveMissing:
            return False
        return True

    def delete(self, path: str) -> bool:
        """Remove a file; see `ArchiveStore.delete`."""
        place = self._place(path)
        try:
            with _writing(place):
                place.unlink()
                _sync_directory(place.parent)
        except ArchiveMissing:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """Paths of complete files; see `ArchiveStore.list`."""
        for file in self._files(prefix):
            if file.suffix != _TEMPORARY:
                yield file.relative_to(self._directory).as_posix()

    def remove_leftovers(self, prefix: str, owns: Callable[[str], bool] | None = None) -> int:
        """Remove temporary files of killed writers; see `ArchiveStore.remove_leftovers`."""
        count = 0
        for file in self._files(prefix):
            # <name of the file>.<random part>.tmp
            path = file.relative_to(self._directory).as_posix().rsplit(".", 2)[0]
            if file.suffix == _TEMPORARY and (owns is None or owns(path)):
                with _writing(file):
                    file.unlink(missing_ok=True)
                count += 1
        return count

    def local_path(self, path: str) -> Path | None:
        """Where the file lies."""
        return self._place(path)

    def _place(self, path: str) -> Path:
        return self._directory / checked_path(path)

    def _files(self, prefix: str) -> Sequence[Path]:
        directory = self._place(prefix)
        with _reading(directory):
            return sorted(file for file in directory.rglob("*") if file.is_file())


class _FileSink(ArchiveSink):
    """An open temporary file; unbuffered, since Parquet writers write whole pages."""

    def __init__(self, descriptor: int, target: Path) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._target = target

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def settle(self) -> None:
        """Bring the bytes to the disk.

        Raises:
            ArchiveDamaged: The file is shorter or longer than what was written.
            ArchiveFull: The disk finds out only now that it is full.
            ArchiveUnavailable: It does not take them.
        """
        with _writing(self._target):
            os.fsync(self._descriptor)
            size = os.fstat(self._descriptor).st_size
        if size != self.bytes_written:
            raise ArchiveDamaged(
                f"{self._target} has {size} bytes after {self.bytes_written} were written: "
                "check the file system, then export again",
                path=str(self._target),
            )

    def _write_all(self, data: memoryview) -> None:
        with _writing(self._target):
            while data:
                data = data[os.write(self._descriptor, data) :]


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _translated(exc, place, act="written") from exc


@contextmanager
def _reading(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _translated(exc, place, act="read") from exc


def _translated(exc: OSError, place: Path, *, act: str) -> ArchiveError:
    cause = exc.strerror or type(exc).__name__
    fields = {"path": str(place), "errno": exc.errno}
    if exc.errno in _MISSING:
        return ArchiveMissing(
            f"{place} is not there: take it from the second copy, or restore it from a backup",
            **fields,
        )
    if exc.errno in _FULL:
        return ArchiveFull(
            f"{place} cannot be {act}: {cause}. Free space on its disk; the step is tried again.",
            **fields,
        )
    if exc.errno in _READ_ONLY and act == "written":
        return ArchiveReadOnly(
            f"{place} cannot be {act}: {cause}. Mount the archive writable, or give the user of "
            "this process the right to write there.",
            **fields,
        )
    return ArchiveUnavailable(
        f"{place} cannot be {act}: {cause}. Check the disk and the rights of the archive.",
        **fields,
    )


def _make_directory(path: Path) -> None:
    """Make a directory and its parents so that they survive a power loss."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=_DIRECTORY_MODE)
    # A parent that we may enter but not read cannot be synchronised.
    with contextlib.suppress(PermissionError):
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
