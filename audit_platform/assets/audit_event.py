"""The event tables and the stream they come from, as external assets.

Here: what each one is, for people who read the asset graph; it reads like the path of an event.
Not here: code that fills them. Runs of the job `ingest` observe them, Dagster never builds them.
"""

from collections.abc import Sequence
from typing import Any, Final

import dagster as dg

from audit_platform.assets.columns import DEAD_LETTER_COLUMNS, EVENT_COLUMNS, LATE_COLUMNS

AUDIT_STREAM: Final = "audit_stream"
AUDIT_EVENT: Final = "audit_event"
AUDIT_EVENT_LATE: Final = "audit_event_late"
AUDIT_DEAD_LETTER: Final = "audit_dead_letter"
TABLE_PARTITIONS: Final = "table_partitions"

EVENTS_GROUP: Final = "events"
OWNERS: Final = ("team:audit-platform",)

_STREAM_TEXT: Final = """
Redis Streams `audit:{k}:events`, one per shard: events that were accepted and are not yet stored.

Applications append through the client, any other program with `XADD`. The sensor
`stream_backlog` sees waiting entries and requests a run of the job `ingest`, which deletes each
entry **after** the commit that stored its events. A length that only grows means that no drain
runs: look at the sensor's last tick, it says why.
"""

_EVENT_TEXT: Final = """
Table `audit.event`: one row per event, partitioned by `timestamp`, one day per partition.

Who did what to which record, when, for which tenant, with which outcome. Rows are written once, by
the job `ingest`, with `COPY`, together with their ledger row in `audit.ingest_batch`. People read
the view `audit.events` (set `app.tenant` first) or `audit-platform search`.

**Observations** (for about 2,000 events each, every 10 s at most and every 60 s at least while
events come):

| name | meaning |
|---|---|
| `rows`, `batches`, `rows_per_s` | stored since the observation before |
| `lag_p50_ms`, `lag_p99_ms` | from accepted by the queue to stored |
| `bytes` | event bytes read |
| `duplicates` | events that were stored already |
| `late`, `dead_letters` | set aside in the tables beside this one |
| `backlog` | entries that still wait |
| `overload_level` | highest since then: 0 none, 1 larger batches, 2 sheds `best_effort`, 3 spools |
"""

_LATE_TEXT: Final = """
Table `audit.event_late`: events whose partition was missing or sealed when they arrived.

They are part of every search and of the view `audit.events`, and are merged into their partition
later. Many new ones mean that a producer was offline for days, or that history arrived without
`audit-platform import`, which opens the partitions it needs.
"""

_DEAD_LETTER_TEXT: Final = """
Table `audit.dead_letter`: events that could not be stored, with a reason and their encrypted bytes.

Nothing here expires. `reason` says what was wrong; correct the producer, then re-drive or discard
them. Events beside a bad one in the same batch were stored.
"""


def _table(name: str, columns: Sequence[dg.TableColumn]) -> dict[str, Any]:
    schema = dg.TableSchema(columns=list(columns))
    return {"dagster/table_name": f"audit.{name}", "dagster/column_schema": schema}


EVENT_ASSETS: Final = (
    dg.AssetSpec(
        AUDIT_STREAM,
        description=_STREAM_TEXT,
        group_name=EVENTS_GROUP,
        owners=OWNERS,
        kinds={"redis", "stream"},
        tags={"audit/path": "event"},
        metadata={
            "keys": dg.MetadataValue.text("audit:{shard}:events"),
            "consumer group": dg.MetadataValue.text("ingest"),
        },
    ),
    dg.AssetSpec(
        AUDIT_EVENT,
        deps=[AUDIT_STREAM, TABLE_PARTITIONS],
        description=_EVENT_TEXT,
        group_name=EVENTS_GROUP,
        owners=OWNERS,
        kinds={"postgres", "table"},
        tags={"audit/path": "event", "audit/personal-data": "yes"},
        metadata=_table("event", EVENT_COLUMNS),
    ),
    dg.AssetSpec(
        AUDIT_EVENT_LATE,
        deps=[AUDIT_STREAM],
        description=_LATE_TEXT,
        group_name=EVENTS_GROUP,
        owners=OWNERS,
        kinds={"postgres", "table"},
        tags={"audit/path": "event", "audit/personal-data": "yes"},
        metadata=_table("event_late", LATE_COLUMNS),
    ),
    dg.AssetSpec(
        AUDIT_DEAD_LETTER,
        deps=[AUDIT_STREAM],
        description=_DEAD_LETTER_TEXT,
        group_name=EVENTS_GROUP,
        owners=OWNERS,
        kinds={"postgres", "table"},
        tags={"audit/path": "event", "audit/personal-data": "yes"},
        metadata=_table("dead_letter", DEAD_LETTER_COLUMNS),
    ),
)
