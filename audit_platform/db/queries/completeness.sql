-- Completeness: what became of the numbers of producers. Run as audit_owner.

-- name: list_accounts
-- description: One row per run of a producer: its numbers by fate, and the missing ones
select
    l.producer_id,
    l.epoch,
    (
        select n.name from audit.producer_name as n
        where n.producer_id = l.producer_id
    ) as name,
    l.is_ended,
    l.is_unclean,
    l.max_seq,
    (
        select coalesce(sum(upper(x) - lower(x)), 0)::bigint
        from unnest(l.got - l.late - l.dead) as x
    ) as stored_count,
    (select coalesce(sum(upper(x) - lower(x)), 0)::bigint from unnest(l.late) as x) as late_count,
    (
        select coalesce(sum(upper(x) - lower(x)), 0)::bigint from unnest(l.dead - l.late) as x
    ) as dead_count,
    (
        select coalesce(sum(upper(x) - lower(x)), 0)::bigint from unnest(l.declared) as x
    ) as declared_count,
    l.missing,
    l.missing * int8multirange(int8range(1, l.settled_seq + 1)) as settled_missing,
    l.seen_at
from audit.producer_ledger as l
where
    (%(producer_ids)s::int[] is null or l.producer_id = any(%(producer_ids)s::int[]))
    and (%(since)s::timestamptz is null or l.seen_at >= %(since)s::timestamptz)
order by l.producer_id, l.seen_at, l.epoch;

-- name: list_declared
-- description: Declared numbers that did not arrive, by reason
with parts as (
    select
        producer_id,
        epoch,
        reason,
        r
    from audit.producer_numbers
    where kind = 'declared'
    union all
    select
        producer_id,
        epoch,
        coalesce(reason, 'unknown') as reason,
        r
    from audit.ingest_range
    where kind = 'declared'
),

merged as (
    select
        producer_id,
        epoch,
        reason,
        range_agg(r) as r
    from parts
    where %(producer_ids)s::int[] is null or producer_id = any(%(producer_ids)s::int[])
    group by producer_id, epoch, reason
)

select
    m.producer_id,
    m.epoch,
    m.reason,
    (select sum(upper(x) - lower(x))::bigint from unnest(m.r * l.declared) as x) as declared_count
from merged as m
inner join audit.producer_ledger as l on m.producer_id = l.producer_id and m.epoch = l.epoch
where m.r && l.declared
order by m.producer_id, m.epoch, m.reason;

-- name: sum_left_out
-- description: Events that policies left out before they got a number, by producer and kind
select
    producer_id,
    kind,
    sum(n)::bigint as left_out_count
from audit.producer_sampled
where %(producer_ids)s::int[] is null or producer_id = any(%(producer_ids)s::int[])
group by producer_id, kind
order by producer_id, kind;

-- name: sum_unstamped
-- description: Events read without a number, for which no gap can be seen
select coalesce(sum(n_unstamped), 0)::bigint as unstamped_count
from audit.ingest_batch
where %(since)s::timestamptz is null or committed_at >= %(since)s::timestamptz;

-- name: list_ledger_numbers
-- description: Numbers that need a row, and all that arrived, by run of a producer
select
    producer_id,
    epoch,
    got - dead as wanted,
    got
from audit.producer_ledger
where %(producer_ids)s::int[] is null or producer_id = any(%(producer_ids)s::int[]);

-- name: read_count_moment
-- description: Moment of the snapshot
select now() as counted_at;

-- name: list_numbered_islands
-- description: Numbers that rows in PostgreSQL carry, as ranges; reads every row but those of archived spans, which files hold
with numbered as (
    select
        producer_id,
        producer_epoch as epoch,
        -- the ledger keeps the highest number of the type as the one below it
        least(producer_seq, 9223372036854775806) as seq
    from audit.event
    where
        producer_id is not null
        and (%(producer_ids)s::int[] is null or producer_id = any(%(producer_ids)s::int[]))
        -- A detach that has just begun leaves the table attached for a while.
        and not "timestamp" <@ (
            select coalesce(range_agg(tstzrange(lo, hi)), '{}')
            from unnest(%(los)s::timestamptz[], %(his)s::timestamptz[]) as archived (lo, hi)
        )
    union all
    select
        producer_id,
        producer_epoch as epoch,
        least(producer_seq, 9223372036854775806) as seq
    from audit.event_late
    where
        producer_id is not null
        and (%(producer_ids)s::int[] is null or producer_id = any(%(producer_ids)s::int[]))
),

ranked as (
    select
        producer_id,
        epoch,
        seq,
        seq - dense_rank() over (partition by producer_id, epoch order by seq) as island
    from numbered
)

-- Islands: one row per row of the table would not fit into memory.
select
    producer_id,
    epoch,
    min(seq) as first_seq,
    max(seq) as last_seq,
    count(*) as row_count
from ranked
group by producer_id, epoch, island;
