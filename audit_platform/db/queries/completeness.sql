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

-- name: count_numbered_rows
-- description: Numbers that rows carry, by run of a producer, against the ledger; reads every row
with numbered as (
    select
        producer_id,
        producer_epoch as epoch,
        producer_seq as seq
    from audit.event_all
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
),

-- Islands first: one range per row of the table would not fit into memory.
islands as (
    select
        producer_id,
        epoch,
        int8range(min(seq), max(seq), '[]') as r,
        count(*) as row_count
    from ranked
    group by producer_id, epoch, island
),

found as (
    select
        producer_id,
        epoch,
        range_agg(r) as r,
        sum(row_count)::bigint as row_count
    from islands
    group by producer_id, epoch
)

select
    coalesce(l.producer_id, f.producer_id) as producer_id,
    coalesce(l.epoch, f.epoch) as epoch,
    coalesce(f.row_count, 0) as row_count,
    coalesce(l.got - l.dead, '{}') - coalesce(f.r, '{}') as without_row,
    coalesce(f.r, '{}') - coalesce(l.got, '{}') as without_ledger,
    l.epoch is null as is_unknown,
    now() as counted_at
from (
    select
        producer_id,
        epoch,
        got,
        dead
    from audit.producer_ledger
    where %(producer_ids)s::int[] is null or producer_id = any(%(producer_ids)s::int[])
) as l
full outer join found as f on l.producer_id = f.producer_id and l.epoch = f.epoch;
