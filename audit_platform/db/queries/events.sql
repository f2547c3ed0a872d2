-- Queries of the event path: lease, ledger, dead letters, open ranges.
-- Statements on the temporary stage and COPY are composed in events/merge_rows.py and
-- events/copy_rows.py from the columns of events/frame.py, because neither can be prepared.

-- name: take_lease
-- description: Take a shard whose lease is free, expired, our own, or held by a run known to be dead
-- `for update` waits for each batch that holds the fence; the update alone would not.
with takeable as (
    select shard
    from audit.drain_lease
    where
        shard = %(shard)s
        and (
            expires_at <= clock_timestamp()
            or run_id = %(run_id)s
            or run_id = %(dead_run_id)s
            -- The judgement of read_leases, made again: the owner may have come back since.
            or (
                greatest(updated_at, pg_postmaster_start_time())
                < clock_timestamp() - make_interval(secs => %(silent_s)s)
                and not exists (
                    select 1
                    from pg_catalog.pg_stat_activity as a
                    where a.application_name = left(
                        concat(
                            'audit-platform drain ', drain_lease.shard, ' ', drain_lease.run_id
                        ),
                        63
                    )
                )
            )
        )
    for update
)

update audit.drain_lease as l
set
    fence = l.fence + 1,
    run_id = %(run_id)s,
    expires_at = clock_timestamp() + make_interval(secs => %(ttl_s)s),
    stop = false,
    updated_at = clock_timestamp()
from takeable as t
where l.shard = t.shard
returning l.fence;

-- name: add_lease_row
-- description: Make the row of a shard seen for the first time, free to take
insert into audit.drain_lease (shard)
values (%(shard)s)
on conflict (shard) do nothing;

-- name: renew_lease
-- description: Extend a lease whose fence is still ours and read the stop flag
update audit.drain_lease
set
    expires_at = clock_timestamp() + make_interval(secs => %(ttl_s)s),
    updated_at = clock_timestamp()
where shard = %(shard)s and fence = %(fence)s
returning stop;

-- name: release_lease
-- description: Free a lease whose fence is still ours; the fence stays, so that it only grows
update audit.drain_lease
set
    run_id = null,
    expires_at = '-infinity',
    updated_at = clock_timestamp()
where shard = %(shard)s and fence = %(fence)s;

-- name: request_stop
-- description: Ask the drain runs of all shards to end after their present batch
update audit.drain_lease
set
    stop = true,
    updated_at = clock_timestamp()
where expires_at > clock_timestamp();

-- name: read_leases
-- description: Show every lease, and whether it has time left and its owner is neither silent nor gone
select
    l.shard,
    l.fence,
    l.run_id,
    nullif(l.expires_at, '-infinity') as expires_at,
    l.stop,
    l.expires_at > clock_timestamp()
    and (
        greatest(l.updated_at, pg_postmaster_start_time())
        >= clock_timestamp() - make_interval(secs => %(silent_s)s)
        or exists (
            select 1
            from pg_catalog.pg_stat_activity as a
            where a.application_name = left(
                concat('audit-platform drain ', l.shard, ' ', l.run_id), 63
            )
        )
    ) as is_live
from audit.drain_lease as l
order by l.shard;

-- name: check_fence
-- description: Hold the lease row against a takeover, not against a renewal, until this transaction ends
select fence
from audit.drain_lease
where shard = %(shard)s and fence = %(fence)s
for key share;

-- name: limit_transaction
-- description: Set durability and time-outs of one batch until its end; give the time of the transaction
select
    set_config('synchronous_commit', 'on', true),
    set_config('lock_timeout', %(lock_timeout)s, true),
    set_config('statement_timeout', %(statement_timeout)s, true),
    set_config('idle_in_transaction_session_timeout', %(idle_timeout)s, true),
    now();

-- name: read_partitions
-- description: List the ranges that exist with their state, in time order
select
    lo,
    hi,
    state
from audit.partition
order by lo;

-- name: insert_dead_letters
-- description: Keep bad events, encrypted; the same bytes with the same reason are kept once
insert into audit.dead_letter
(raw_digest, reason, detail, shard, entry_id, line_no, raw, key_id)
select
    d.raw_digest,
    d.reason,
    d.detail,
    %(shard)s,
    d.entry_id,
    d.line_no,
    d.raw,
    %(key_id)s
from unnest(
    %(raw_digest)s::bytea[],
    %(reason)s::text[],
    %(detail)s::text[],
    %(entry_id)s::text[],
    %(line_no)s::int[],
    %(raw)s::bytea[]
) as d (raw_digest, reason, detail, entry_id, line_no, raw)
on conflict do nothing;

-- name: insert_ranges
-- description: Record what this batch tells about the numbers of its producers
insert into audit.ingest_range (batch_id, producer_id, epoch, kind, reason, r)
select
    %(batch_id)s,
    s.producer_id,
    s.epoch,
    s.kind,
    s.reason,
    range_agg(int8range(s.first_seq, s.last_seq, '[]'))
from unnest(
    %(producer_id)s::int[],
    %(epoch)s::bigint[],
    %(kind)s::text[],
    %(reason)s::text[],
    %(first_seq)s::bigint[],
    %(last_seq)s::bigint[]
) as s (producer_id, epoch, kind, reason, first_seq, last_seq)
group by s.producer_id, s.epoch, s.kind, s.reason;

-- name: note_sampled
-- description: Keep how many events the policies of a producer left out; the highest count stays
select audit.note_sampled(
    %(producer_id)s::int[],
    %(epoch)s::bigint[],
    %(source)s::text[],
    %(action)s::text[],
    %(kind)s::text[],
    %(n)s::bigint[]
);

-- name: note_producer_names
-- description: Keep the name that a producer gives itself
select audit.note_producer_names(%(producer_id)s::int[], %(name)s::text[]);

-- name: read_watermarks
-- description: Tell for each asked run of a producer what is accounted for and what is missing
select
    producer_id,
    epoch,
    watermark,
    max_seq,
    gap_firsts,
    gap_lasts
from audit.read_watermarks(
    %(producer_ids)s::int[], %(epochs)s::bigint[], %(gap_limit)s::int
);

-- name: list_recent_epochs
-- description: List the runs of producers that were heard of last
select
    producer_id,
    epoch
from audit.list_recent_epochs(make_interval(secs => %(longest_s)s), %(most)s::int);

-- name: read_identity
-- description: Name this database server and its history: another after any recovery to the past
select
    (select c.system_identifier from pg_control_system() as c)
    || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8);

-- name: fold_ranges
-- description: Fold the ledger ranges into one row per run of a producer; null while another does
select audit.fold_ranges();

-- name: insert_batch
-- description: Write the ledger row; its key refuses a batch whose commit was only believed lost
insert into audit.ingest_batch
(
    batch_id, shard, run_id, n_read, n_new, n_dup, n_late, n_bad, n_unstamped,
    first_entry, last_entry, root
)
values
(
    %(batch_id)s, %(shard)s, %(run_id)s, %(n_read)s, %(n_new)s, %(n_dup)s, %(n_late)s, %(n_bad)s,
    %(n_unstamped)s, %(first_entry)s, %(last_entry)s, %(root)s
);

-- name: list_dead_letters
-- description: Page through dead letters, newest first
select
    dead_id,
    reason,
    detail,
    shard,
    entry_id,
    line_no,
    raw,
    key_id,
    first_seen,
    resolved_at
from audit.dead_letter
where
    (%(reason)s::text is null or reason = %(reason)s)
    and (%(before_id)s::bigint is null or dead_id < %(before_id)s)
order by dead_id desc
limit %(limit)s;
