-- Imports of files: what was read and sent, and what the ledger says about it.
-- Run by audit_maint as audit_owner.

-- name: lock_import
-- description: one process at a time imports a file; the lock ends with the connection
select pg_try_advisory_lock(%(key)s::bigint);

-- name: unlock_import
-- description: release the lock of a file that this connection imported
select pg_advisory_unlock(%(key)s::bigint);

-- name: begin_import
-- description: record the first attempt to import a file; a later one leaves the row as it is
insert into audit.import_file (file_sha256, mapping, path, bytes, epoch)
values (%(file_sha256)s, %(mapping)s, %(path)s, %(bytes)s, %(epoch)s)
on conflict (file_sha256, mapping) do nothing;

-- name: read_import
-- description: how far the import of a file came
select
  epoch,
  sent,
  rejected,
  state
from audit.import_file
where file_sha256 = %(file_sha256)s and mapping = %(mapping)s;

-- name: restart_import
-- description: send a file again from its first record, as another epoch of its producer
update audit.import_file
set
  epoch = %(epoch)s, sent = 0, rejected = 0, records = null, state = 'running',
  path = %(path)s, started_at = now(), finished_at = null
where file_sha256 = %(file_sha256)s and mapping = %(mapping)s;

-- name: advance_import
-- description: note the last record that was sent or rejected; a resumed import starts after it
update audit.import_file
set sent = %(sent)s, rejected = %(rejected)s, records = %(records)s
where file_sha256 = %(file_sha256)s and mapping = %(mapping)s and epoch = %(epoch)s;

-- name: finish_import
-- description: note that everything sent is in the ledger
update audit.import_file
set state = 'complete', finished_at = now()
where file_sha256 = %(file_sha256)s and mapping = %(mapping)s and epoch = %(epoch)s;

-- name: count_arrived
-- description: how many sequence numbers of an import the ledger has
with arrived as (
  select r
  from audit.ingest_range
  where producer_id = %(producer_id)s and epoch = %(epoch)s and kind = 'got'
  union all
  select got as r
  from audit.producer_progress
  where producer_id = %(producer_id)s and epoch = %(epoch)s
)

select coalesce(sum(upper(one) - lower(one)), 0)::bigint as arrived
from (select range_agg(r) as all_of_it from arrived) as merged
cross join lateral unnest(all_of_it) as one;

-- name: count_stored
-- description: rows that an import added, on time and late; no index, so bounded by time
select
  (
    select count(*)
    from audit.event
    where
      producer_id = %(producer_id)s and producer_epoch = %(epoch)s
      and "timestamp" between %(first)s and %(last)s
  ) as new_count,
  (
    select count(*)
    from audit.event_late
    where producer_id = %(producer_id)s and producer_epoch = %(epoch)s
  ) as late_count;

-- name: count_dead_letters_of
-- description: dead letters first seen in the given stream entries
select count(*)::bigint as dead_count
from audit.dead_letter
where shard = %(shard)s and entry_id = any(%(entry_ids)s::text[]);
