"""An import with the services of a running platform.

Here: connections from settings, the choice of the mapping, opening partitions for history. Not
here: the import itself (`imports/file_import.py`), options and display (`cli/import_.py`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Final

from audit_platform.db.pool import OWNER_ROLE, Connection, connected
from audit_platform.errors import InvalidMapping
from audit_platform.events.backlog import Backlog
from audit_platform.events.stream import Appender
from audit_platform.imports.edges import ImportEdges
from audit_platform.imports.file_format import FileFormat
from audit_platform.imports.file_import import FileImport
from audit_platform.imports.files import detect_format
from audit_platform.imports.ledger import ImportLedger
from audit_platform.imports.mapping_rules import Mapping, load_mapping, shipped_mappings
from audit_platform.imports.report import ImportProgress, Rejection
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import PartitionBounds, bounds_for
from audit_platform.settings import Settings

# Ten years of days. A file of random dates must not fill the catalog; further rows are stored late.
MAX_PARTITIONS_PER_IMPORT: Final = 3_660
_SHARD: Final = 0


@dataclass(slots=True)
class PartitionOpener:
    """Opens the partitions that events of some times need; each range is asked for once.

    Ranges ahead of the clock stay closed: the ingest job refuses such events anyway.
    """

    connection: Connection
    interval: str
    ahead: timedelta
    _known: set[datetime] = field(default_factory=set[datetime])

    def __call__(self, moments: Sequence[datetime]) -> None:
        """Make sure that events of these times can be stored on time."""
        latest = datetime.now(UTC) + self.ahead
        needed: dict[datetime, PartitionBounds] = {}
        for moment in moments:
            if moment <= latest:
                bounds = bounds_for(moment, self.interval)
                needed[bounds.lo] = bounds
        fresh = [bounds for lo, bounds in sorted(needed.items()) if lo not in self._known]
        fresh = fresh[: max(MAX_PARTITIONS_PER_IMPORT - len(self._known), 0)]
        if fresh:
            ensure_partitions(self.connection, fresh)
            self._known.update(bounds.lo for bounds in fresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSession:
    """Imports files one after the other, through one set of connections."""

    edges: ImportEdges

    def prepare(
        self,
        path: Path,
        *,
        file_format: FileFormat | None,
        mapping: str | None,
        on_progress: Callable[[ImportProgress], None],
        on_rejection: Callable[[Rejection], None],
    ) -> FileImport:
        """Make the import of one file; `run` it, or `send` several and `settle` them afterwards.

        Args:
            path: File.
            file_format: None detects it.
            mapping: Name or file of a mapping; None takes the one for the format.
            on_progress: Hears after every batch.
            on_rejection: Hears every rejected record.

        Raises:
            UnreadableFile: The format cannot be told.
            InvalidMapping: The mapping cannot be used.
        """
        known_format = file_format or detect_format(path)
        return FileImport(
            path,
            known_format,
            choose_mapping(mapping, known_format),
            edges=self.edges,
            on_progress=on_progress,
            on_rejection=on_rejection,
        )


def choose_mapping(name_or_file: str | None, file_format: FileFormat) -> Mapping:
    """Take the mapping named, or the shipped one for the format.

    Raises:
        InvalidMapping: It does not exist or breaks a rule.
    """
    if name_or_file is not None:
        return load_mapping(name_or_file)
    for mapping in shipped_mappings().values():
        if file_format in mapping.records:
            return mapping
    raise InvalidMapping(f"no shipped mapping reads {file_format}; name one with --mapping")


@contextmanager
def import_session(settings: Settings) -> Iterator[ImportSession]:
    """Connect to the services of a platform for the imports of one block.

    Raises:
        InvalidSetting: No platform has run here and no URL is set.
        DatabaseUnavailable: PostgreSQL does not answer.
        QueueUnavailable: Redis does not answer.
    """
    maint_url = settings.database_url_of("maint")
    with (
        connected(maint_url, application="import", role=OWNER_ROLE) as ledger,
        connected(maint_url, application="import partitions") as ddl,
        Appender(
            settings.redis_url.get_secret_value(),
            key_prefix=settings.key_prefix,
            timeout_ms=settings.redis_timeout_ms,
        ) as appender,
        Backlog(settings.redis_url_of("sensor"), key_prefix=settings.key_prefix) as backlog,
    ):
        appender.ping()
        never = Event()

        def pause(seconds: float) -> None:
            never.wait(seconds)

        yield ImportSession(
            edges=ImportEdges(
                ledger=ImportLedger(ledger),
                appender=appender,
                shard=_SHARD,
                backlog=backlog,
                open_partitions=PartitionOpener(
                    connection=ddl,
                    interval=settings.partition_interval,
                    ahead=timedelta(seconds=settings.future_tolerance_s),
                ),
                pause=pause,
                now_ms=lambda: time.time_ns() // 1_000_000,
            )
        )
