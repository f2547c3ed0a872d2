-- Queries of retention: classes, rules, legal holds, expiry, late rows. Run as audit_owner.

-- name: list_classes_and_own_rules
-- description: List the patterns of classes, and tenants with rules of their own, in one snapshot
select
    source,
    action,
    retention_class,
    null::text as tenant_id
from audit.retention_class
union all
select
    null,
    null,
    retention_class,
    tenant_id
from audit.retention_rule
where tenant_id <> '*';

-- name: set_retention_class
-- description: Store the class of a source and action
insert into audit.retention_class (source, action, retention_class)
values (%(source)s, %(action)s, %(retention_class)s)
on conflict (source, action) do update set retention_class = excluded.retention_class;

-- name: unset_retention_class
-- description: Remove the class of a source and action
delete from audit.retention_class
where source = %(source)s and action = %(action)s;

-- name: list_retention_rules
-- description: List rules as whole months and days; a part of a day counts as one
select
    r.tenant_id,
    r.retention_class,
    (extract(year from r.keep) * 12 + extract(month from r.keep))::int as keep_months,
    (
        extract(day from r.keep)
        + ceil(extract(epoch from r.keep - date_trunc('day', r.keep)) / 86400)
    )::int as keep_days,
    (extract(year from r.hot) * 12 + extract(month from r.hot))::int as hot_months,
    (
        extract(day from r.hot)
        + ceil(extract(epoch from r.hot - date_trunc('day', r.hot)) / 86400)
    )::int as hot_days
from audit.retention_rule as r
order by r.tenant_id, r.retention_class;

-- name: set_retention_rule
-- description: Store how long a class of a tenant is kept
insert into audit.retention_rule (tenant_id, retention_class, keep, hot)
values (
    %(tenant_id)s,
    %(retention_class)s,
    make_interval(months => %(keep_months)s, days => %(keep_days)s),
    make_interval(months => %(hot_months)s, days => %(hot_days)s)
)
on conflict (tenant_id, retention_class) do update
set
    keep = excluded.keep,
    hot = excluded.hot;

-- name: unset_retention_rule
-- description: Remove a rule
delete from audit.retention_rule
where tenant_id = %(tenant_id)s and retention_class = %(retention_class)s;

-- name: place_hold
-- description: Place a hold; one with the same id is there already and stays as it is
insert into audit.legal_hold
(
    hold_id, case_id, tenant_id, entity_type, entity_id, user_id, lo, hi, keep_hot, reason,
    placed_by, placed_at
)
values
(
    %(hold_id)s, %(case_id)s, %(tenant_id)s, %(entity_type)s, %(entity_id)s, %(user_id)s,
    %(lo)s, %(hi)s, %(keep_hot)s, %(reason)s, %(placed_by)s, %(placed_at)s
)
on conflict (hold_id) do nothing;

-- name: list_holds
-- description: List holds in the order in which they were placed
select
    hold_id,
    case_id,
    tenant_id,
    entity_type,
    entity_id,
    user_id,
    lo,
    hi,
    keep_hot,
    reason,
    placed_by,
    placed_at,
    released_by,
    released_at
from audit.legal_hold
where
    (%(case_id)s::text is null or case_id = %(case_id)s)
    and (%(with_released)s or released_at is null)
order by placed_at, hold_id;

-- name: find_blocking_holds
-- description: List active holds that may cover rows of a range, of one tenant or of any
select
    hold_id,
    case_id,
    tenant_id,
    entity_type,
    entity_id,
    user_id,
    lo,
    hi,
    keep_hot,
    reason,
    placed_by,
    placed_at,
    released_by,
    released_at
from audit.legal_hold
where
    released_at is null
    and tstzrange(lo, hi) && tstzrange(%(lo)s, %(hi)s)
    and (%(tenant_id)s::text is null or tenant_id in (%(tenant_id)s, '*'))
    and (%(keep_hot)s::boolean is null or keep_hot = %(keep_hot)s)
order by placed_at, hold_id;

-- name: release_holds
-- description: Release holds that are active
update audit.legal_hold
set
    released_by = %(released_by)s,
    released_at = %(released_at)s
where hold_id = any(%(hold_ids)s) and released_at is null
returning hold_id;

-- name: list_late_partitions
-- description: Partitions for which rows wait, with how many and their state, in order of time
select
    p.name,
    count(*) as row_count,
    p.state
from audit.event_late as l
inner join audit.partition as p on l."timestamp" >= p.lo and l."timestamp" < p.hi
group by p.name, p.lo, p.state
order by p.lo;

-- name: list_late_keys
-- description: Keys and leaves of the first rows that wait for a partition
select
    l.tenant_id,
    l."timestamp",
    l.id,
    l.leaf_hash
from audit.event_late as l
where l."timestamp" >= %(lo)s and l."timestamp" < %(hi)s
order by l.tenant_id, l."timestamp", l.id
limit %(most)s;

-- name: count_late_pairs
-- description: Rows that wait for a partition, by tenant, source and action
select
    l.tenant_id,
    l.source,
    l.action,
    count(*) as row_count
from audit.event_late as l
where l."timestamp" >= %(lo)s and l."timestamp" < %(hi)s
group by l.tenant_id, l.source, l.action;

-- name: hold_ledger_folds
-- description: Keep audit.fold_ranges(), which takes the same lock, away until the transaction ends
select pg_advisory_xact_lock(4707724114509826);

-- name: list_late_hours
-- description: Hours of rows that no partition was ever made for, in order of time
select distinct date_trunc('hour', l."timestamp", 'UTC') as first_moment
from audit.event_late as l
where not exists (
    select 1
    from audit.partition as p
    where l."timestamp" >= p.lo and l."timestamp" < p.hi
)
order by first_moment
limit %(most)s;

-- name: find_sealed_classes
-- description: Tell whether anything was ever sealed, and of which of some classes
select
    exists(select 1 from audit.partition_group) as is_any,
    array(
        select c.retention_class
        from unnest(%(classes)s::text[]) as c (retention_class)
        where exists (
            select 1
            from audit.partition_group as g
            where g.retention_class = c.retention_class
        )
    ) as sealed;
