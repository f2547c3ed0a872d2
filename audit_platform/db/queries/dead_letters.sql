-- Queries of operators on dead letters; the ingest transaction inserts them (events.sql).
-- The key (raw_digest, reason) guards open letters only: a letter that somebody acts on gets a digest
-- that no new bytes can have. If the same bytes turn out bad again, that is a new row, never hidden
-- behind one that is resolved, and the writer needs no right beyond INSERT for it.

-- name: lock_dead_letters
-- description: Be the only one who acts on dead letters until the connection ends; false if another does
select pg_try_advisory_lock(hashtextextended('audit-platform dead letters', 0));

-- name: find_dead_letters
-- description: Page through dead letters without their bytes, newest first
select
    dead_id,
    reason,
    detail,
    shard,
    entry_id,
    line_no,
    octet_length(raw) - 28 as size_bytes,
    key_id,
    first_seen,
    resolved_at,
    resolution
from audit.dead_letter
where
    (%(reason)s::text is null or reason = %(reason)s)
    and (%(since)s::timestamptz is null or first_seen >= %(since)s)
    and (%(until)s::timestamptz is null or first_seen < %(until)s)
    and (%(is_open)s::boolean is null or (resolved_at is null) = %(is_open)s)
    and (%(before_id)s::bigint is null or dead_id < %(before_id)s)
order by dead_id desc
limit %(limit)s;

-- name: count_dead_letters_by_reason
-- description: Count open and resolved dead letters per reason, with the age of the oldest open one
select
    reason,
    count(*) filter (where resolved_at is null) as open_count,
    count(*) filter (where resolved_at is not null) as resolved_count,
    min(first_seen) filter (where resolved_at is null) as oldest_open
from audit.dead_letter
where
    (%(reason)s::text is null or reason = %(reason)s)
    and (%(since)s::timestamptz is null or first_seen >= %(since)s)
    and (%(until)s::timestamptz is null or first_seen < %(until)s)
group by reason
order by open_count desc, reason asc;

-- name: read_dead_letter
-- description: One dead letter with its encrypted bytes
select
    dead_id,
    reason,
    detail,
    shard,
    entry_id,
    line_no,
    octet_length(raw) - 28 as size_bytes,
    key_id,
    first_seen,
    resolved_at,
    resolution,
    raw
from audit.dead_letter
where dead_id = %(dead_id)s;

-- name: last_dead_letter
-- description: Number of the newest dead letter, so that an act never meets the letters it causes
select coalesce(max(dead_id), 0)
from audit.dead_letter;

-- name: take_dead_letters
-- description: Next letters of a selection in the order of their numbers, with their encrypted bytes
select
    dead_id,
    reason,
    detail,
    shard,
    entry_id,
    line_no,
    octet_length(raw) - 28 as size_bytes,
    key_id,
    first_seen,
    resolved_at,
    resolution,
    raw
from audit.dead_letter
where
    dead_id > %(after_id)s
    and dead_id <= %(last_id)s
    and (%(ids)s::bigint[] is null or dead_id = any(%(ids)s::bigint[]))
    and (%(reason)s::text is null or reason = %(reason)s)
    and (%(since)s::timestamptz is null or first_seen >= %(since)s)
    and (%(until)s::timestamptz is null or first_seen < %(until)s)
    and (%(is_again)s or resolved_at is null)
order by dead_id
limit %(limit)s;

-- name: claim_dead_letters
-- description: Take letters out of the way of new ones with the same bytes, before these are sent
update audit.dead_letter
set
    raw_digest = sha256(raw_digest || int8send(dead_id)),
    resolution = 'redriving'
where dead_id = any(%(ids)s::bigint[]) and resolution is null;

-- name: resolve_dead_letters
-- description: Close letters that were claimed
update audit.dead_letter
set
    resolved_at = clock_timestamp(),
    resolution = %(resolution)s
where dead_id = any(%(ids)s::bigint[]);
