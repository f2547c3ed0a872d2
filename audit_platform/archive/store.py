"""Where archived files lie: one interface over directories and object stores.

Here: the interface, the sink that files are written to, choosing a store by URL. Not here: the
stores themselves (`archive/local_store.py`, `archive/remote_store.py`), what is in the files.
Guarantee of every store: a file is there as a whole or not at all. Its name appears when its bytes
are safe; a failed or killed write leaves no file under its name, and a repeated one replaces it.

Paths are relative, with slashes, made by `archive/manifest.py`.
"""

import hashlib
import io
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol
from urllib.parse import unquote, urlsplit

from audit_platform.errors import ArchiveDamaged, InvalidSetting

CHUNK_BYTES: Final = 1 << 20
# What `archive/manifest.py` makes paths from; a part starts with no dot.
_PATH_PART: Final = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9_=.-]{0,254}")


class ArchiveSink(io.RawIOBase):
    """What a file's bytes are written to, in order; knows their number and digest."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._is_discarding = False

    @abstractmethod
    def _write_all(self, data: memoryview) -> None:
        """Put bytes where they belong, all of them or an error."""

    @property
    def bytes_written(self) -> int:
        """Bytes so far; the size of the file once it is complete."""
        return self._bytes

    @property
    def sha256(self) -> str:
        """Digest of the bytes so far, lower-case hexadecimal."""
        return self._sha256.hexdigest()

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Bytes so far."""
        return self._bytes

    def write(self, data: Any, /) -> int:
        """Write all of `data`.

        Raises:
            ArchiveFull: No room.
            ArchiveUnavailable: The disk or the network failed.
        """
        view = memoryview(data).cast("B")
        if not self._is_discarding:
            self._write_all(view)
            self._sha256.update(view)
            self._bytes += len(view)
        return len(view)

    def discard(self) -> None:
        """Take further bytes without keeping them: a writer that must be closed ends in peace."""
        self._is_discarding = True


class ArchiveStore(Protocol):
    """Files by path; see the guarantee of the module."""

    @property
    def url(self) -> str:
        """URL it was opened with; holds no credentials."""
        ...

    def write(self, path: str) -> AbstractContextManager[ArchiveSink]:
        """Write a file: it is there when the block ends, and is not if the block raises.

        Raises:
            ArchiveFull: No room; nothing is left of the file.
            ArchiveReadOnly: The archive takes no files.
            ArchiveUnavailable: The disk or the network failed.
            ArchiveDamaged: What was read back is not what was written; it was removed.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading, seekable; close it after use.

        Raises:
            ArchiveMissing: It is not there.
            ArchiveUnavailable: It cannot be read.
        """
        ...

    def size(self, path: str) -> int:
        """Bytes of a file; raises as `open`."""
        ...

    def sha256(self, path: str) -> str:
        """Hash a file as it lies there now, in bounded memory; raises as `open`.

        Returns:
            Lower-case hexadecimal.
        """
        ...

    def exists(self, path: str) -> bool:
        """Whether a file is there.

        Raises:
            ArchiveUnavailable: That cannot be told.
        """
        ...

    def delete(self, path: str) -> bool:
        """Remove a file, for good once this returns; False if it was not there.

        Raises:
            ArchiveReadOnly: The archive takes no changes.
            ArchiveUnavailable: The disk or the network failed.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Paths of complete files below a directory, in order; none if it does not exist.

        Raises:
            ArchiveUnavailable: The disk or the network failed.
        """
        ...

    def remove_leftovers(self, prefix: str, owns: Callable[[str], bool] | None = None) -> int:
        """Remove what killed writers left below a directory; returns how many.

        Args:
            prefix: Directory.
            owns: Whether the file of a path is the caller's to write: what others are writing at
                this moment looks like a leftover. None where nobody else writes there.

        Raises:
            ArchiveReadOnly: The archive takes no changes.
            ArchiveUnavailable: The disk or the network failed.
        """
        ...

    def local_path(self, path: str) -> Path | None:
        """Where a file lies on this machine, for programs that read it themselves; None if not."""
        ...


def open_store(url: str) -> ArchiveStore:
    """Choose the store of a URL; nothing is read or written yet.

    Args:
        url: `file:///absolute/directory`, or `s3://bucket/prefix` with credentials, region and
            endpoint in the environment (`AWS_ACCESS_KEY_ID`, …); a URL holds no secrets.

    Raises:
        InvalidSetting: Another scheme, no directory or bucket, or credentials in the URL.
    """
    # Only the store that is used is loaded: the library of S3 takes 50 ms.
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidSetting(
            "an archive URL holds user, password or options: put them into the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, …)"
        )
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
        from audit_platform.archive.local_store import LocalStore  # noqa: PLC0415 - see above

        return LocalStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from audit_platform.archive.remote_store import RemoteStore  # noqa: PLC0415 - see above

        return RemoteStore(url)
    raise InvalidSetting(
        f"archive URL {url[:100]!a} cannot be used: write file:///absolute/directory "
        "or s3://bucket/prefix"
    )


def read_bytes(store: ArchiveStore, path: str) -> bytes:
    """Read a small file, such as a manifest, as a whole; raises as `ArchiveStore.open`."""
    with store.open(path) as file:
        return file.read()


def write_bytes(store: ArchiveStore, path: str, data: bytes) -> str:
    """Write a small file as a whole; returns its SHA-256. Raises as `ArchiveStore.write`."""
    with store.write(path) as sink:
        sink.write(data)
    return sink.sha256


def checked_path(path: str) -> str:
    """Refuse a path that could leave the archive: manifests come from disks, too.

    Raises:
        ArchiveDamaged: It is absolute, or a part of it is empty, `.` or `..`.
    """
    if not all(_PATH_PART.fullmatch(part) for part in path.split("/")):
        raise ArchiveDamaged(
            f"{path[:100]!a} is no path of an archive: take the manifest from the second copy"
        )
    return path


def copy_file(source: ArchiveStore, target: ArchiveStore, path: str, *, sha256: str) -> None:
    """Copy a file to another store under the same path.

    Args:
        sha256: What the file must be; a damaged first copy must not become two.

    Raises:
        ArchiveDamaged: The source holds other bytes; the target keeps what it had.
        ArchiveError: As `ArchiveStore.open` and `ArchiveStore.write`.
    """
    with source.open(path) as file, target.write(path) as sink:
        while chunk := file.read(CHUNK_BYTES):
            sink.write(chunk)
        if sink.sha256 != sha256:
            raise ArchiveDamaged(
                f"{path} in {source.url} is not what was written: verify the disk below it, "
                "then export again",
                path=path,
            )
