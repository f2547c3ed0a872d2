"""Real audit logs for the demo: AWS CloudTrail files through the import, with their ids.

Here: importing a directory, and naming the events it must bring. Not here: the import
(`events/import_files.py`), the mapping (`events/mappings/cloudtrail.yaml`).
Guarantee: returns when every event of every file is in the ledger.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import time
from typing import Final

from audit_platform.db.pool import connected
from audit_platform.errors import InvalidEvent
from audit_platform.events.file_format import FileFormat
from audit_platform.events.files import find_files, read_records
from audit_platform.events.import_files import FileImport, ImportEdges, ImportOptions
from audit_platform.events.import_ledger import ImportLedger
from audit_platform.events.mapping import map_record
from audit_platform.events.mapping_rules import Mapping, load_mapping
from audit_platform.events.stream import Appender, Backlog
from audit_platform.local.traffic_found import read_ledger
from audit_platform.local.traffic_patience import Patience
from audit_platform.retention.lifecycle import ensure_partitions
from audit_platform.retention.partition import bounds_for
from audit_platform.settings import Settings

_SHARD: Final = 0
_SENT_ONLY: Final = ImportOptions(is_waiting=False)
_STORED: Final = ImportOptions()


def import_cloudtrail(
    directory: Path, settings: Settings, *, advance: Callable[[int, int], None]
) -> frozenset[str]:
    """Import all CloudTrail files below a directory.

    Args:
        directory: Holds the files, in folders or not.
        settings: Of the running platform.
        advance: Called with the number of files done and of all files.

    Returns:
        Ids of the events that the files hold.
    """
    mapping = load_mapping("cloudtrail")
    files, _ = find_files([directory])
    with _edges(settings) as edges:
        # All are sent before the first is awaited: a wait per file would cost a flush of the
        # drain each, half a minute for 55 files.
        for number, path in enumerate(files, start=1):
            _run(path, mapping, edges, _SENT_ONLY)
            advance(number, len(files))
        for path in files:
            _run(path, mapping, edges, _STORED)
    return frozenset(event_id for path in files for event_id in _ids_of(path, mapping))


def _run(path: Path, mapping: Mapping, edges: ImportEdges, options: ImportOptions) -> None:
    FileImport(
        path,
        FileFormat.CLOUDTRAIL,
        mapping,
        edges=edges,
        on_progress=lambda _progress: None,
        on_rejection=lambda _rejection: None,
    ).run(options)


def _ids_of(path: Path, mapping: Mapping) -> Iterator[str]:
    for record in read_records(path, FileFormat.CLOUDTRAIL):
        # What the import rejects is no event. Every record has an id of its own: no fallback.
        with suppress(InvalidEvent):
            yield map_record(record.raw, mapping, fallback_id="").event_id


@contextmanager
def _edges(settings: Settings) -> Iterator[ImportEdges]:
    url = settings.database_url_of("maint")
    with ExitStack() as stack:
        owner = stack.enter_context(connected(url, application="demo", role="audit_owner"))
        maint = stack.enter_context(connected(url, application="demo"))

        def open_partitions(moments: Sequence[datetime]) -> None:
            interval = settings.partition_interval
            bounds = {bounds_for(moment, interval) for moment in moments}
            ensure_partitions(maint, bounds)

        appender = Appender(settings.redis_url.get_secret_value(), key_prefix=settings.key_prefix)
        backlog = Backlog(settings.redis_url_of("sensor"), key_prefix=settings.key_prefix)

        patience = Patience()

        def pause(seconds: float) -> None:
            patience.wait(read_ledger(owner), pause_s=seconds)

        yield ImportEdges(
            ledger=ImportLedger(owner),
            appender=stack.enter_context(appender),
            shard=_SHARD,
            backlog=stack.enter_context(backlog),
            open_partitions=open_partitions,
            pause=pause,
            now_ms=lambda: int(time() * 1000),
        )
