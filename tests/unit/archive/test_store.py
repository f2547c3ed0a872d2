"""What all stores share: URLs, paths, copies from one to another."""

from pathlib import Path

import pytest

from audit_platform.archive.store import ArchiveStore, copy_file, open_store, write_bytes
from audit_platform.errors import ArchiveDamaged, InvalidSetting

PATH = "cold/date=2025-08-28/standard.all.g1.0000.parquet"
DATA = b"audit" * 50_000


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    return open_store(tmp_path.as_uri())


def test_copy_is_equal_and_a_damaged_source_is_not_copied(tmp_path: Path) -> None:
    first = open_store((tmp_path / "first").as_uri())
    second = open_store((tmp_path / "second").as_uri())
    sha256 = write_bytes(first, PATH, DATA)

    copy_file(first, second, PATH, sha256=sha256)
    (tmp_path / "first" / PATH).write_bytes(b"audiT" + DATA[5:])
    with pytest.raises(ArchiveDamaged, match=r"standard\.all\.g1\.0000\.parquet"):
        copy_file(first, second, PATH, sha256=sha256)

    assert second.sha256(PATH) == sha256


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "cold/../x", "cold//x", "cold/./x", "cold/.x", "a\\b", "a\x00"],
)
def test_path_that_leaves_the_archive_is_refused(store: ArchiveStore, path: str) -> None:
    for act in (store.open, store.delete, store.sha256, lambda p: list(store.list(p))):
        with pytest.raises(ArchiveDamaged):
            act(path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/archive",
        "file://archive",
        "file:relative",
        "ftp://host/archive",
        "s3:///prefix",
        "s3://key:secret@bucket/prefix",
        "s3://bucket/prefix?endpoint=http://x",
        "file:///archive#part",
    ],
)
def test_url_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting):
        open_store(url)


def test_credentials_in_a_url_are_not_repeated_in_the_message() -> None:
    with pytest.raises(InvalidSetting) as refused:
        open_store("s3://key:s3cret@bucket/prefix")

    assert "s3cret" not in refused.value.message
