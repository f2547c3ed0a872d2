-- Queries of detaching and dropping partitions.
-- ALTER TABLE and what reads one partition are composed in retention/, because names cannot be
-- parameters.

-- name: find_attachment
-- description: Tell how the catalog holds a table: is it there, a partition, half detached
select
    t.table_oid is not null as is_there,
    i.inhrelid is not null as is_attached,
    coalesce(i.inhdetachpending, false) as is_pending
from (select to_regclass('audit.' || quote_ident(%(name)s)) as table_oid) as t
left join pg_inherits as i
    on t.table_oid = i.inhrelid and i.inhparent = 'audit.event'::regclass;

-- name: find_half_detached
-- description: Partitions between the two transactions of a detach, with their recorded state
select
    c.relname as name,
    p.state
from pg_inherits as i
inner join pg_class as c on i.inhrelid = c.oid
left join audit.partition as p on c.relname = p.name
where i.inhparent = 'audit.event'::regclass and i.inhdetachpending
order by c.relname;

-- name: find_parent_holders
-- description: Transactions that hold a lock on audit.event; the age is null without the right
select
    l.virtualtransaction as transaction_id,
    l.pid,
    coalesce(a.application_name, '') as application,
    extract(epoch from clock_timestamp() - a.xact_start)::float8 as age_s
from pg_locks as l
left join pg_stat_activity as a on l.pid = a.pid
where
    l.locktype = 'relation'
    and l.database = (
        select d.oid
        from pg_database as d
        where d.datname = current_database()
    )
    and l.relation = 'audit.event'::regclass
    and l.granted
    and l.pid <> pg_backend_pid()
order by a.xact_start, l.pid;

-- name: read_session_rights
-- description: Role and lock time-out of this session, to be put back later
select
    current_setting('role') as role_name,
    current_setting('lock_timeout') as lock_timeout;

-- name: set_session_rights
-- description: Role and lock time-out of this session; what refuses a transaction needs them
select
    set_config('role', %(role_name)s, false),
    set_config('lock_timeout', %(lock_timeout)s, false);

-- name: measure_table
-- description: Bytes of a table with its indexes, null where it is missing
select pg_total_relation_size(to_regclass('audit.' || quote_ident(%(name)s))) as bytes;
