"""Job `search_export`: writes a search to files, launched by hand from the launchpad.

Here: the config that a person fills in, the op, what it shows. Not here: the steps
(`exports/search_export.py`), connections and the log (`exports/services.py`), the same from a
terminal (`cli/export.py`).
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg
from pydantic import Field

from audit_platform.archive.store import open_store
from audit_platform.assets.search_exports import SEARCH_EXPORT
from audit_platform.events.event import ActorType
from audit_platform.exports.manifest import FinishedExport
from audit_platform.exports.order import (
    MOST_ROWS_PER_FILE,
    ROWS_PER_FILE,
    ExportFormat,
    ExportOrder,
    SearchWords,
    query_of,
)
from audit_platform.exports.progress import ExportProgress
from audit_platform.failures import dagster_failures, is_logged
from audit_platform.jobs.coordinator import LANE_TAG
from audit_platform.resources import SettingsResource

SEARCH_EXPORT_JOB: Final = "search_export"
EXPORT_OP: Final = "export_search"
PROGRESS_TAG: Final = "audit/progress"
_TAG_STEP: Final = 0.05

_TEXT: Final = """
Writes every event that a search finds, hot, late and archived, to files in `AUDIT_EXPORT_DIR`
(default: `exports` in the data directory), newest first.

Launch it from the launchpad: fill in the filters, the format (`CSV`, `NDJSON`, `PARQUET`) and,
unless all tenants are meant, the tenant. An export that was interrupted goes on after its last
complete file: re-execute the failed run, or launch again with the same name and filters.
Progress is on the page of the asset `search_export`; the run's last event names the manifest.
"""


class SearchExportConfig(dg.Config):
    """What one run exports; an empty field is an absent filter, and all filters must match."""

    format: ExportFormat = Field(description="CSV, NDJSON or PARQUET.")
    tenant: str = Field(
        default="", description="Only this tenant, read as its reader; empty: all, as operator."
    )
    since: str = Field(
        default="", description="2h, 7d, 2026-01-31 or 2026-01-31T12:00:00Z; inclusive."
    )
    until: str = Field(default="", description="As since; exclusive. Empty: now.")
    user: str = Field(default="", description="Only events of this user id.")
    entity: str = Field(default="", description="Only this record, type:id, or all of a type.")
    action: str = Field(default="", description="Exact action, or a prefix such as user.*")
    status: str = Field(default="", description="success, failure, denied, skipped or pending.")
    source: str = Field(default="", description="Only this source.")
    correlation: str = Field(default="", description="Only events of this business operation.")
    text: str = Field(
        default="", description="Found in action, description or entity label, whatever the case."
    )
    where: list[str] = Field(
        default_factory=list, description="Conditions on metadata, each path=value: plan=pro"
    )
    name: str = Field(
        default="",
        description="Directory of the export; empty: made from the run. The same name and filters "
        "again go on with an interrupted export.",
    )
    # Ranges are checked by `ExportOrder`: Dagster checks those of a field only when the op begins,
    # and would retry it (1.13.27).
    rows_per_file: int = Field(
        default=ROWS_PER_FILE, description=f"A file ends here; 1 to {MOST_ROWS_PER_FILE:,}."
    )
    most_rows: int = Field(default=0, description="The export ends here; 0: everything.")
    requested_by: str = Field(
        default="", description="Who asked for it, for the log; Dagster knows no users."
    )

    def order(self, *, run: dg.DagsterRun, now: datetime) -> ExportOrder:
        """Read the words.

        Raises:
            InvalidQuery: Names the field and the remedy.
        """
        words = SearchWords(
            **{name: getattr(self, name) for name in _TEXT_FIELDS}, where=tuple(self.where)
        )
        # Of the first run, so that a re-execution goes on with it.
        first_run_id = run.root_run_id or run.run_id
        return ExportOrder(
            name=self.name or f"run-{first_run_id}",
            format=self.format,
            query=query_of(words, now=now),
            rows_per_file=self.rows_per_file,
            most_rows=self.most_rows or None,
        )


_TEXT_FIELDS: Final = (
    *("tenant", "since", "until", "user", "entity", "action", "status", "source"),
    *("correlation", "text"),
)


class ExportObserver:
    """Turns the progress of an export into observations, and into a tag of its run."""

    def __init__(
        self,
        log_event: Callable[[dg.AssetObservation], None],
        *,
        tag: Callable[[str], None],
        name: str,
        interval_s: float,
        clock: Callable[[], float],
    ) -> None:
        """Begin.

        Args:
            log_event: Of the running op.
            tag: Sets the progress that the list of runs shows.
            name: Of the export.
            interval_s: Time between two observations.
            clock: Monotonic seconds.
        """
        self._log_event, self._tag, self._name = log_event, tag, name
        self._interval_s, self._clock = interval_s, clock
        self._began_s = self._told_s = clock()
        self._first_rows: int | None = None
        self._tagged = 0.0

    def report(self, progress: ExportProgress) -> None:
        """Take a report; observe if it is time."""
        if self._first_rows is None:
            # Rows of an earlier attempt say nothing about the speed of this one.
            self._first_rows = progress.rows
        now_s = self._clock()
        if now_s - self._told_s < self._interval_s:
            return
        observation = dg.AssetObservation(
            asset_key=SEARCH_EXPORT, metadata=self._numbers(progress, now_s)
        )
        if is_logged(self._log_event, observation):
            self._told_s = now_s
        if progress.share is not None and progress.share - self._tagged >= _TAG_STEP:
            self._tagged = progress.share
            self._tag(f"{progress.share:.0%}, {progress.rows:,} rows")

    def _numbers(self, progress: ExportProgress, now_s: float) -> dict[str, Any]:
        new_rows = progress.rows - (self._first_rows or 0)
        numbers: dict[str, Any] = {
            "export": self._name,
            "rows": progress.rows,
            "bytes": progress.bytes_,
            "files": progress.files,
            "rows_per_s": round(new_rows / max(now_s - self._began_s, 1e-3), 1),
            "archive_files_opened": progress.files_opened,
            "archive_files_skipped": progress.files_skipped,
        }
        if progress.share is not None:
            numbers["percent"] = round(100 * progress.share, 1)
        if progress.reached is not None:
            numbers["reached"] = dg.MetadataValue.timestamp(progress.reached.astimezone(UTC))
        return numbers


@dg.op(
    name=EXPORT_OP,
    description="Search page by page, write files, then the manifest.",
    # A lost connection or a full disk: the next attempt goes on after the last complete file.
    retry_policy=dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL),
)
def export_found(
    context: dg.OpExecutionContext, config: SearchExportConfig, settings: SettingsResource
) -> None:
    """Export one search and show the result."""
    # Here and not above: it brings pyarrow, and every ingest run loads this module while events
    # wait (0.09 s).
    from audit_platform.exports.services import Requester, export_search  # noqa: PLC0415

    run, now = context.run, datetime.now(UTC)
    with dagster_failures():
        values = settings.load()
        order = config.order(run=run, now=now)
        observer = ExportObserver(
            context.log_event,
            tag=lambda text: context.instance.add_run_tags(run.run_id, {PROGRESS_TAG: text}),
            name=order.name,
            interval_s=values.observation_interval_s,
            clock=time.monotonic,
        )
        store = open_store(values.export_place().absolute().as_uri())
        done = export_search(
            values,
            order,
            store=store,
            requester=Requester(
                name=config.requested_by or "dagster",
                actor_type=ActorType.ADMIN if config.requested_by else ActorType.SYSTEM,
                run_id=run.run_id,
            ),
            now=now,
            report=observer.report,
        )
    metadata = result_metadata(done, str(store.local_path(done.manifest_path)))
    is_logged(context.log_event, dg.AssetObservation(asset_key=SEARCH_EXPORT, metadata=metadata))
    context.add_output_metadata(metadata)


@dg.job(
    name=SEARCH_EXPORT_JOB,
    description=_TEXT,
    executor_def=dg.in_process_executor,
    tags={LANE_TAG: "export"},
)
def search_export() -> None:
    """Export one search."""
    export_found()


def result_metadata(done: FinishedExport, manifest: str) -> dict[str, Any]:
    """Say what a finished export holds and where."""
    records = [
        dg.TableRecord(
            {
                "file": file.path,
                "rows": file.rows,
                "bytes": file.size_bytes,
                "sha256": file.sha256,
                "newest": file.newest or "",
                "oldest": file.oldest or "",
            }
        )
        for file in done.files
    ]
    return {
        "export": done.name,
        "rows": done.rows,
        "bytes": done.size_bytes,
        "percent": 100.0,
        "files": len(done.files),
        "more events match": dg.MetadataValue.bool(done.has_more),
        "query": dg.MetadataValue.json(dict(done.query)),
        "manifest": dg.MetadataValue.path(manifest),
        "manifest sha256": done.manifest_sha256,
        "written files": dg.MetadataValue.table(
            records=records,
            schema=dg.TableSchema(
                columns=[
                    dg.TableColumn("file", "string"),
                    dg.TableColumn("rows", "int"),
                    dg.TableColumn("bytes", "int"),
                    dg.TableColumn("sha256", "string"),
                    dg.TableColumn("newest", "string"),
                    dg.TableColumn("oldest", "string"),
                ]
            ),
        ),
    }
