"""Single events in archive files: found with their leaves, by the whole key, in any row group."""

import random
from datetime import timedelta
from pathlib import Path

import pytest

from audit_platform.archive.local_store import LocalStore
from audit_platform.archive.lookup import Key, stored_leaves
from audit_platform.errors import ArchiveDamaged, ArchiveMissing
from audit_platform.integrity.leaf import leaf_of
from tests.unit.archive.damage import flipped
from tests.unit.archive.made_archive import MadeArchive, Row, make_archive, make_rows

ROWS = 500
SOME = 37


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> MadeArchive:
    return make_archive(tmp_path_factory.mktemp("archive"), make_rows(ROWS))


def key_of(row: Row) -> Key:
    return row["tenant_id"], row["timestamp"], row["id"]


def test_every_key_is_found_with_its_leaf(archive: MadeArchive) -> None:
    found = stored_leaves(
        archive.store, archive.manifest.files, [key_of(row) for row in archive.rows]
    )

    assert found == {key_of(row): leaf_of(row) for row in archive.rows}


def test_some_keys_are_found_and_no_other(archive: MadeArchive) -> None:
    wanted = archive.rows[:: ROWS // SOME]
    others: list[Key] = []
    for tenant_id, moment, event_id in map(key_of, wanted):
        others += [("nobody", moment, event_id)]
        others += [(tenant_id, moment + timedelta(microseconds=1), event_id)]

    found = stored_leaves(
        archive.store, archive.manifest.files, [*others, *(key_of(row) for row in wanted)]
    )

    assert found == {key_of(row): leaf_of(row) for row in wanted}


def test_no_file_is_opened_for_no_key_or_another_time(archive: MadeArchive, tmp_path: Path) -> None:
    tenant_id, moment, event_id = key_of(archive.rows[0])
    nothing = LocalStore(tmp_path)

    assert stored_leaves(nothing, archive.manifest.files, []) == {}
    later = (tenant_id, moment + timedelta(days=9), event_id)
    assert stored_leaves(nothing, archive.manifest.files, [later]) == {}
    with pytest.raises(ArchiveMissing):
        stored_leaves(nothing, archive.manifest.files, [(tenant_id, moment, event_id)])


def test_damaged_file_answers_nothing(tmp_path: Path) -> None:
    own = make_archive(tmp_path, make_rows(SOME))
    with flipped(own.file(), random.Random(1)), pytest.raises(ArchiveDamaged):
        stored_leaves(own.store, own.manifest.files, [key_of(row) for row in own.rows])
