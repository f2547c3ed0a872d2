"""Archive in an object store that speaks S3.

Here: upload, reading back, ranged reads, and the errors of the library (obstore) as ours. Not here:
directories (`archive/local_store.py`), what is in the files.
Guarantee: that of `archive/store.py`. A file is collected on the local disk and uploaded as a whole
when it is complete, so that a killed or failed write leaves no object; then its bytes are read
back and compared. Parts of a killed multipart upload stay invisible in the bucket: let a
lifecycle rule of the bucket delete them.

Credentials, region and endpoint come from the environment, read by the library: see `S3Config` in
its manual (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`,
`AWS_ALLOW_HTTP`, `AWS_SERVER_SIDE_ENCRYPTION`, …). Retries of dropped connections and 5xx are the
library's, and so are its time-outs, 30 s per request: options of the client handed in as arguments
would silently replace those of the environment.
"""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

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

RETRY_TIMEOUT: Final = timedelta(seconds=60)
MAX_RETRIES: Final = 5
# A footer and the column chunks of a row group come in few requests.
_READ_BUFFER_BYTES: Final = 1 << 20
_PART_BYTES: Final = 8 << 20
_PARTS_AT_ONCE: Final = 4
# One chunk of a listing or of a download.
_CHUNK_BYTES: Final = 4 << 20


class RemoteStore:
    """An `ArchiveStore` below an S3 URL."""

    def __init__(self, url: str, *, max_retries: int = MAX_RETRIES) -> None:
        """Prepare; no request is made yet.

        Args:
            url: `s3://bucket/prefix`.
            max_retries: Of one request, after dropped connections and 5xx.

        Raises:
            ArchiveUnavailable: The environment holds settings that the library refuses.
        """
        self._url = url
        with self._requests("", act="used"):
            self._store = S3Store.from_url(
                url,
                retry_config={"max_retries": max_retries, "retry_timeout": RETRY_TIMEOUT},
            )

    @property
    def url(self) -> str:
        """As it was given."""
        return self._url

    @contextmanager
    def write(self, path: str) -> Iterator[ArchiveSink]:
        """Write an object; see `ArchiveStore.write`."""
        checked_path(path)
        with tempfile.TemporaryFile(prefix="audit-archive-") as file, _SpoolSink(file) as sink:
            yield sink
            crash("S_TMP_WRITTEN")
            file.seek(0)
            with self._requests(path, act="written"):
                obstore.put(
                    self._store,
                    path,
                    cast("io.BufferedRandom", file),
                    chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )
            crash("S_RENAMED")
            self._compare(path, sink)

    def open(self, path: str) -> BinaryIO:
        """Open an object for ranged reads; see `ArchiveStore.open`."""
        file = _RemoteFile(self, path, size=self.size(path))
        return cast("BinaryIO", io.BufferedReader(file, _READ_BUFFER_BYTES))

    def size(self, path: str) -> int:
        """Bytes of an object; see `ArchiveStore.size`."""
        checked_path(path)
        with self._requests(path, act="read"):
            return int(obstore.head(self._store, path)["size"])

    def sha256(self, path: str) -> str:
        """Hash an object as one download; see `ArchiveStore.sha256`."""
        checked_path(path)
        digest = hashlib.sha256()
        with self._requests(path, act="read"):
            for chunk in obstore.get(self._store, path).stream(min_chunk_size=_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def exists(self, path: str) -> bool:
        """Whether an object is there; see `ArchiveStore.exists`."""
        try:
            self.size(path)
        except ArchiveMissing:
            return False
        return True

    def delete(self, path: str) -> bool:
        """Remove an object; see `ArchiveStore.delete`."""
        # S3 deletes what is not there without a word.
        if not self.exists(path):
            return False
        with self._requests(path, act="written"):
            obstore.delete(self._store, path)
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """Paths of objects; see `ArchiveStore.list`."""
        checked_path(prefix)
        with self._requests(prefix, act="read"):
            found = [
                str(meta["path"]) for chunk in obstore.list(self._store, prefix) for meta in chunk
            ]
        yield from sorted(found)

    def remove_leftovers(self, prefix: str, owns: Callable[[str], bool] | None = None) -> int:
        """Nothing to do: an object appears as a whole or not at all."""
        del owns
        checked_path(prefix)
        return 0

    def local_path(self, path: str) -> Path | None:
        """None: it is elsewhere."""
        checked_path(path)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """Read some bytes of an object; raises as `open`."""
        with self._requests(path, act="read"):
            found = obstore.get_range(self._store, path, start=start, length=length)
        return bytes(found)

    def _compare(self, path: str, sink: ArchiveSink) -> None:
        """Read the object back; remove it where it is not what was sent."""
        if self.size(path) == sink.bytes_written and self.sha256(path) == sink.sha256:
            return
        # The finding matters more than a store that cannot delete, either.
        with suppress(ArchiveError):
            self.delete(path)
        raise ArchiveDamaged(
            f"{path} in {self._url} was read back with other bytes than were sent: check the "
            "object store, then export again",
            path=path,
        )

    @contextmanager
    def _requests(self, path: str, *, act: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as exc:
            raise self._translated(exc, path, act=act) from exc

    def _translated(self, exc: Exception, path: str, *, act: str) -> ArchiveError:
        # The library's text holds URLs and server replies: it goes into the chain of causes alone.
        place = f"{self._url}/{path}".rstrip("/")
        fields = {"path": path, "url": self._url}
        if isinstance(exc, NotFoundError | FileNotFoundError):
            return ArchiveMissing(
                f"{place} is not there: take it from the second copy, or restore it from a backup",
                **fields,
            )
        if isinstance(exc, PermissionDeniedError | UnauthenticatedError) and act == "written":
            return ArchiveReadOnly(
                f"{place} cannot be written: the object store refuses it. Give the credentials in "
                "AWS_ACCESS_KEY_ID the right to put objects there.",
                **fields,
            )
        return ArchiveUnavailable(
            f"{place} cannot be {act}: {type(exc).__name__}. Check AWS_ENDPOINT_URL, AWS_REGION, "
            "the credentials and the network.",
            **fields,
        )


class _SpoolSink(ArchiveSink):
    """Collects an object on the local disk."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def _write_all(self, data: memoryview) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as exc:
            message = (
                f"an archive file cannot be collected in {tempfile.gettempdir()}: {exc.strerror}. "
                "Free space there, or set TMPDIR to another disk; the step is tried again."
            )
            raise ArchiveFull(message, errno=exc.errno) from exc


class _RemoteFile(io.RawIOBase):
    """An object as a seekable file: each read is one ranged request."""

    def __init__(self, store: RemoteStore, path: str, *, size: int) -> None:
        super().__init__()
        self._store, self._path, self._size, self._position = store, path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._position)
        if length <= 0:
            return 0
        data = self._store.read_range(self._path, self._position, length)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
