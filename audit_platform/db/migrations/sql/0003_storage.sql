-- Storage life cycle: seals, former generations, retention rules, legal holds, restore drills.

-- An administrator without superuser rights must be a member to act as the owner.
do $$ begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant audit_owner to %I', current_user);
  end if;
end $$;
set local role audit_owner;

alter table audit.partition
  add column classes jsonb not null default '[]',
  add column seal_checked_at timestamptz,
  add column indexed_at timestamptz,
  add column last_error text,
  add column restored_at timestamptz,
  add column restored_as text,
  -- prevents a restored table that nobody knows the age of
  add constraint partition_restored check ((restored_as is null) = (restored_at is null));
comment on column audit.partition.classes is
  'Retention classes at seal: [source, action, class] of each pair that is not standard';
comment on column audit.partition.seal_checked_at is 'When rows were counted, proved and hashed';
comment on column audit.partition.indexed_at is 'When the cold indexes were there';
comment on column audit.partition.last_error is
  'Why the last attempt at the next step failed; null after a step';
comment on column audit.partition.restored_at is 'When an archived day was brought back beside the archive';
comment on column audit.partition.restored_as is 'Table that holds it, in schema audit';

-- Group roots live in a table: a day may hold a hundred thousand tenants, and a proof needs one.
create table audit.partition_group (
  partition_name text not null,
  generation int not null,
  tenant_id text not null,
  retention_class text not null,
  n bigint not null,
  root bytea not null,
  primary key (partition_name, generation, tenant_id, retention_class),
  constraint partition_group_rows check (n > 0),
  constraint partition_group_root check (octet_length(root) = 32)
);
comment on table audit.partition_group is
  'What a sealed partition holds of one tenant and retention class; stays when its rows expire';
comment on column audit.partition_group.partition_name is 'Row of audit.partition';
comment on column audit.partition_group.generation is 'Generation that was sealed';
comment on column audit.partition_group.tenant_id is 'Tenant';
comment on column audit.partition_group.retention_class is 'Retention class at seal';
comment on column audit.partition_group.n is 'Rows';
comment on column audit.partition_group.root is 'Merkle root over their leaves, in order of id';

create table audit.partition_generation (
  partition_name text not null,
  generation int not null,
  state text not null,
  n bigint not null,
  min_id uuid,
  max_id uuid,
  leaf_digest bytea not null,
  root bytea not null,
  seal_no bigint,
  files jsonb not null,
  manifest_sha256 bytea,
  sealed_at timestamptz not null,
  reopened_at timestamptz not null,
  proved_at timestamptz,
  files_deleted_at timestamptz,
  primary key (partition_name, generation),
  -- prevents deleting the only files that hold a row
  constraint partition_generation_proved check (files_deleted_at is null or proved_at is not null)
);
comment on table audit.partition_generation is
  'Former generations of partitions that were opened again: what they held, where their files lie';
comment on column audit.partition_generation.partition_name is 'Row of audit.partition';
comment on column audit.partition_generation.generation is 'Generation that ended';
comment on column audit.partition_generation.state is 'State it was opened again from';
comment on column audit.partition_generation.n is 'Rows at seal';
comment on column audit.partition_generation.min_id is 'Smallest id at seal';
comment on column audit.partition_generation.max_id is 'Largest id at seal';
comment on column audit.partition_generation.leaf_digest is 'SHA-256 over the ordered leaves';
comment on column audit.partition_generation.root is 'Merkle root';
comment on column audit.partition_generation.seal_no is 'Signed seal';
comment on column audit.partition_generation.files is 'Archive files';
comment on column audit.partition_generation.manifest_sha256 is 'SHA-256 of the manifest';
comment on column audit.partition_generation.sealed_at is 'When writes ended';
comment on column audit.partition_generation.reopened_at is 'When it was opened again';
comment on column audit.partition_generation.proved_at is
  'When every leaf of it was found in the generation that followed';
comment on column audit.partition_generation.files_deleted_at is 'When its files were deleted';

create table audit.retention_class (
  source text not null,
  action text not null,
  retention_class text not null,
  primary key (source, action),
  -- prevents a class that cannot be part of a file name
  constraint retention_class_name check (retention_class ~ '^[a-z][a-z0-9_]{0,30}$')
);
comment on table audit.retention_class is
  'Retention class of the events of a source and action; no row: standard';
comment on column audit.retention_class.source is 'Source; * for every source';
comment on column audit.retention_class.action is 'Action, or its beginning followed by *';
comment on column audit.retention_class.retention_class is 'Class; decided when a partition is sealed';

create table audit.retention_rule (
  tenant_id text not null,
  retention_class text not null,
  keep interval not null,
  hot interval,
  primary key (tenant_id, retention_class),
  constraint retention_rule_class check (retention_class ~ '^[a-z][a-z0-9_]{0,30}$'),
  constraint retention_rule_keep check (keep > interval '0'),
  constraint retention_rule_hot check (hot > interval '0' and hot <= keep)
);
comment on table audit.retention_rule is
  'How long events are kept, per tenant and retention class; no rule: for ever';
comment on column audit.retention_rule.tenant_id is 'Tenant; * for all without a rule of their own';
comment on column audit.retention_rule.retention_class is 'Retention class';
comment on column audit.retention_rule.keep is 'Total time, counted from the end of the partition';
comment on column audit.retention_rule.hot is
  'Shortest time in PostgreSQL, part of keep; null: the platform''s setting';

create table audit.legal_hold (
  hold_id uuid primary key,
  case_id text not null,
  tenant_id text not null,
  entity_type text,
  entity_id text,
  user_id text,
  lo timestamptz not null,
  hi timestamptz not null,
  keep_hot boolean not null default false,
  reason text not null,
  placed_by text not null,
  placed_at timestamptz not null default now(),
  released_by text,
  released_at timestamptz,
  constraint legal_hold_bounds check (lo < hi),
  constraint legal_hold_case check (length(case_id) between 1 and 100),
  constraint legal_hold_entity check (entity_id is null or entity_type is not null),
  -- prevents a release that nobody answers for
  constraint legal_hold_released check ((released_by is null) = (released_at is null))
);
-- serves "does an active hold touch this partition", asked before each detach, drop and deletion
create index legal_hold_active on audit.legal_hold using gist (tstzrange(lo, hi))
where released_at is null;
-- serves "the holds of a case"
create index legal_hold_case on audit.legal_hold (case_id);
comment on table audit.legal_hold is
  'Rows that must stay, by case; several holds may cover the same rows, each is released alone';
comment on column audit.legal_hold.hold_id is 'UUIDv7 of the hold';
comment on column audit.legal_hold.case_id is 'Case or matter that asks for it';
comment on column audit.legal_hold.tenant_id is 'Tenant; * for all';
comment on column audit.legal_hold.entity_type is 'Only events about this kind of record; null: all';
comment on column audit.legal_hold.entity_id is 'Only events about this record; null: all';
comment on column audit.legal_hold.user_id is 'Only events of this user; null: all';
comment on column audit.legal_hold.lo is 'First moment, inclusive';
comment on column audit.legal_hold.hi is 'Last moment, exclusive';
comment on column audit.legal_hold.keep_hot is 'Whether the rows must stay in PostgreSQL';
comment on column audit.legal_hold.reason is 'One sentence for people';
comment on column audit.legal_hold.placed_by is 'Who placed it';
comment on column audit.legal_hold.placed_at is 'When; it acts from then on';
comment on column audit.legal_hold.released_by is 'Who released it';
comment on column audit.legal_hold.released_at is 'When it ended; null while it acts';

create table audit.restore_drill (
  drill_id bigint generated always as identity primary key,
  at timestamptz not null,
  partition_name text not null,
  generation int not null,
  rows bigint not null,
  seconds double precision not null,
  mismatches bigint not null,
  detail text,
  constraint restore_drill_counts check (rows >= 0 and mismatches >= 0 and seconds >= 0)
);
-- serves "the last drills"
create index restore_drill_at on audit.restore_drill (at desc);
comment on table audit.restore_drill is 'Archived partitions restored on trial and compared';
comment on column audit.restore_drill.drill_id is 'Number of the drill';
comment on column audit.restore_drill.at is 'When it began';
comment on column audit.restore_drill.partition_name is 'Row of audit.partition';
comment on column audit.restore_drill.generation is 'Generation that was restored';
comment on column audit.restore_drill.rows is 'Rows restored';
comment on column audit.restore_drill.seconds is 'How long it took';
comment on column audit.restore_drill.mismatches is 'Rows or hashes that differ; 0 is a passed drill';
comment on column audit.restore_drill.detail is 'What differed, for people';

-- One function for the triggers of all sealed partitions; 55000 tells the writer "late".
create function audit.refuse_sealed() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp as $$
begin
  raise exception 'partition % is sealed', tg_table_name using errcode = '55000';
end $$;
comment on function audit.refuse_sealed() is
  'Trigger of sealed partitions: refuses every change, also by the owner';

-- Partitions made from now on get these from retention/lifecycle.py, with the reasons.
do $$
declare
  made record;
begin
  for made in
    select c.relname as name
    from pg_inherits as i
    inner join pg_class as c on i.inhrelid = c.oid
    where i.inhparent = 'audit.event'::regclass
    order by c.relname
  loop
    execute format(
      'alter table audit.%I set (autovacuum_vacuum_insert_scale_factor = 0,'
      ' autovacuum_vacuum_insert_threshold = 250000, autovacuum_freeze_min_age = 0,'
      ' vacuum_truncate = off, toast.autovacuum_freeze_min_age = 0, toast.vacuum_truncate = off)',
      made.name
    );
  end loop;
end $$;

revoke all on all tables in schema audit from public;
revoke all on all functions in schema audit from public;
grant select (generation) on audit.partition to audit_reader;

reset role;
