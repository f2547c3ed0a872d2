-- Queries of the life cycle as operators and checks see it.

-- name: count_partition_batches
-- description: Rows of a range by batch, as sums and as the batches that contradict the ledger
with here as materialized (
    select
        e.batch_id,
        count(*) as n_here
    from audit.event as e
    where e."timestamp" >= %(lo)s and e."timestamp" < %(hi)s
    group by e.batch_id
),

compared as (
    select
        h.batch_id,
        h.n_here,
        b.batch_id is null as is_unknown,
        h.n_here > b.n_new + b.n_late as is_exceeding,
        h.n_here < b.n_new as is_spread
    from here as h
    left join audit.ingest_batch as b on h.batch_id = b.batch_id
)

select
    coalesce(sum(c.n_here), 0)::bigint as n_rows,
    count(*) as n_batches,
    coalesce(array_agg(c.batch_id) filter (where c.is_unknown), '{}') as unknown,
    coalesce(array_agg(c.batch_id) filter (where c.is_exceeding), '{}') as exceeding,
    coalesce(array_agg(c.batch_id) filter (where c.is_spread), '{}') as spread
from compared as c;

-- name: find_short_batches
-- description: Batches that have fewer rows in all attached partitions than the ledger promises
with wanted as (
    select
        b.batch_id,
        b.n_new
    from audit.ingest_batch as b
    where b.batch_id = any(%(batches)s::uuid[])
),

found as (
    select
        e.batch_id,
        count(*) as n_found
    from audit.event as e
    where
        e.batch_id = any(%(batches)s::uuid[])
        and e."timestamp" >= %(since)s
        and e."timestamp" < %(until)s
    group by e.batch_id
)

select w.batch_id
from wanted as w
left join found as f on w.batch_id = f.batch_id
where coalesce(f.n_found, 0) < w.n_new
order by w.batch_id;

-- name: count_archived_partitions
-- description: Partitions whose rows are in the archive alone
select count(*) as n_archived
from audit.partition as p
where p.state in ('detach_started', 'detached', 'dropped');

-- name: measure_partition_tables
-- description: Size of each partition's table with its indexes, what the planner believes of its rows, and when it was opened again
select
    p.name,
    pg_total_relation_size(c.oid) as total_bytes,
    nullif(c.reltuples, -1)::bigint as estimated_rows,
    (
        select max(g.reopened_at)
        from audit.partition_generation as g
        where g.partition_name = p.name
    ) as reopened_at
from audit.partition as p
left join pg_class as c on c.oid = to_regclass('audit.' || quote_ident(p.name));
