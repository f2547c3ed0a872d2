"""What an import needs from outside, and how it is asked to run.

Here: the values handed to `imports/file_import.py`. Not here: building them from settings
(`cli/import_session.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from audit_platform.events.backlog import Backlog
from audit_platform.events.stream import Appender
from audit_platform.imports.ledger import ImportLedger

# About 64,000 events wait at most: 20 MB of Redis, three batches of the drain.
MAX_BACKLOG_ENTRIES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportEdges:
    """What an import needs from outside.

    Attributes:
        backlog: Tells how full the stream is, and what has left it.
        open_partitions: Makes sure that events of these times can be stored on time.
        max_backlog_entries: Import waits while the stream holds as many.
        pause: Waits so many seconds.
        now_ms: Milliseconds since 1970.
    """

    ledger: ImportLedger
    appender: Appender
    shard: int
    backlog: Backlog
    open_partitions: Callable[[Sequence[datetime]], None]
    max_backlog_entries: int = MAX_BACKLOG_ENTRIES
    pause: Callable[[float], None]
    now_ms: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How to import.

    Attributes:
        is_repeat: Send a file again that is complete; its events count as duplicates.
        is_waiting: Wait until the ledger has everything.
    """

    is_repeat: bool = False
    is_waiting: bool = True
