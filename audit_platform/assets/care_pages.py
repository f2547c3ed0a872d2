"""What the pages of merges, cold deletions and restore drills show.

Here: their reports as Dagster's metadata. Not here: the assets (`assets/archive_care.py`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import dagster as dg

from audit_platform.retention.expire import Outcome

if TYPE_CHECKING:
    from audit_platform.retention.drill import DrillReport
    from audit_platform.retention.late_rows import MergeReport
    from audit_platform.retention.old_generations import Settled

_SHOWN: Final = 200


def merge_metadata(
    merged: Sequence["MergeReport"], settled: Sequence["Settled"]
) -> dict[str, dg.MetadataValue]:
    """Sums of a merge, and what became of the rows of each partition."""
    shown: dict[str, dg.MetadataValue] = {
        "partitions": dg.MetadataValue.int(len(merged)),
        "rows added": dg.MetadataValue.int(sum(one.added for one in merged)),
        "duplicates": dg.MetadataValue.int(sum(one.duplicates for one in merged)),
        "collided": dg.MetadataValue.int(sum(one.collided for one in merged)),
        "opened again": dg.MetadataValue.int(sum(one.opened_from is not None for one in merged)),
        "former generations proved": dg.MetadataValue.int(sum(one.is_proved for one in settled)),
        "former files deleted": dg.MetadataValue.int(sum(one.deleted_files for one in settled)),
    }
    if merged:
        shown["by partition"] = _table(
            [
                {
                    "partition": one.partition,
                    "opened from": "" if one.opened_from is None else one.opened_from.value,
                    "added": one.added,
                    "duplicates": one.duplicates,
                    "collided": one.collided,
                    "note": one.problem or one.skipped or "",
                }
                for one in merged
            ]
        )
    return shown


def expiry_metadata(records: Sequence[Mapping[str, str | int]]) -> dict[str, dg.MetadataValue]:
    """Sums of a run of cold deletion, and what was done to each file."""
    counts = Counter(str(record["outcome"]) for record in records)
    shown: dict[str, dg.MetadataValue] = {
        "files": dg.MetadataValue.int(len(records)),
        **{
            outcome.value: dg.MetadataValue.int(counts[outcome.value])
            for outcome in Outcome
            if outcome is not Outcome.NOTHING
        },
        "failed": dg.MetadataValue.int(counts["failed"]),
        "rows deleted": dg.MetadataValue.int(
            sum(
                int(record["rows"])
                for record in records
                if record["outcome"] == Outcome.DELETED.value
            )
        ),
    }
    if records:
        shown["by file"] = _table(records)
    return shown


def drill_metadata(report: "DrillReport | None") -> dict[str, dg.MetadataValue]:
    """What a restore drill came to; None if nothing is archived yet."""
    if report is None:
        return {"partition": dg.MetadataValue.text("none: nothing is archived yet")}
    shown: dict[str, dg.MetadataValue] = {
        "partition": dg.MetadataValue.text(report.partition),
        "generation": dg.MetadataValue.int(report.generation),
        "rows": dg.MetadataValue.int(report.rows),
        "seconds": dg.MetadataValue.float(round(report.seconds, 3)),
        "mismatches": dg.MetadataValue.int(report.mismatches),
        "detail": dg.MetadataValue.text(report.detail),
    }
    if report.seconds_per_million is not None:
        speed = round(report.seconds_per_million, 3)
        shown["seconds per million rows"] = dg.MetadataValue.float(speed)
    return shown


def _table(rows: Sequence[Mapping[str, str | int]]) -> dg.MetadataValue:
    # Columns named here: Dagster would take them from the first row, all as text.
    return dg.MetadataValue.table(
        records=[dg.TableRecord(dict(row)) for row in rows[:_SHOWN]],
        schema=dg.TableSchema(
            columns=[
                dg.TableColumn(name, "int" if isinstance(value, int) else "string")
                for name, value in rows[0].items()
            ]
        ),
    )
