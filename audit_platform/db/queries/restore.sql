-- Archived partitions brought back: tables beside the archive, attached again, on trial.
-- CREATE, COPY and ATTACH are composed in retention/, because names cannot be parameters.

-- name: inspect_restored_table
-- description: Tell whether a table exists, whether it is a partition, what its comment says
select
  t.table_oid is not null as is_there,
  i.inhrelid is not null as is_attached,
  obj_description(t.table_oid, 'pg_class') as remark
from (select to_regclass('audit.' || quote_ident(%(name)s)) as table_oid) as t
left join pg_inherits as i
  on t.table_oid = i.inhrelid and i.inhparent = 'audit.event'::regclass;

-- name: find_table_grants
-- description: Roles besides the owner that may touch a table of restored events; none may
select coalesce(r.rolname, 'public') as role_name
from (select to_regclass('audit.' || quote_ident(%(name)s)) as table_oid) as t
inner join pg_class as c on t.table_oid = c.oid
cross join lateral aclexplode(c.relacl) as a
left join pg_roles as r on a.grantee = r.oid
where a.grantee <> c.relowner
order by role_name;

-- name: mark_reattached
-- description: Readers find a detached or dropped partition in PostgreSQL again; its archive stays
update audit.partition
set
  state = 'verified',
  detached_at = null,
  dropped_at = null,
  restored_as = name,
  restored_at = %(now)s,
  last_error = null
where
  name = %(name)s
  and generation = %(generation)s
  and state = %(state)s
  and state in ('detached', 'dropped');

-- name: record_restore_drill
-- description: Keep what a drill came to, a failed one too
insert into audit.restore_drill
(at, partition_name, generation, rows, seconds, mismatches, detail)
values
(
  %(at)s, %(partition_name)s, %(generation)s, %(rows)s, %(seconds)s, %(mismatches)s, %(detail)s
);
