"""Check on the events: does every number that a producer gave have an account; with certificate.

Here: judging the accounts of a day and showing them. Not here: the accounts
(`events/completeness.py`), the file (`events/certificate.py`), when it runs (`schedules.py`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

import dagster as dg

from audit_platform.assets.audit_event import AUDIT_EVENT
from audit_platform.events.certificate import (
    WrittenCertificate,
    certificate_of,
    write_certificate,
)
from audit_platform.events.completeness import Account, Completeness, count, read_completeness
from audit_platform.events.watermark import read_identity
from audit_platform.failures import dagster_failures
from audit_platform.resources import DatabaseResource, SettingsResource

_SHOWN_RUNS: Final = 20
_SHOWN_RANGES: Final = 5


@dg.asset_check(asset=AUDIT_EVENT)
def sequence_gaps(settings: SettingsResource, database: DatabaseResource) -> dg.AssetCheckResult:
    """No number that a producer gave is missing for over 15 minutes without a declaration.

    Looks at producers heard of since the beginning of the day before, and writes the certificate
    of that day.
    """
    now = datetime.now(UTC)
    day = now.date() - timedelta(days=1)
    since = datetime.combine(day, time(), UTC)
    with dagster_failures():
        values = settings.load()
        with database.owner("check completeness") as conn:
            found = read_completeness(conn, since=since)
            identity = read_identity(conn)
    certificate = certificate_of(found, since=since, made_at=now, database=identity)
    try:
        written = write_certificate(certificate, data_dir=values.data_dir.absolute(), day=day)
    except OSError as exc:
        return _not_written(found, exc)
    return dg.AssetCheckResult(
        passed=not _gaps(found),
        severity=dg.AssetCheckSeverity.ERROR,
        description=_verdict(found),
        metadata={**_numbers(found), **_certificate(written)},
    )


def _not_written(found: Completeness, error: OSError) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"{_verdict(found)}; the certificate was not written "
            f"({(error.strerror or 'error').lower()}): make AUDIT_DATA_DIR writable and run again"
        ),
        metadata=_numbers(found),
    )


def _gaps(found: Completeness) -> list[Account]:
    """Runs with numbers that are missing for long enough to be called lost."""
    return [account for account in found.accounts if account.settled_missing]


def _verdict(found: Completeness) -> str:
    gaps = _gaps(found)
    accepted = sum(account.accepted for account in found.accounts)
    if not gaps:
        return f"{accepted:,} numbers of {_runs(found.accounts)} are all accounted for"
    missing = sum(count(account.settled_missing) for account in gaps)
    named = ", ".join(f"{one.producer_id}:{one.epoch}" for one in gaps[:3])
    return (
        f"{missing:,} of {accepted:,} numbers are missing, in {_runs(gaps)} ({named}); look "
        "whether the producer still has them in its spool: it sends them when it starts again"
    )


def _runs(accounts: Sequence[Account]) -> str:
    return f"{len(accounts):,} run{'' if len(accounts) == 1 else 's'}"


def _numbers(found: Completeness) -> dict[str, Any]:
    settled = sum(count(account.settled_missing) for account in found.accounts)
    totals = found.totals()
    young = totals["missing"] - settled
    metadata: dict[str, Any] = {
        "runs of producers": len(found.accounts),
        **totals,
        "missing": settled,
        "missing for less than 15 minutes": young,
        "ended uncleanly": sum(one.state == "unclean" for one in found.accounts),
    }
    gaps = _gaps(found)
    if gaps:
        metadata["missing numbers"] = dg.MetadataValue.table(
            records=[_record(account) for account in gaps[:_SHOWN_RUNS]]
        )
    return metadata


def _record(account: Account) -> dg.TableRecord:
    shown = [
        str(first) if first == last else f"{first}-{last}"
        for first, last in account.settled_missing
    ]
    more = len(shown) - _SHOWN_RANGES
    ranges = ", ".join(shown[:_SHOWN_RANGES]) + (f" and {more} more" if more > 0 else "")
    return dg.TableRecord(
        {
            "producer": account.name or str(account.producer_id),
            # As text: the page would round so large a number.
            "run": f"{account.producer_id}:{account.epoch}",
            "state": account.state.value,
            "missing": count(account.settled_missing),
            "numbers": ranges,
        }
    )


def _certificate(written: WrittenCertificate) -> dict[str, Any]:
    return {
        "certificate": dg.MetadataValue.path(written.path),
        "certificate sha256": written.sha256,
        "certificate bytes": written.size_bytes,
    }
