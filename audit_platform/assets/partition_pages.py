"""What the page of a partition shows: its record, and what the steps just taken came to.

Here: records and reports of the life cycle as Dagster's metadata, materializations and check
results. Not here: the assets (`assets/partition_lifecycle.py`), the checks started by hand
(`assets/lifecycle_checks.py`), who asks (`jobs/lifecycle.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import dagster as dg

from audit_platform.retention.partition_states import Step, following_step
from audit_platform.retention.partition_table import PartitionRow

if TYPE_CHECKING:
    from audit_platform.retention.advance import StepReport
    from audit_platform.retention.holds import Hold

SEALED: Final = "sealed_partition"
ARCHIVED: Final = "archived_partition"
VERIFIED: Final = "verified_archive"
DETACHED: Final = "detached_partition"
DROPPED: Final = "dropped_partition"

STEPS_OF_ASSET: Final[Mapping[str, tuple[Step, ...]]] = {
    # A sealed partition is complete when its cold indexes are there.
    SEALED: (Step.SEAL, Step.INDEX),
    ARCHIVED: (Step.EXPORT,),
    VERIFIED: (Step.VERIFY,),
    DETACHED: (Step.DETACH,),
    DROPPED: (Step.DROP,),
}
"""In the order of a partition's life; the last step of an asset completes it."""
_ORDER: Final = tuple(Step)
_SHOWN_FILES: Final = 50
_SHA_DIGITS: Final = 16


def has_taken(row: PartitionRow, step: Step) -> bool:
    """Whether the record says that a partition has this step behind it."""
    following = following_step(row)
    return following is None or _ORDER.index(following) > _ORDER.index(step)


def reached_assets(row: PartitionRow) -> Iterator[str]:
    """Name the assets that a partition has reached by its record."""
    return (key for key, steps in STEPS_OF_ASSET.items() if has_taken(row, steps[-1]))


def partition_metadata(
    row: PartitionRow, holds: Sequence["Hold"], reports: Sequence["StepReport"] = ()
) -> dict[str, dg.MetadataValue]:
    """Write what the record says of a partition, and what the steps just taken came to.

    Args:
        row: After the steps.
        holds: Active legal holds; those that cover the partition are shown.
        reports: Of the steps that this stands for; none if only the record is shown.
    """
    shown: dict[str, dg.MetadataValue] = {
        "state": dg.MetadataValue.text(row.state.value),
        "range": dg.MetadataValue.text(
            f"{row.lo:%Y-%m-%d %H:%M} to {row.hi:%Y-%m-%d %H:%M} UTC, without its end"
        ),
        "generation": dg.MetadataValue.int(row.generation),
        "rows": dg.MetadataValue.int(row.n or 0),
        "archive bytes": dg.MetadataValue.int(sum(entry.bytes for entry in row.files)),
        "files": dg.MetadataValue.int(len(row.files)),
        "legal holds": dg.MetadataValue.text(_holds_text(row, holds)),
        "root": dg.MetadataValue.text("none yet" if row.root is None else row.root.hex()),
    }
    if reports:
        seconds = round(sum(report.seconds for report in reports), 3)
        shown["seconds"] = dg.MetadataValue.float(seconds)
    for report in reports:
        for name, value in report.figures.items():
            shown.setdefault(name.replace("_", " "), _value(value))
    if row.files:
        shown["archive files"] = _file_table(row)
    return shown


def materializations_of(
    row: PartitionRow, holds: Sequence["Hold"], taken: Sequence["StepReport"]
) -> Iterator[dg.AssetMaterialization]:
    """Give one materialization for each asset that these steps completed.

    Args:
        row: After the steps.
        holds: Active legal holds.
        taken: In order.
    """
    for key, steps in STEPS_OF_ASSET.items():
        reports = [report for report in taken if report.step in steps]
        if reports and reports[-1].step is steps[-1]:
            yield dg.AssetMaterialization(
                asset_key=key, partition=row.name, metadata=partition_metadata(row, holds, reports)
            )


def _holds_text(row: PartitionRow, holds: Sequence["Hold"]) -> str:
    covering = [one for one in holds if one.scope.lo < row.hi and row.lo < one.scope.hi]
    cases = sorted({one.case_id for one in covering})
    return f"{len(covering)}, of case {', '.join(cases)}" if covering else "none"


def _file_table(row: PartitionRow) -> dg.MetadataValue:
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {
                    "path": entry.path,
                    "rows": entry.rows,
                    "bytes": entry.bytes,
                    "class": entry.retention_class,
                    "tenant": entry.tenant or "several",
                    # In full it is cut by the edge of the page; the manifest has all of it.
                    "sha256 begins": entry.sha256[:_SHA_DIGITS],
                }
            )
            for entry in row.files[:_SHOWN_FILES]
        ],
        schema=dg.TableSchema(
            columns=[
                dg.TableColumn("path", "string"),
                dg.TableColumn("rows", "int"),
                dg.TableColumn("bytes", "int"),
                dg.TableColumn("class", "string"),
                dg.TableColumn("tenant", "string"),
                dg.TableColumn("sha256 begins", "string"),
            ]
        ),
    )


def _value(value: float | str) -> dg.MetadataValue:
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    return dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(value)
