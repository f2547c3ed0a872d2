"""Files in a directory: whole or not at all, also on full, read-only and missing disks."""

import hashlib
import io
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_platform.archive.store import (
    ArchiveStore,
    open_store,
    read_bytes,
    write_bytes,
)
from audit_platform.errors import (
    ArchiveFull,
    ArchiveMissing,
    ArchiveReadOnly,
    ArchiveUnavailable,
)
from tests.chaos.harness.small_disk import MEBIBYTE, SmallDisk, small_disk

PATH = "cold/date=2025-08-28/standard.all.g1.0000.parquet"
DATA = b"audit" * 50_000

# Writes a file larger than the process may; says what became of it.
LIMITED_WRITER = """
import resource, sys
from audit_platform.archive.store import open_store
from audit_platform.errors import ArchiveFull

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with open_store(sys.argv[1]).write(sys.argv[2]) as sink:
        sink.write(b"x" * 60_000)
        sink.write(b"x" * 60_000)
except ArchiveFull as exc:
    print(exc.fields["errno"], exc.message)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "archive with ünïcode"


@pytest.fixture
def store(place: Path) -> ArchiveStore:
    return open_store(place.as_uri())


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", MEBIBYTE) as disk:
        yield disk


def files_below(place: Path) -> list[str]:
    return sorted(path.name for path in place.rglob("*") if path.is_file())


def test_written_file_is_there_with_its_digest(store: ArchiveStore) -> None:
    with store.write(PATH) as sink:
        sink.write(DATA[:1_000])
        sink.write(memoryview(DATA)[1_000:])

    assert sink.bytes_written == store.size(PATH) == len(DATA)
    assert sink.sha256 == store.sha256(PATH) == hashlib.sha256(DATA).hexdigest()
    assert read_bytes(store, PATH) == DATA


def test_only_the_owner_can_read_a_file(store: ArchiveStore, place: Path) -> None:
    write_bytes(store, PATH, DATA)

    assert stat.S_IMODE((place / PATH).stat().st_mode) == 0o600
    assert stat.S_IMODE((place / PATH).parent.stat().st_mode) == 0o700


def test_file_has_no_name_before_it_is_complete(store: ArchiveStore) -> None:
    with store.write(PATH) as sink:
        sink.write(DATA)
        seen = store.exists(PATH)
        listed = list(store.list("cold"))

    assert not seen
    assert not listed
    assert store.exists(PATH)


def test_failed_block_leaves_nothing(store: ArchiveStore, place: Path) -> None:
    def fail() -> None:
        with store.write(PATH) as sink:
            sink.write(DATA)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert not files_below(place)


def test_failed_block_keeps_the_file_that_was_there(store: ArchiveStore, place: Path) -> None:
    write_bytes(store, PATH, b"before")

    def fail() -> None:
        with store.write(PATH) as sink:
            sink.write(DATA)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()

    assert read_bytes(store, PATH) == b"before"
    assert files_below(place) == ["standard.all.g1.0000.parquet"]


def test_repeated_write_replaces_the_file(store: ArchiveStore) -> None:
    write_bytes(store, PATH, b"before")

    write_bytes(store, PATH, b"after")

    assert read_bytes(store, PATH) == b"after"


def test_discarding_sink_takes_bytes_without_keeping_them(store: ArchiveStore) -> None:
    with store.write(PATH) as sink:
        sink.write(b"kept")
        sink.discard()
        taken = sink.write(b"lost")

    assert taken == 4
    assert read_bytes(store, PATH) == b"kept"


def test_full_disk_is_named_and_left_clean(full_disk: SmallDisk) -> None:
    store = open_store(full_disk.path.as_uri())

    def overfill() -> None:
        with store.write(PATH) as sink:
            for _ in range(40):
                sink.write(DATA)

    with pytest.raises(ArchiveFull, match="Free space"):
        overfill()

    assert not files_below(full_disk.path)
    assert ArchiveFull.retryable


def test_write_succeeds_once_there_is_room_again(full_disk: SmallDisk) -> None:
    store = open_store(full_disk.path.as_uri())
    full_disk.fill()
    with pytest.raises(ArchiveFull):
        write_bytes(store, PATH, DATA)

    full_disk.free()
    write_bytes(store, PATH, DATA)

    assert read_bytes(store, PATH) == DATA


def test_short_write_at_the_file_size_limit_is_a_full_archive(
    store: ArchiveStore, place: Path
) -> None:
    """RLIMIT_FSIZE cuts a write short, then refuses the rest with EFBIG."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED_WRITER, store.url, PATH],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )

    assert done.stdout.startswith("27 ")
    assert not files_below(place)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_read_only_archive_is_named_and_its_files_stay_readable(full_disk: SmallDisk) -> None:
    store = open_store(full_disk.path.as_uri())
    write_bytes(store, PATH, b"before")
    subprocess.run(["mount", "-o", "remount,ro", str(full_disk.path)], check=True)

    with pytest.raises(ArchiveReadOnly, match="writable"):
        write_bytes(store, PATH, DATA)
    with pytest.raises(ArchiveReadOnly):
        write_bytes(store, "cold/date=2025-08-29/manifest.g1.json", DATA)
    with pytest.raises(ArchiveReadOnly):
        store.delete(PATH)

    assert read_bytes(store, PATH) == b"before"


def test_missing_file_is_named(store: ArchiveStore) -> None:
    for act in (store.open, store.size, store.sha256):
        with pytest.raises(ArchiveMissing, match="second copy"):
            act(PATH)
    assert not store.exists(PATH)


def test_directory_in_place_of_a_file_cannot_be_read(store: ArchiveStore, place: Path) -> None:
    (place / PATH).mkdir(parents=True)

    with pytest.raises(ArchiveUnavailable):
        store.open(PATH)


def test_deleted_file_is_gone_and_a_repeat_says_so(store: ArchiveStore) -> None:
    write_bytes(store, PATH, DATA)

    assert store.delete(PATH)
    assert not store.delete(PATH)
    assert not store.exists(PATH)


def test_listing_is_ordered_and_leaves_temporary_files_out(
    store: ArchiveStore, place: Path
) -> None:
    paths = [f"cold/date=2025-08-{day}/{name}.json" for day in (28, 29) for name in ("a", "b")]
    for path in reversed(paths):
        write_bytes(store, path, b"{}")
    (place / "cold/date=2025-08-28/a.json.x1.tmp").write_bytes(b"half")

    assert list(store.list("cold")) == paths
    assert list(store.list("cold/date=2025-08-29")) == paths[2:]
    assert not list(store.list("cold/date=2025-08-30"))


def test_leftovers_of_others_stay(store: ArchiveStore, place: Path) -> None:
    write_bytes(store, PATH, DATA)
    ours, theirs = place / f"{PATH}.ab_12.tmp", place / "cold/date=2025-08-28/h13.x.json.cd34.tmp"
    ours.write_bytes(b"half")
    theirs.write_bytes(b"half")

    removed = store.remove_leftovers("cold", lambda path: path == PATH)

    assert removed == 1
    assert not ours.exists()
    assert theirs.exists()
    assert store.exists(PATH)


def test_file_can_be_read_from_any_position(store: ArchiveStore) -> None:
    write_bytes(store, PATH, b"0123456789")

    with store.open(PATH) as file:
        file.seek(-3, io.SEEK_END)
        tail = file.read()
        file.seek(2)
        part = file.read(2)

    assert (tail, part) == (b"789", b"23")


def test_file_lies_where_its_local_path_says(store: ArchiveStore) -> None:
    write_bytes(store, PATH, DATA)

    local = store.local_path(PATH)

    assert local is not None
    assert local.read_bytes() == DATA
