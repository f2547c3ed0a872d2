-- Queries of the self-checks and of `audit-platform status`: they look, they change nothing.

-- name: read_durability
-- description: Show whether a commit of the asking role survives a crash of the server
select
    current_setting('fsync') as fsync,
    current_setting('full_page_writes') as full_page_writes,
    current_setting('synchronous_commit') as synchronous_commit;

-- name: read_clock
-- description: Give the clock of the server
select clock_timestamp() as clock_at;

-- name: list_writer_rights
-- description: List every right of the writer on the relations and functions of the schema, its own or of everybody
select
    c.relname as relation,
    null as column_name,
    a.privilege_type
from pg_class as c
cross join lateral aclexplode(c.relacl) as a
where
    c.relnamespace = 'audit'::regnamespace
    and a.grantee in (0::oid, 'audit_writer'::regrole::oid)
union all
select
    c.relname as relation,
    t.attname as column_name,
    a.privilege_type
from pg_class as c
inner join pg_attribute as t on c.oid = t.attrelid
cross join lateral aclexplode(t.attacl) as a
where
    c.relnamespace = 'audit'::regnamespace
    and a.grantee in (0::oid, 'audit_writer'::regrole::oid)
union all
select
    p.proname as relation,
    null as column_name,
    a.privilege_type
from pg_proc as p
-- No entry at all means that everybody may.
cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
where
    p.pronamespace = 'audit'::regnamespace
    and a.grantee in (0::oid, 'audit_writer'::regrole::oid);

-- name: read_writer_attributes
-- description: Show whether the writer could go around its rights
select
    (
        r.rolsuper
        or r.rolcreaterole
        or r.rolcreatedb
        or r.rolbypassrls
        or r.rolreplication
    ) as is_mighty,
    r.oid in (
        select m.member
        from pg_auth_members as m
    ) as is_member
from pg_roles as r
where r.rolname = 'audit_writer';

-- name: read_last_batch
-- description: Show the last ledger row
select
    committed_at,
    shard,
    n_read,
    n_new,
    n_dup,
    n_late,
    n_bad
from audit.ingest_batch
order by committed_at desc
limit 1;
