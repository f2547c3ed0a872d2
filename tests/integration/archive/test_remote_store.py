"""An object store over HTTP: whole objects, read back, ranged reads, errors with a remedy.

The server is moto's, in a process of its own: no S3 server of another kind can be installed from
the registries that this project uses. It speaks the protocol, multipart uploads included, and
checks neither signatures nor rights; refusals are made by a server of this file.
"""

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.request import Request, urlopen

import pyarrow.parquet as pq
import pytest

from audit_platform.archive.columns import ARROW_SCHEMA
from audit_platform.archive.file_set import FileSet
from audit_platform.archive.remote_store import RemoteStore
from audit_platform.archive.store import (
    ArchiveStore,
    copy_file,
    open_store,
    read_bytes,
    write_bytes,
)
from audit_platform.errors import (
    ArchiveDamaged,
    ArchiveError,
    ArchiveMissing,
    ArchiveReadOnly,
    ArchiveUnavailable,
)
from audit_platform.local.ports import any_free_port
from tests.integration.events.shard import wait_until
from tests.unit.archive.batches import LO
from tests.unit.archive.test_file_set import SHARED, plan_of, rows_of

pytestmark = pytest.mark.integration

BUCKET = "audit-archive"
PATH = "cold/date=2025-08-28/standard.all.g1.0000.parquet"
DATA = os.urandom(20 << 20)
"""More than two parts of an upload."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server in a process of its own, with one empty bucket."""
    port = any_free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _made_bucket(url), deadline_s=60)
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def store(endpoint: str, environment: None, request: pytest.FixtureRequest) -> ArchiveStore:
    """A prefix of this test."""
    del environment, endpoint
    return open_store(f"s3://{BUCKET}/{request.node.name}/archive")


@pytest.fixture
def environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, endpoint)


def _use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "s3cret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)


def _made_bucket(url: str) -> bool:
    try:
        with urlopen(Request(f"{url}/{BUCKET}", method="PUT")) as reply:  # noqa: S310 - our server
            return reply.status == 200
    except OSError:
        return False


def test_written_object_is_there_with_its_digest(store: ArchiveStore) -> None:
    with store.write(PATH) as sink:
        for start in range(0, len(DATA), 1 << 20):
            sink.write(DATA[start : start + (1 << 20)])

    assert sink.bytes_written == store.size(PATH) == len(DATA)
    assert sink.sha256 == store.sha256(PATH) == hashlib.sha256(DATA).hexdigest()
    assert list(store.list("cold")) == [PATH]
    assert store.url.startswith(f"s3://{BUCKET}/")
    assert store.local_path(PATH) is None


def test_failed_block_leaves_no_object(store: ArchiveStore) -> None:
    def fail() -> None:
        with store.write(PATH) as sink:
            sink.write(DATA)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert not store.exists(PATH)


def test_object_can_be_read_from_any_position(store: ArchiveStore) -> None:
    write_bytes(store, PATH, DATA[: 3 << 20])

    with store.open(PATH) as file:
        file.seek(-10, io.SEEK_END)
        tail = file.read()
        file.seek(1_500_000)
        part = file.read(1_200_000)
        file.seek(0)
        head = file.read(4)

    assert tail == DATA[(3 << 20) - 10 : 3 << 20]
    assert part == DATA[1_500_000:2_700_000]
    assert head == DATA[:4]
    assert read_bytes(store, PATH) == DATA[: 3 << 20]


def test_missing_object_is_named(store: ArchiveStore) -> None:
    for act in (store.open, store.size, store.sha256):
        with pytest.raises(ArchiveMissing, match="second copy"):
            act(PATH)
    assert not store.exists(PATH)
    assert not list(store.list("cold"))


def test_deleted_object_is_gone_and_a_repeat_says_so(store: ArchiveStore) -> None:
    write_bytes(store, PATH, b"x")

    assert store.delete(PATH)
    assert not store.delete(PATH)
    assert not store.exists(PATH)


def test_listing_is_ordered_and_ends_at_the_directory(store: ArchiveStore) -> None:
    paths = [f"cold/date=2025-08-{day}/{name}.json" for day in (28, 29) for name in ("a", "b")]
    for path in reversed(paths):
        write_bytes(store, path, b"{}")

    assert list(store.list("cold")) == paths
    assert list(store.list("cold/date=2025-08-29")) == paths[2:]
    assert store.remove_leftovers("cold") == 0


def test_files_of_an_export_are_copied_to_it_and_read_from_it(
    store: ArchiveStore, tmp_path: Path
) -> None:
    local = open_store(tmp_path.as_uri())

    with FileSet(store, local, plan_of()) as files:
        files.add(rows_of(250), SHARED)
        (entry,) = files.finish()

    assert store.sha256(entry.path) == local.sha256(entry.path) == entry.sha256
    with store.open(entry.path) as file:
        found = pq.ParquetFile(file).read()
    assert found.schema.equals(ARROW_SCHEMA)
    assert found.column("timestamp")[0].as_py() == LO


def test_changed_object_is_not_copied(store: ArchiveStore, tmp_path: Path) -> None:
    local = open_store(tmp_path.as_uri())
    sha256 = write_bytes(store, PATH, b"audit")
    write_bytes(store, PATH, b"audiT")

    with pytest.raises(ArchiveDamaged, match=r"standard\.all"):
        copy_file(store, local, PATH, sha256=sha256)

    assert not local.exists(PATH)


def test_path_that_leaves_the_prefix_is_refused(store: ArchiveStore) -> None:
    for act in (store.open, store.delete, store.sha256, lambda path: list(store.list(path))):
        with pytest.raises(ArchiveDamaged):
            act("../other/secret")


class _Answers(BaseHTTPRequestHandler):
    """Answers every request alike: a server that refuses, or that lies about what it stored."""

    status = 403
    body = b"<Error><Code>AccessDenied</Code><Message>s3cret policy</Message></Error>"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Thu, 28 Aug 2025 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer  # noqa: N815 - names of the base

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - of the base
        """Say nothing."""


class _Lies(_Answers):
    status = 200
    body = b"other bytes"


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """A server whose answers are those of the class given as parameter."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), request.param)
    thread = Thread(target=server.serve_forever)
    thread.start()
    _use(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("answering", [_Answers], indirect=True)
@pytest.mark.usefixtures("answering")
def test_refused_write_names_the_right_and_repeats_no_secret() -> None:
    store = open_store(f"s3://{BUCKET}")

    with pytest.raises(ArchiveReadOnly) as refused:
        write_bytes(store, PATH, b"x")
    with pytest.raises(ArchiveUnavailable):
        store.size(PATH)

    assert "AWS_ACCESS_KEY_ID" in refused.value.message
    assert "s3cret" not in refused.value.message


@pytest.mark.parametrize("answering", [_Lies], indirect=True)
@pytest.mark.usefixtures("answering")
def test_object_that_reads_back_differently_is_found_at_once() -> None:
    with pytest.raises(ArchiveDamaged, match="read back"):
        write_bytes(open_store(f"s3://{BUCKET}"), PATH, b"what was sent")


def test_endpoint_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, f"http://127.0.0.1:{any_free_port()}")
    store = RemoteStore(f"s3://{BUCKET}", max_retries=0)

    with pytest.raises(ArchiveError) as failed:
        store.size(PATH)

    assert isinstance(failed.value, ArchiveUnavailable)
    assert "AWS_ENDPOINT_URL" in failed.value.message
    assert failed.value.retryable
