"""Column schemas that the asset pages show.

Here: names, types and comments of the event tables, as the catalog has them (a test compares).
Not here: the tables themselves (`db/migrations/sql`).
"""

from typing import Final

import dagster as dg


def _required(name: str, type_: str, description: str) -> dg.TableColumn:
    constraints = dg.TableColumnConstraints(nullable=False)
    return dg.TableColumn(name, type_, description, constraints=constraints)


def _optional(name: str, type_: str, description: str) -> dg.TableColumn:
    return dg.TableColumn(name, type_, description)


EVENT_COLUMNS: Final = (
    _required(
        "id",
        "uuid",
        "UUIDv7 minted once by the producer; its 48-bit time equals timestamp in milliseconds",
    ),
    _required("timestamp", "timestamptz", "When it happened, UTC, microseconds; partition key"),
    _required("tenant_id", "text", "Account, site or organisation"),
    _required("source", "text", "Part of the application: user, admin, system, api, …"),
    _required("action", "text", "What was done: user.suspend"),
    _required("status", "audit.event_status", "success, failure, denied, skipped or pending"),
    _optional("entity_type", "text", "Kind of record acted on"),
    _optional("entity_id", "text", "Key of the record acted on"),
    _optional("entity_label", "text", "Name of the record at the time; survives its deletion"),
    _required(
        "actor_type",
        "audit.actor_type",
        "user, admin, service, api_key, system, anonymous or bulk_action",
    ),
    _optional("user_id", "text", "Who acted"),
    _optional("user_label", "text", "Name or e-mail of the actor at the time; personal data"),
    _optional("impersonator_id", "text", "Who really acted, when acting as user_id"),
    _optional("description", "text", "One sentence for people"),
    _optional("changes", "json", 'Changed fields: {field: {"old": …, "new": …}}'),
    _required("metadata", "json", "Whatever the producer adds, byte by byte as sent"),
    _required(
        "context", "json", "Where it happened: ip, user_agent, request_id, host, error_code, …"
    ),
    _optional("correlation_id", "text", "Groups the events of one business operation"),
    _optional("trace_id", "text", "W3C trace id, 32 hexadecimal digits"),
    _optional("bulk_action_id", "uuid", "Bulk action that wrote it, if any"),
    _optional("bulk_item_no", "bigint", "Item of the bulk action"),
    _optional("severity", "smallint", "0 debug, 1 info, 2 notice, 3 warning, 4 error, 5 critical"),
    _required("sampled_rate", "real", "One row stands for this many events; roll-ups weight by it"),
    _required("schema_version", "smallint", "Version of the event contract"),
    _optional("producer_id", "integer", "Producer: 31 bits of the SHA-256 of its name"),
    _optional(
        "producer_epoch",
        "bigint",
        "Run of the producer process; with producer_id and producer_seq it proves completeness",
    ),
    _optional(
        "producer_seq", "bigint", "Number of the event within the epoch, from 1 without gaps"
    ),
    _required("batch_id", "uuid", "Row of audit.ingest_batch of the transaction that stored it"),
    _required("received_at", "timestamptz", "When the queue accepted it"),
    _required("ingested_at", "timestamptz", "When the storing transaction ran"),
    _required(
        "leaf_hash",
        "bytea",
        "SHA-256 over the canonical form of the event; see audit_platform/integrity/leaf.py",
    ),
)
LATE_COLUMNS: Final = (
    *EVENT_COLUMNS,
    _required("late_reason", "text", "no_partition or sealed"),
    _required("late_at", "timestamptz", "When it was set aside"),
)
DEAD_LETTER_COLUMNS: Final = (
    _required("dead_id", "bigint", "Number for commands"),
    _required(
        "raw_digest",
        "bytea",
        "HMAC-SHA-256 of the raw bytes, so that a copy is recognised without reading it",
    ),
    _required("reason", "text", "Code of the reason"),
    _optional("detail", "text", "Field and remedy; no payload"),
    _optional("shard", "integer", "Stream that it came from"),
    _optional("entry_id", "text", "Redis entry id at first sight"),
    _optional("line_no", "integer", "Line within the entry, from 1"),
    _required("raw", "bytea", "The bytes, AES-256-GCM: 12 bytes nonce, then ciphertext and tag"),
    _required("key_id", "text", "Which key encrypted it"),
    _required("first_seen", "timestamptz", "When it was set aside"),
    _optional("resolved_at", "timestamptz", "When it was re-driven or discarded"),
    _optional("resolution", "text", "redriven or discarded"),
)
PARTITION_COLUMNS: Final = (
    _required("name", "text", "Table in schema audit"),
    _required("lo", "timestamptz", "First moment, inclusive"),
    _required("hi", "timestamptz", "Last moment, exclusive"),
    _required("generation", "integer", "Grows when a sealed partition is opened again"),
    _required(
        "state", "text", "open, sealed, exported, verified, detach_started, detached or dropped"
    ),
    _optional("n", "bigint", "Rows at seal"),
    _optional("min_id", "uuid", "Smallest id at seal"),
    _optional("max_id", "uuid", "Largest id at seal"),
    _optional("leaf_digest", "bytea", "SHA-256 over the ordered leaves"),
    _optional("root", "bytea", "Merkle root"),
    _required("files", "jsonb", "Archive files"),
    _optional("manifest_sha256", "bytea", "SHA-256 of the manifest"),
    _optional("verified_by", "text", "Process that re-read the archive"),
    _required("opened_at", "timestamptz", "When it was created"),
    _optional("sealed_at", "timestamptz", "When writes ended"),
    _optional("exported_at", "timestamptz", "When the archive was written"),
    _optional("verified_at", "timestamptz", "When the archive was re-read"),
    _optional("detached_at", "timestamptz", "When reads moved to the archive"),
    _optional("dropped_at", "timestamptz", "When the table was dropped"),
    _optional(
        "last_error",
        "text",
        "Why the last attempt at the next step failed; null after a step",
    ),
    _optional("restored_as", "text", "Table that holds it, in schema audit"),
)
"""What operators look at in `audit.partition`; `audit-platform partitions` shows the same."""
