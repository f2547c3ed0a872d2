-- Queries of partitions and of the ledger check.
-- Partition DDL is composed in retention/lifecycle.py, because names cannot be parameters.

-- name: lock_partition_ddl
-- description: One process at a time changes partitions; the lock ends with the transaction
select pg_advisory_xact_lock(%(key)s);

-- name: list_partitions
-- description: List the life cycle with what the catalog says: is the table a partition right now
select
    p.name,
    p.lo,
    p.hi,
    p.state,
    exists(
        select 1
        from pg_inherits as i
        where
            i.inhparent = 'audit.event'::regclass
            and i.inhrelid = to_regclass('audit.' || quote_ident(p.name))
    ) as is_attached
from audit.partition as p
order by p.lo;

-- name: inspect_partition
-- description: Tell whether a table of this name exists and whether it is a partition
select
    to_regclass('audit.' || quote_ident(%(name)s)) is not null as is_there,
    exists(
        select 1
        from pg_inherits as i
        where
            i.inhparent = 'audit.event'::regclass
            and i.inhrelid = to_regclass('audit.' || quote_ident(%(name)s))
    ) as is_attached;

-- name: find_taken_range
-- description: Tell whether a partition of another name takes part of a range
select exists(
    select 1
    from audit.partition as p
    where
        p.name <> %(name)s
        and tstzrange(p.lo, p.hi) && tstzrange(%(lo)s, %(hi)s)
) as is_taken;

-- name: record_partition
-- description: Open the life cycle of a partition; a row that is there already stays as it is
insert into audit.partition (name, lo, hi)
values (%(name)s, %(lo)s, %(hi)s)
on conflict (name) do nothing;

-- name: find_granted_partitions
-- description: Partitions somebody besides the owner may touch, past the views; none may exist
select c.relname as name
from pg_inherits as i
inner join pg_class as c on i.inhrelid = c.oid
where
    i.inhparent = 'audit.event'::regclass
    and exists (
        select
        from aclexplode(c.relacl) as a
        where a.grantee <> c.relowner
    )
order by name;

-- name: count_batch_rows
-- description: Compare the newest ledger rows with the rows stored under their batch ids
with recent as (
    select
        b.batch_id,
        b.n_new,
        b.n_late,
        b.committed_at
    from audit.ingest_batch as b
    order by b.committed_at desc
    limit %(batches)s
),

stored as (
    select
        e.batch_id,
        count(*) as n_stored
    from audit.event as e
    where
        e.batch_id in (select r.batch_id from recent as r)
        and e."timestamp" >= %(since)s
        and e."timestamp" < %(until)s
    group by e.batch_id
)

select
    r.batch_id,
    r.n_new,
    r.n_late,
    r.committed_at,
    coalesce(s.n_stored, 0) as n_stored,
    exists(
        select
        from audit.partition as p
        where
            p.state in ('detach_started', 'detached', 'dropped')
            and p.sealed_at >= r.committed_at
    ) as may_be_archived
from recent as r
left join stored as s on r.batch_id = s.batch_id
order by r.committed_at desc;
