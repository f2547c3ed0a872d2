"""`audit-platform restore`: archived days back in PostgreSQL, and trials of it.

Here: options, words, exit codes. Not here: the restore (`retention/restore.py`), the trial
(`retention/drill.py`).
Guarantee: who brings rows back, how and why is an event of the log, or nothing is brought back.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from audit_platform.errors import InvalidQuery

if TYPE_CHECKING:
    from audit_platform.archive.store import ArchiveStore
    from audit_platform.db.pool import Connection
    from audit_platform.retention.drill import DrillReport
    from audit_platform.retention.partition_table import PartitionRow
    from audit_platform.retention.restored_table import RestoreReport
    from audit_platform.settings import Settings

RESTORE_ACTION: Final = "audit.partition.restore"
ATTACH_ACTION: Final = "audit.partition.attach"
REMOVE_ACTION: Final = "audit.partition.remove_restored"
REPAIR_ACTION: Final = "audit.archive.repair"
_DAY: Final = timedelta(days=1)
_DAY_FORMAT: Final = "%Y-%m-%d"
_LONGEST_REASON: Final = 500

Day = Annotated[
    datetime | None,
    typer.Option(
        "--day",
        formats=[_DAY_FORMAT],
        metavar="DATE",
        help="UTC date: every partition that has a part of it.",
        show_default=False,
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--partition",
        metavar="NAME",
        help="Partition as `partitions` shows it; may be repeated.",
        show_default=False,
    ),
]
Attach = Annotated[
    bool, typer.Option("--attach", help="Into the searched table again, sealed as it was.")
]
Remove = Annotated[
    bool,
    typer.Option(
        "--remove", help="Drop the tables that restores and drills left, also killed ones."
    ),
]
Drill = Annotated[
    bool,
    typer.Option("--drill", help="Only on trial: restore, compare, record the result, drop."),
]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair", help="Replace files that one copy lacks or holds damaged by the other's."
    ),
]
FromCopy = Annotated[
    bool, typer.Option("--from-copy", help="Read the second copy (AUDIT_ARCHIVE_COPY_URL).")
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the log.")]
User = Annotated[str | None, typer.Option(help="Who acts, for the log; default: the system user.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore")(restore)


def restore(
    *,
    day: Day = None,
    partition: Names = None,
    attach: Attach = False,
    remove: Remove = False,
    drill: Drill = False,
    repair: Repair = False,
    from_copy: FromCopy = False,
    reason: Reason = None,
    user: User = None,
) -> None:
    """Bring archived partitions back from their files, proved against their seal.

    Without --attach the rows go into audit.restored_<partition>, which operators read and no search
    does. With --attach searches read the day from PostgreSQL again. A drill without --day and
    --partition chooses one at random. Steps of the life cycle refuse a day one of whose copies is
    damaged; --repair mends it with the other.

    A restore or drill that was killed leaves at most a table that no search reads: run it again,
    and it begins anew, or drop what it left with --remove. Exit code: 0 done, 1 failed or nothing
    there, 2 wrong use.
    """
    if sum((attach, remove, drill, repair)) > 1:
        raise InvalidQuery("--attach, --remove, --drill and --repair exclude each other")
    if day is not None and partition:
        raise InvalidQuery("name either a --day or a --partition")
    if day is None and not partition and not drill:
        raise InvalidQuery("say which day: --day 2026-01-31, or --partition NAME")
    _check_reason(reason)
    with _opened(from_copy=from_copy) as (settings, connection, store):
        if drill:
            _run_drills(connection, store, day, partition)
            return
        rows = _chosen(connection, day, partition)
        acting = _Acting(settings, user=user, reason=reason)
        for row in rows:
            if remove:
                _remove(connection, row, acting)
            elif repair:
                _repair(connection, row, settings, acting)
            else:
                _bring_back(connection, row, store, acting, is_attached=attach)


class _Acting:
    """Who acts and why; tells the log before anything is done."""

    def __init__(self, settings: "Settings", *, user: str | None, reason: str | None) -> None:
        from audit_platform.cli.deadletter_session import system_user

        self._settings = settings
        self._user, self._reason = user or system_user(), reason

    def record(self, action: str, row: "PartitionRow", description: str) -> datetime:
        """Put the act into the stream; the moment of it.

        Raises:
            QueueError: The log does not take it, so it must not be done.
        """
        from audit_platform.events.act_event import Act
        from audit_platform.events.act_log import opened_act_log
        from audit_platform.events.event import ActorType

        now = datetime.now(UTC)
        act = Act(
            action=action,
            actor=self._user,
            actor_type=ActorType.ADMIN,
            entity_type="partition",
            entity_id=row.name,
            description=description,
            metadata={
                "state": row.state,
                "generation": row.generation,
                "rows": row.n,
                "reason": self._reason,
            },
        )
        with opened_act_log(self._settings) as log:
            log.record(act, now=now)
        return now


@contextmanager
def _opened(*, from_copy: bool) -> Iterator[tuple["Settings", "Connection", "ArchiveStore"]]:
    from audit_platform.db.pool import OWNER_ROLE, connected
    from audit_platform.retention.lifecycle_settings import open_archive
    from audit_platform.settings import load_settings

    settings = load_settings()
    store, copy_store = open_archive(settings)
    if from_copy and copy_store is None:
        raise InvalidQuery("there is no second copy: AUDIT_ARCHIVE_COPY_URL is not set")
    url = settings.database_url_of("maint")
    with connected(url, application="restore", role=OWNER_ROLE) as connection:
        yield settings, connection, copy_store if from_copy and copy_store else store


def _chosen(
    connection: "Connection", day: datetime | None, names: Sequence[str] | None
) -> list["PartitionRow"]:
    from audit_platform.retention.partition_table import list_partitions

    known = list_partitions(connection)
    if day is not None:
        lo = day.replace(tzinfo=UTC)
        found = [row for row in known if row.lo < lo + _DAY and lo < row.hi]
        if not found:
            raise InvalidQuery(f"there is no partition of {lo:{_DAY_FORMAT}}; see `partitions`")
        return found
    by_name = {row.name: row for row in known}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise InvalidQuery(f"there is no partition {unknown[0][:63]!a}; see `partitions`")
    return [by_name[name] for name in names or ()]


def _bring_back(
    connection: "Connection",
    row: "PartitionRow",
    store: "ArchiveStore",
    acting: _Acting,
    *,
    is_attached: bool,
) -> None:
    from audit_platform.retention.restore import restore_day

    action = ATTACH_ACTION if is_attached else RESTORE_ACTION
    way = "into the searched table" if is_attached else "beside the archive"
    now = acting.record(action, row, f"Bring {row.name} back {way}")
    typer.echo(report_line(restore_day(connection, row, store, attach=is_attached, now=now)))


def _remove(connection: "Connection", row: "PartitionRow", acting: _Acting) -> None:
    from audit_platform.retention.removed_table import remove_restored

    now = acting.record(REMOVE_ACTION, row, f"Drop the restored tables of {row.name}")
    dropped = remove_restored(connection, row, now=now)
    said = ", ".join(f"audit.{table} dropped" for table in dropped)
    typer.echo(f"{row.name}: {said or 'no restored table'}")


def _repair(
    connection: "Connection", row: "PartitionRow", settings: "Settings", acting: _Acting
) -> None:
    from audit_platform.retention.archive_copies import repair_copies
    from audit_platform.retention.lifecycle_settings import open_archive

    store, copy_store = open_archive(settings)
    if copy_store is None:
        raise InvalidQuery("there is no second copy: AUDIT_ARCHIVE_COPY_URL is not set")
    acting.record(REPAIR_ACTION, row, f"Mend the archive copies of {row.name} with one another")
    mended = repair_copies(connection, row.name, store, copy_store)
    typer.echo(f"{row.name}: {len(mended)} file(s) mended")
    for finding in mended:
        typer.echo(f"  {finding}: replaced")


def _run_drills(
    connection: "Connection",
    store: "ArchiveStore",
    day: datetime | None,
    names: Sequence[str] | None,
) -> None:
    from random import SystemRandom

    from audit_platform.retention.drill import drill_partition, run_drill

    now = datetime.now(UTC)
    if day is None and not names:
        report = run_drill(connection, store, rng=SystemRandom(), now=now)
        drills = [("no partition is archived yet", report)]
    else:
        drills = [
            (f"{row.name} is not archived", drill_partition(connection, row.name, store, now=now))
            for row in _chosen(connection, day, names)
        ]
    for otherwise, report in drills:
        typer.echo(otherwise if report is None else drill_line(report))
    if any(report is None or report.mismatches for _, report in drills):
        raise typer.Exit(1)


def report_line(report: "RestoreReport") -> str:
    """One line for people about what was brought back."""
    where = "attached" if report.is_attached else f"in audit.{report.table}"
    parts = [f"{report.partition}: {report.rows:,} rows {where}"]
    if report.seconds:
        parts.append(f"{report.seconds:.1f} s to load ({_rate(report.rows, report.seconds)})")
    parts.append(f"{report.proof_seconds:.1f} s to prove")
    if report.indexing_seconds:
        parts.append(f"{report.indexing_seconds:.1f} s to index")
    if report.is_root_equal:
        parts.append("equal to the seal")
    else:
        parts.append(f"{report.expired_files} expired files left out; every other group is equal")
    return ", ".join(parts)


def drill_line(report: "DrillReport") -> str:
    """One line for people about a trial."""
    verdict = "passed" if not report.mismatches else f"{report.mismatches:,} mismatches"
    pace = report.seconds_per_million
    speed = "" if pace is None else f", {pace:.1f} s per million rows"
    return f"{report.partition}: {verdict}: {report.rows:,} rows{speed}; {report.detail}"


def _rate(rows: int, seconds: float) -> str:
    return f"{rows / seconds:,.0f} rows/s"


def _check_reason(reason: str | None) -> None:
    if reason is not None and (
        not reason.strip() or len(reason) > _LONGEST_REASON or not reason.isprintable()
    ):
        raise InvalidQuery(f"--reason needs a sentence of at most {_LONGEST_REASON} characters")
