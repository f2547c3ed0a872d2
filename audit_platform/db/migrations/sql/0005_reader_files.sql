-- What a reader is told of the archive: the files that may hold rows of its tenant, no others.

-- An administrator without superuser rights must be a member to act as the owner.
do $$ begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant audit_owner to %I', current_user);
  end if;
end $$;
set local role audit_owner;

-- An entry of a file names the tenant whose rows it holds, their number and their times: what a
-- tenant with a rule of its own does not want others to know.
create view audit.partition_read as
select
  p.name, p.lo, p.hi, p.generation, p.state,
  (
    select coalesce(jsonb_agg(one.entry order by one.place), '[]')
    from jsonb_array_elements(p.files) with ordinality as one (entry, place)
    where one.entry ->> 'tenant' in ('*', nullif(current_setting('app.tenant', true), ''))
  ) as files
from audit.partition as p;
comment on view audit.partition_read is
  'Partitions, with the archive files that may hold events of the tenant in app.tenant; for readers';
comment on column audit.partition_read.name is 'Table in schema audit';
comment on column audit.partition_read.lo is 'First moment, inclusive';
comment on column audit.partition_read.hi is 'Last moment, exclusive';
comment on column audit.partition_read.generation is 'Generation that the files belong to';
comment on column audit.partition_read.state is 'As in audit.partition';
comment on column audit.partition_read.files is
  'Archive files of this tenant and those that tenants share';

revoke all on audit.partition_read from public;
revoke select (files) on audit.partition from audit_reader;
grant select on audit.partition_read to audit_reader;

reset role;
