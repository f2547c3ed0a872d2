# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The peer that stores events with Django's `bulk_create`; runs in an environment of its own.

Here: one model over `audit.event`, one pass over a file of events in batches, one transaction per
batch. It reads no queue, checks nothing and computes no hash.
The order comes as JSON on standard input; begin and end go as JSON lines to standard output.
"""

import hashlib
import json
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings
from django.db import connection, models

# It computes no hash of an event; the column has to hold something of its size.
NO_HASH = hashlib.sha256().digest()
TEXTS = (
    *("tenant_id", "source", "action", "status", "entity_type", "entity_id", "entity_label"),
    *("actor_type", "user_id", "user_label", "impersonator_id", "correlation_id", "trace_id"),
    "description",
)


def main() -> None:
    """Connect, store every event of the file, report."""
    order = json.load(sys.stdin)
    _configure(order["database_url"])
    event = _model()
    with open(order["events"], encoding="utf-8") as file:  # noqa: PTH123 - one plain file
        lines = file.read().splitlines()
    connection.ensure_connection()
    _report("begin_ms")
    for start in range(0, len(lines), order["batch"]):
        _store(event, lines[start : start + order["batch"]])
    _report("end_ms")


def _store(event: Any, lines: list[str]) -> None:
    now, batch_id = datetime.now(UTC), uuid.uuid4()
    rows = [_row(event, json.loads(line), now, batch_id) for line in lines]
    event.objects.bulk_create(rows, batch_size=len(rows))


def _row(event: Any, fields: dict[str, Any], now: datetime, batch_id: uuid.UUID) -> Any:
    fields["timestamp"] = datetime.fromisoformat(fields["timestamp"])
    fields["received_at"] = fields["ingested_at"] = now
    return event(**fields, batch_id=batch_id)


def _configure(url: str) -> None:
    parts = urlsplit(url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": parts.hostname,
        "PORT": parts.port,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "NAME": parts.path.removeprefix("/"),
    }
    settings.configure(DATABASES={"default": database}, USE_TZ=True, TIME_ZONE="UTC")
    django.setup()


def _model() -> Any:
    """The table as a Django model; types as the table has them."""
    fields: dict[str, Any] = {name: models.TextField(null=True) for name in TEXTS}
    fields["status"] = models.TextField(default="success")
    fields["actor_type"] = models.TextField(default="user")
    fields |= {
        "id": models.UUIDField(primary_key=True),
        "timestamp": models.DateTimeField(),
        "received_at": models.DateTimeField(),
        "ingested_at": models.DateTimeField(),
        "batch_id": models.UUIDField(),
        "bulk_action_id": models.UUIDField(null=True),
        "producer_epoch": models.BigIntegerField(null=True),
        "producer_seq": models.BigIntegerField(null=True),
        "bulk_item_no": models.BigIntegerField(null=True),
        "producer_id": models.IntegerField(null=True),
        "sampled_rate": models.FloatField(default=1.0),
        "severity": models.SmallIntegerField(null=True),
        "schema_version": models.SmallIntegerField(default=1),
        "leaf_hash": models.BinaryField(default=NO_HASH),
        "changes": models.JSONField(null=True),
        "metadata": models.JSONField(default=dict),
        "context": models.JSONField(default=dict),
    }
    meta = type("Meta", (), {"app_label": "peer", "managed": False, "db_table": '"audit"."event"'})
    return type("Event", (models.Model,), {"__module__": "peer", "Meta": meta, **fields})


def _report(what: str) -> None:
    print(json.dumps({what: time.time() * 1000}), flush=True)


if __name__ == "__main__":
    main()
