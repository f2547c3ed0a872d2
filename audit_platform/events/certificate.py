"""Certificate of completeness: the accounts as one JSON document, and its file.

Here: its form, its digest, writing it so that no reader ever sees half of it. Not here: the
accounts (`events/completeness.py`), when it is made (`assets/completeness_check.py`).
Guarantee: a file of that name is a whole certificate; equal accounts give equal bytes.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from audit_platform.events.completeness import Account, Completeness

DIRECTORY: Final = "certificates"
FORMAT: Final = "audit-platform completeness v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCertificate:
    """A certificate on disk; the digest is over the bytes of the file."""

    path: Path
    sha256: str
    size_bytes: int


def certificate_of(
    completeness: Completeness, *, since: datetime | None, made_at: datetime, database: str
) -> dict[str, Any]:
    """Put accounts into the form of a certificate.

    Args:
        completeness: What was read.
        since: First moment it covers; None: all.
        made_at: Aware.
        database: Server and history that was asked, see `watermark.read_identity`.
    """
    certificate: dict[str, Any] = {
        "format": FORMAT,
        "made_at": _text(made_at),
        "since": None if since is None else _text(since),
        "database": database,
        "is_complete": completeness.is_complete,
        "totals": completeness.totals(),
        "accounts": [record_of(account) for account in completeness.accounts],
        "left_out_by_policy": [
            {"producer_id": producer_id, **counts}
            for producer_id, counts in sorted(completeness.left_out.items())
        ],
    }
    if completeness.deleted is not None:
        # Of all producers: which numbers these rows carried nobody knows any more.
        certificate["deleted_by_retention"] = {
            "archived_rows": completeness.deleted.archived,
            "late_rows": completeness.deleted.late,
        }
    return certificate


def record_of(account: Account) -> dict[str, Any]:
    """Give one account as JSON holds it."""
    record: dict[str, Any] = {
        "producer_id": account.producer_id,
        "epoch": account.epoch,
        "name": account.name,
        "state": account.state.value,
        "accepted": account.accepted,
        "stored": account.stored,
        "late": account.late,
        "dead": account.dead,
        "declared": account.declared_count,
        "declared_by_reason": dict(account.declared),
        "missing": account.missing_count,
        "missing_ranges": account.missing,
        "settled_missing_ranges": account.settled_missing,
        "seen_at": _text(account.seen_at),
    }
    if account.check is not None:
        record |= {
            "rows": account.check.rows,
            "without_row": account.check.without_row,
            "without_row_excused": account.check.is_excused,
            "without_ledger": account.check.without_ledger,
        }
    return record


def write_certificate(
    certificate: Mapping[str, Any], *, data_dir: Path, day: date
) -> WrittenCertificate:
    """Write the certificate of a day; one of the same day is replaced.

    Raises:
        OSError: The directory cannot be written.
    """
    directory = data_dir / DIRECTORY
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / f"completeness-{day:%Y-%m-%d}.json"
    content = (json.dumps(certificate, indent=1, ensure_ascii=True) + "\n").encode()
    # A name of its own: two that write at once must not mix.
    draft = directory / f".{path.name}.{os.getpid()}.tmp"
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_directory(directory)
    return WrittenCertificate(
        path=path, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
    )


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
