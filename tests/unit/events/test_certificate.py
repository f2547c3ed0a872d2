"""The certificate of completeness: its content, and a file that is whole or not there."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from audit_platform.events.certificate import certificate_of, write_certificate
from audit_platform.events.completeness import Account, Completeness, EpochState, RowCheck

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = date(2026, 2, 28)
ACCOUNT = Account(
    producer_id=17,
    epoch=2**62,
    name=None,
    state=EpochState.ENDED,
    accepted=10,
    stored=4,
    late=1,
    dead=1,
    declared={"shed": 2},
    declared_count=2,
    missing=((9, 10),),
    settled_missing=((9, 9),),
    seen_at=NOW,
)
FOUND = Completeness(
    accounts=(ACCOUNT,),
    left_out={17: {"sampled": 5, "dropped": 6}, 18: {"sampled": 1}},
    unstamped=3,
)


def _made(found: Completeness = FOUND) -> dict[str, object]:
    return certificate_of(found, since=NOW, made_at=NOW, database="1-00000001")


def test_certificate_holds_totals_and_every_account() -> None:
    made = json.loads(json.dumps(_made()))

    assert made["is_complete"] is False
    assert made["totals"] == {
        "accepted": 10,
        "stored": 4,
        "late": 1,
        "dead": 1,
        "declared": 2,
        "missing": 2,
        "sampled": 6,
        "dropped by policy": 6,
        "without number": 3,
    }
    (one,) = made["accounts"]
    assert (one["epoch"], one["missing_ranges"]) == (2**62, [[9, 10]])
    assert (made["since"], made["made_at"]) == ("2026-03-01T12:00:00Z",) * 2
    assert made["database"] == "1-00000001"


def test_counted_rows_decide_with_the_ledger() -> None:
    complete = replace(ACCOUNT, missing=(), settled_missing=())
    check = RowCheck(
        rows=4, without_row=((3, 3),), without_ledger=(), is_unknown=False, counted_at=NOW
    )

    assert complete.is_complete
    assert not replace(complete, check=check).is_complete
    assert not replace(
        complete, check=replace(check, without_row=(), without_ledger=((2, 2),))
    ).is_complete
    assert _made(Completeness(accounts=(replace(complete, check=check),)))["is_complete"] is False


def test_written_file_is_the_certificate_and_its_digest(tmp_path: Path) -> None:
    written = write_certificate(_made(), data_dir=tmp_path, day=DAY)

    content = written.path.read_bytes()
    assert written.path == tmp_path / "certificates" / "completeness-2026-02-28.json"
    assert hashlib.sha256(content).hexdigest() == written.sha256
    assert len(content) == written.size_bytes
    assert json.loads(content) == json.loads(json.dumps(_made()))
    assert written.path.stat().st_mode & 0o777 == 0o600


def test_a_repeat_replaces_the_file_and_equal_accounts_give_equal_bytes(tmp_path: Path) -> None:
    first = write_certificate(_made(), data_dir=tmp_path, day=DAY)

    again = write_certificate(_made(), data_dir=tmp_path, day=DAY)
    other = write_certificate(_made(Completeness(accounts=())), data_dir=tmp_path, day=DAY)

    assert again == first
    assert other.sha256 != first.sha256
    assert [path.name for path in other.path.parent.iterdir()] == [other.path.name]


def test_a_failed_write_leaves_the_certificate_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write_certificate(_made(), data_dir=tmp_path, day=DAY).path.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="space"):
        write_certificate(_made(Completeness(accounts=())), data_dir=tmp_path, day=DAY)

    (only,) = (tmp_path / "certificates").iterdir()
    assert only.read_bytes() == before
