"""What a run over many partitions found: the checks of their assets, sums, sentences.

Here: outcomes of a walk to check evaluations, one per check and run, which name the partitions;
the table of the run's page.
Not here: the same checks of one partition started by hand (`assets/lifecycle_checks.py`), the
walk itself (`retention/walk.py`).
Guarantee: a partition that failed shows in the check until a later run found it well: each run
judges every partition that was due, not the newest alone.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from audit_platform.assets.lifecycle_checks import (
    ARCHIVE_RE_READ,
    ARCHIVE_UNCHANGED,
    LEDGER_EQUALS_ROWS,
    NOT_HELD,
    NOT_HELD_HOT,
)
from audit_platform.assets.partition_pages import ARCHIVED, DETACHED, SEALED, VERIFIED
from audit_platform.retention.archive_copies import COPIES_REASON
from audit_platform.retention.partition_ledger import LEDGER_REASON
from audit_platform.retention.partition_states import Step, following_step

if TYPE_CHECKING:
    from audit_platform.retention.walk import PartitionOutcome

_NAMED: Final = 5
_SHOWN_PARTITIONS: Final = 200
Verdict = Callable[["PartitionOutcome"], str | None]


def evaluations_of(outcomes: Sequence["PartitionOutcome"]) -> Iterator[dg.AssetCheckEvaluation]:
    """Give the evaluation of each check that this run can say something about."""
    asked = (
        (SEALED, LEDGER_EQUALS_ROWS, _was_compared, _ledger_contradicts),
        (ARCHIVED, ARCHIVE_RE_READ, _was_read, _reading_failed),
        (VERIFIED, ARCHIVE_UNCHANGED, _was_hashed, _copies_differ),
    )
    for asset, check, was_asked, finding in asked:
        judged = [one for one in outcomes if was_asked(one)]
        if judged:
            yield _evaluation(asset, check, judged, finding, dg.AssetCheckSeverity.ERROR)
    for asset, check, step in (
        (VERIFIED, NOT_HELD_HOT, Step.DETACH),
        (DETACHED, NOT_HELD, Step.DROP),
    ):
        judged = [one for one in outcomes if one.proved_step is step]
        if judged:
            # A hold does what it is there for: nothing is wrong.
            yield _evaluation(asset, check, judged, _is_held, dg.AssetCheckSeverity.WARN)


def sentence_of(outcome: "PartitionOutcome") -> str:
    """Say in one line what was done to a partition."""
    row = outcome.row
    taken = ", ".join(report.step.value for report in outcome.taken) or "nothing"
    why = outcome.failed_because or outcome.waits_because
    reason = "" if why is None else f": {why}"
    if outcome.failed_because is not None:
        return f"{row.name} failed after {taken}, it is {row.state}{reason}"
    return f"{row.name}: {taken} done, it is {row.state}{reason}"


def summary_of(outcomes: Sequence["PartitionOutcome"]) -> dict[str, dg.MetadataValue]:
    """Write the sums of a run and one line per partition."""
    shown: dict[str, dg.MetadataValue] = {
        "partitions": dg.MetadataValue.int(len(outcomes)),
        "advanced": dg.MetadataValue.int(sum(bool(one.taken) for one in outcomes)),
        "waiting": dg.MetadataValue.int(sum(one.waits_because is not None for one in outcomes)),
        "failed": dg.MetadataValue.int(sum(one.failed_because is not None for one in outcomes)),
        "rows": dg.MetadataValue.int(sum(one.row.n or 0 for one in outcomes if one.taken)),
        "seconds": dg.MetadataValue.float(
            round(sum((report.seconds for one in outcomes for report in one.reports), 0.0), 3)
        ),
    }
    if outcomes:
        shown["by partition"] = dg.MetadataValue.table(
            records=[_record(one) for one in outcomes[:_SHOWN_PARTITIONS]],
            schema=dg.TableSchema(
                columns=[
                    dg.TableColumn("partition", "string"),
                    dg.TableColumn("steps", "string"),
                    dg.TableColumn("state", "string"),
                    dg.TableColumn("rows", "int"),
                    dg.TableColumn("seconds", "float"),
                    dg.TableColumn("note", "string"),
                ]
            ),
        )
    return shown


def _evaluation(
    asset: str,
    check: str,
    judged: Sequence["PartitionOutcome"],
    finding: Verdict,
    severity: dg.AssetCheckSeverity,
) -> dg.AssetCheckEvaluation:
    found = {one.row.name: text for one in judged if (text := finding(one)) is not None}
    passed = f"{len(judged)} partition{'' if len(judged) == 1 else 's'} of this run passed"
    more = f"; and {len(found) - _NAMED} more partitions" if len(found) > _NAMED else ""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=check,
        passed=not found,
        severity=severity,
        description="; ".join(list(found.values())[:_NAMED]) + more if found else passed,
        metadata={"partitions": len(judged), "not passed": ", ".join(found) or "none"},
    )


def _was_compared(one: "PartitionOutcome") -> bool:
    return one.ledger is not None


def _ledger_contradicts(one: "PartitionOutcome") -> str | None:
    return _reason(one, LEDGER_REASON)


def _was_read(one: "PartitionOutcome") -> bool:
    return any(report.step is Step.VERIFY for report in one.reports) or (
        one.failed_because is not None and following_step(one.row) is Step.VERIFY
    )


def _reading_failed(one: "PartitionOutcome") -> str | None:
    return one.failed_because if following_step(one.row) is Step.VERIFY else None


def _was_hashed(one: "PartitionOutcome") -> bool:
    return one.copies is not None


def _copies_differ(one: "PartitionOutcome") -> str | None:
    return _reason(one, COPIES_REASON)


def _reason(one: "PartitionOutcome", reason: str) -> str | None:
    is_it = one.error is not None and one.error.fields.get("reason") == reason
    return one.failed_because if is_it else None


def _is_held(one: "PartitionOutcome") -> str | None:
    if not one.holds:
        return None
    cases = ", ".join(sorted({hold.case_id for hold in one.holds}))
    return f"legal holds cover {one.row.name} (case {cases})"


def _record(one: "PartitionOutcome") -> dg.TableRecord:
    fields: dict[str, Any] = {
        "partition": one.row.name,
        "steps": ", ".join(report.step.value for report in one.taken),
        "state": one.row.state.value,
        "rows": one.row.n or 0,
        "seconds": round(sum(report.seconds for report in one.reports), 3),
        "note": one.failed_because or one.waits_because or "",
    }
    return dg.TableRecord(fields)
