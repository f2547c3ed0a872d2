"""Proves from files alone that an archived partition holds exactly what was sealed.

Here: every file hashed, every leaf recomputed from its columns, counts, ids, group roots and the
root compared with the manifest; also as a program, `python -m audit_platform.archive.verify`. Not
here: reading files (`archive/read.py`), rows of one file (`archive/row_check.py`), starting the
program (`archive/verify_apart.py`), whether the archive equals a table (`archive/compare.py`).
Guarantees: no database, no network but the store's; no leaf is taken from anywhere, each is
computed from its columns; a partition with one other byte in a file, or one other value in a column
of an event, is not intact; memory is bounded whatever the size of the partition.

The program prints one line of JSON (`archive/verify_report.py`) and ends with 0 if all agrees, 1 if
something does not, 2 if that cannot be told: wrong arguments, a store that does not answer.

Source: storage design, section 2, step 4; security design, section 6.
"""

import argparse
import hashlib
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audit_platform.archive.columns import schema_fingerprint
from audit_platform.archive.leaf_order import LeafOrder
from audit_platform.archive.leaf_sums import GroupNumbers, LeafSums, sum_up
from audit_platform.archive.manifest import FileEntry, Group, Manifest, partition_root
from audit_platform.archive.read import batches_of, frame_of, opened
from audit_platform.archive.row_check import FileRows, id_bytes
from audit_platform.archive.store import ArchiveStore, open_store, read_bytes
from audit_platform.archive.verify_report import Findings, Kind, VerifyReport
from audit_platform.errors import ArchiveDamaged, ArchiveMissing, AuditPlatformError

INTACT: Final = 0
NOT_INTACT: Final = 1
UNKNOWN: Final = 2
_NAMED_GROUPS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What is known of a partition from elsewhere; a forged manifest disagrees with it.

    Attributes:
        manifest_sha256: 32 bytes; None where it is not known.
        root: Of the seal; likewise.
        expired: Paths of files that were deleted on purpose, or are being deleted.
    """

    manifest_sha256: bytes | None = None
    root: bytes | None = None
    expired: frozenset[str] = frozenset()


def verify(
    manifest: bytes,
    store: ArchiveStore,
    *,
    recorded: Recorded | None = None,
    work_dir: Path | None = None,
) -> VerifyReport:
    """Read everything that a manifest names and compare it with what the manifest says.

    Args:
        manifest: Its bytes, as they lie in the archive.
        store: Where the files lie.
        recorded: What `audit.partition` says; None to take the manifest's word.
        work_dir: Where 52 bytes per row lie meanwhile; None for the system's place.

    Returns:
        What was read and what disagrees; damage is a finding, not an error.

    Raises:
        ArchiveUnavailable: The store does not answer, so that nothing can be told.
    """
    known = recorded or Recorded()
    findings = Findings()
    if known.manifest_sha256 not in {None, hashlib.sha256(manifest).digest()}:
        findings.add(Kind.MANIFEST, "manifest", "its SHA-256 is not the one recorded at export")
    try:
        read = Manifest.from_json(manifest)
    except ArchiveDamaged as exc:
        findings.add(Kind.MANIFEST, "manifest", exc.message)
        return _Reading(None, store, findings).report()
    _check_manifest(read, known, findings)
    reading = _Reading(read, store, findings)
    if read.schema_fingerprint != schema_fingerprint():
        detail = "written with another schema: verify it with the release that wrote it"
        findings.add(Kind.SCHEMA, read.partition, detail)
        return reading.report()
    sums = reading.read_files(known.expired, work_dir)
    if sums is not None:
        _compare(read, known.expired, sums, findings)
    return reading.report(sums)


class _Reading:
    """The files of one manifest, read one after the other."""

    def __init__(self, manifest: Manifest | None, store: ArchiveStore, findings: Findings) -> None:
        self._manifest, self._store, self._findings = manifest, store, findings
        self._groups = GroupNumbers()
        self._rows = self._files = self._bytes = self._expired = 0

    def read_files(self, expired: Collection[str], work_dir: Path | None) -> LeafSums | None:
        """Read every file; None if one cannot be read as written: sums would say nothing new."""
        assert self._manifest is not None  # noqa: S101 - the caller has one
        entries = [entry for entry in self._manifest.files if entry.path not in expired]
        self._expired = len(self._manifest.files) - len(entries)
        with LeafOrder(directory=work_dir) as order:
            read = [self._read_file(self._manifest, entry, order) for entry in entries]
            return sum_up(order.blocks(), self._groups.keys) if all(read) else None

    def _read_file(self, manifest: Manifest, entry: FileEntry, order: LeafOrder) -> bool:
        findings = self._findings
        checked = FileRows(entry, lo=manifest.lo, hi=manifest.hi, findings=findings)
        try:
            with opened(self._store, entry) as file:
                for batch in batches_of(file, entry):
                    rows = frame_of(batch)
                    leaves = checked.check(rows).to_list()
                    tenants = rows["tenant_id"].to_list()
                    groups = self._groups.numbers_of(tenants, entry.retention_class)
                    order.add(id_bytes(rows["id"]), leaves, groups)
        except ArchiveMissing:
            findings.add(Kind.MISSING, entry.path, "this file is not in the archive")
            return False
        except ArchiveDamaged as exc:
            findings.add(_kind_of(exc), entry.path, exc.message)
            return False
        checked.finish()
        self._rows += checked.rows
        self._files += 1
        self._bytes += entry.bytes
        return True

    def report(self, sums: LeafSums | None = None) -> VerifyReport:
        """Say what was read, and all that was found."""
        manifest = self._manifest
        return VerifyReport(
            partition=manifest.partition if manifest else "",
            generation=manifest.generation if manifest else 0,
            rows=self._rows,
            files=self._files,
            bytes=self._bytes,
            expired=self._expired,
            root=partition_root(sums.groups).hex() if sums and not self._expired else "",
            leaf_digest=sums.leaf_digest.hex() if sums and not self._expired else "",
            mismatches=tuple(self._findings.named),
            mismatch_count=self._findings.count,
        )


def _check_manifest(manifest: Manifest, known: Recorded, findings: Findings) -> None:
    """Compare the manifest with itself and with what is recorded."""
    name = manifest.partition
    if known.root not in {None, manifest.root}:
        findings.add(Kind.ROOT, name, "the manifest names another root than the seal")
    if partition_root(manifest.groups) != manifest.root:
        findings.add(Kind.ROOT, name, "the groups of the manifest do not give its root")
    in_groups = sum(group.n for group in manifest.groups)
    in_files = sum(entry.rows for entry in manifest.files)
    if not in_groups == in_files == manifest.n:
        detail = f"{manifest.n:,} rows, {in_files:,} in its files, {in_groups:,} in its groups"
        findings.add(Kind.ROWS, name, f"the manifest contradicts itself: {detail}")
    paths = [entry.path for entry in manifest.files]
    if len(paths) != len(set(paths)):
        findings.add(Kind.MANIFEST, name, "the manifest names a file twice")


def _compare(
    manifest: Manifest, expired: Collection[str], sums: LeafSums, findings: Findings
) -> None:
    name = manifest.partition
    for event_id in sums.duplicates:
        findings.add(Kind.IDS, f"event {event_id}", "its tenant has this id more than once")
    more = sums.duplicate_count - len(sums.duplicates)
    findings.add(Kind.IDS, name, f"{more:,} more ids occur more than once", count=more)
    incomplete = _groups_without_files(manifest, expired)
    _compare_groups(
        [group for group in manifest.groups if _key(group) not in incomplete],
        [group for group in sums.groups if _key(group) not in incomplete],
        findings,
    )
    if incomplete:
        return
    if sums.n != manifest.n:
        findings.add(Kind.ROWS, name, f"holds {sums.n:,} rows, the seal says {manifest.n:,}")
    if (sums.min_id, sums.max_id) != (manifest.min_id, manifest.max_id):
        findings.add(Kind.IDS, name, "the smallest or the largest id is not the sealed one")
    if sums.leaf_digest != manifest.leaf_digest:
        findings.add(Kind.DIGEST, name, "the leaves in order have another digest than sealed")
    if partition_root(sums.groups) != manifest.root:
        findings.add(Kind.ROOT, name, "the rows give another root than the sealed one")


def _kind_of(error: ArchiveDamaged) -> Kind:
    problem = error.fields.get("problem")
    return Kind(str(problem)) if problem in set(Kind) else Kind.UNREADABLE


def _groups_without_files(manifest: Manifest, expired: Collection[str]) -> set[tuple[str, str]]:
    """Groups some of whose rows were deleted on purpose; their roots stay, their rows do not."""
    gone = (entry for entry in manifest.files if entry.path in expired)
    return {_key(group) for entry in gone for group in manifest.groups_of(entry)}


def _compare_groups(sealed: Iterable[Group], found: Iterable[Group], findings: Findings) -> None:
    before = {_key(group): group for group in sealed}
    after = {_key(group): group for group in found}
    wrong = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    for key in sorted(wrong)[:_NAMED_GROUPS]:
        findings.add(Kind.GROUP, _named(key), _difference(before.get(key), after.get(key)))
    more = max(0, len(wrong) - _NAMED_GROUPS)
    findings.add(Kind.GROUP, "groups", f"{more:,} more groups differ", count=more)


def _difference(sealed: Group | None, found: Group | None) -> str:
    if sealed is None:
        return "has rows, but was not sealed"
    if found is None:
        return f"all {sealed.n:,} rows are missing"
    if sealed.n != found.n:
        return f"holds {found.n:,} rows, sealed were {sealed.n:,}"
    return "the rows give another root than the sealed one"


def _key(group: Group) -> tuple[str, str]:
    return group.tenant_id, group.retention_class


def _named(key: tuple[str, str]) -> str:
    # ascii(): a tenant is a producer's text and may hold anything.
    return f"group {key[0]!a} {key[1]}"


def main(arguments: Sequence[str]) -> int:
    """Verify as a program of its own; returns the exit code of the module docstring."""
    options = _parser().parse_args(arguments)
    try:
        store = open_store(options.url)
        recorded = Recorded(
            manifest_sha256=options.manifest_sha256,
            root=options.root,
            expired=frozenset(options.expired),
        )
        try:
            manifest = read_bytes(store, options.manifest)
        except ArchiveMissing as exc:
            findings = Findings()
            findings.add(Kind.MISSING, options.manifest, exc.message)
            report = _Reading(None, store, findings).report()
        else:
            report = verify(manifest, store, recorded=recorded, work_dir=options.work_dir)
    except AuditPlatformError as exc:
        sys.stderr.write(f"{exc.message}\n")
        return UNKNOWN
    sys.stdout.write(f"{report.to_json()}\n")
    return INTACT if report.is_intact else NOT_INTACT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audit_platform.archive.verify",
        description="Verify an archived partition from its files alone; prints JSON.",
    )
    parser.add_argument("url", help="archive: file:///directory or s3://bucket/prefix")
    parser.add_argument("manifest", help="path of the manifest below it")
    parser.add_argument("--manifest-sha256", type=bytes.fromhex, metavar="HEX")
    parser.add_argument("--root", type=bytes.fromhex, metavar="HEX", help="of the seal")
    parser.add_argument("--expired", nargs="*", default=[], metavar="PATH")
    parser.add_argument("--work-dir", type=Path, help="for a temporary file, 52 bytes per row")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
