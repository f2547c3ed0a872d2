-- Events: roles, the partitioned table, ledger, dead letters, late rows, partitions, lease, imports, views.
-- Runs as an administrator that may create roles; passwords are set by db/migrate.py, never here.

-- Roles belong to the server, not to one database: another database may have made them already.
do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values ('audit_owner', 'nologin'), ('audit_writer', 'login'), ('audit_reader', 'login'),
                          ('audit_maint', 'login'), ('audit_app', 'login')) as r (role_name, login)
  loop
    begin
      execute format('create role %I %s', wanted.role_name, wanted.login);
    exception when duplicate_object or unique_violation then
      null;  -- made for another database, or by a migration that runs beside this one
    end;
  end loop;
  begin
    grant audit_owner to audit_maint;
  exception when unique_violation then
    null;
  end;
end $$;
-- An administrator without superuser rights must be a member to hand objects over.
do $$ begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant audit_owner to %I', current_user);
  end if;
end $$;

create schema audit authorization audit_owner;
comment on schema audit is 'Audit log: events, their ledger, partitions and imports';
set local role audit_owner;

create type audit.event_status as enum ('success', 'failure', 'denied', 'skipped', 'pending');
comment on type audit.event_status is 'Outcome of the action';
create type audit.actor_type as enum
  ('user', 'admin', 'service', 'api_key', 'system', 'anonymous', 'bulk_action');
comment on type audit.actor_type is 'Kind of actor behind user_id';

-- Fixed-width columns first: no alignment padding between them.
create table audit.event (
  id uuid not null,
  "timestamp" timestamptz not null,
  received_at timestamptz not null,
  ingested_at timestamptz not null default now(),
  batch_id uuid not null,
  bulk_action_id uuid,
  producer_epoch bigint,
  producer_seq bigint,
  bulk_item_no bigint,
  producer_id int,
  status audit.event_status not null default 'success',
  actor_type audit.actor_type not null,
  sampled_rate real not null default 1,
  severity smallint,
  schema_version smallint not null default 1,
  leaf_hash bytea not null,
  tenant_id text not null default 'default',
  source text not null,
  action text not null,
  entity_type text,
  entity_id text,
  entity_label text,
  user_id text,
  user_label text,
  impersonator_id text,
  correlation_id text,
  trace_id text,
  description text,
  changes json,
  metadata json not null default '{}',
  context json not null default '{}',
  -- prevents a second copy of an event; serves "last N of a tenant"
  constraint event_pkey primary key (tenant_id, "timestamp", id),
  -- prevents text that no reader expects; the ingest job checks the same limits first
  constraint event_lengths check (
    octet_length(leaf_hash) = 32
    and length(tenant_id) between 1 and 100
    and length(source) between 1 and 64
    and length(action) between 1 and 100
    and length(entity_type) <= 50
    and length(entity_id) <= 100
    and length(entity_label) <= 200
    and length(user_id) <= 100
    and length(user_label) <= 200
    and length(impersonator_id) <= 100
    and length(correlation_id) <= 100
    and length(trace_id) <= 32
    and length(description) <= 2000
  )
) partition by range ("timestamp");
-- serves the history of one entity
create index event_entity on audit.event (tenant_id, entity_type, entity_id, "timestamp" desc);
-- serves the activity of one user
create index event_user on audit.event (tenant_id, user_id, "timestamp" desc);
-- serves the last events of one action
create index event_action on audit.event (tenant_id, action, "timestamp" desc);
-- serves failures of a day; small, since few events fail
create index event_failure on audit.event (tenant_id, "timestamp" desc) where status <> 'success';

comment on table audit.event is
  'One row per event: who did what to which record, when, for which tenant, with which outcome';
comment on column audit.event.id is
  'UUIDv7 minted once by the producer; its 48-bit time equals timestamp in milliseconds';
comment on column audit.event."timestamp" is 'When it happened, UTC, microseconds; partition key';
comment on column audit.event.received_at is 'When the queue accepted it';
comment on column audit.event.ingested_at is 'When the storing transaction ran';
comment on column audit.event.batch_id is 'Row of audit.ingest_batch of the transaction that stored it';
comment on column audit.event.bulk_action_id is 'Bulk action that wrote it, if any';
comment on column audit.event.producer_epoch is 'Run of the producer process; with producer_id and producer_seq it proves completeness';
comment on column audit.event.producer_seq is 'Number of the event within the epoch, from 1 without gaps';
comment on column audit.event.bulk_item_no is 'Item of the bulk action';
comment on column audit.event.producer_id is 'Producer: 31 bits of the SHA-256 of its name';
comment on column audit.event.status is 'success, failure, denied, skipped or pending';
comment on column audit.event.actor_type is 'user, admin, service, api_key, system, anonymous or bulk_action';
comment on column audit.event.sampled_rate is 'One row stands for this many events; roll-ups weight by it';
comment on column audit.event.severity is '0 debug, 1 info, 2 notice, 3 warning, 4 error, 5 critical';
comment on column audit.event.schema_version is 'Version of the event contract';
comment on column audit.event.leaf_hash is
  'SHA-256 over the canonical form of the event; see audit_platform/integrity/leaf.py';
comment on column audit.event.tenant_id is 'Account, site or organisation';
comment on column audit.event.source is 'Part of the application: user, admin, system, api, …';
comment on column audit.event.action is 'What was done: user.suspend';
comment on column audit.event.entity_type is 'Kind of record acted on';
comment on column audit.event.entity_id is 'Key of the record acted on';
comment on column audit.event.entity_label is 'Name of the record at the time; survives its deletion';
comment on column audit.event.user_id is 'Who acted';
comment on column audit.event.user_label is 'Name or e-mail of the actor at the time; personal data';
comment on column audit.event.impersonator_id is 'Who really acted, when acting as user_id';
comment on column audit.event.correlation_id is 'Groups the events of one business operation';
comment on column audit.event.trace_id is 'W3C trace id, 32 hexadecimal digits';
comment on column audit.event.description is 'One sentence for people';
comment on column audit.event.changes is 'Changed fields: {field: {"old": …, "new": …}}';
comment on column audit.event.metadata is 'Whatever the producer adds, byte by byte as sent';
comment on column audit.event.context is 'Where it happened: ip, user_agent, request_id, host, error_code, …';

-- The shape alone: lets the writer make its staging table without a right to read audit.event.
create table audit.event_shape (like audit.event including defaults);
comment on table audit.event_shape is 'Always empty: the columns of audit.event for staging tables';

create table audit.event_late (
  like audit.event including defaults,
  late_reason text not null,
  late_at timestamptz not null default now(),
  -- prevents a second copy of a late event
  constraint event_late_pkey primary key (tenant_id, "timestamp", id)
);
comment on table audit.event_late is
  'Events whose partition was missing or sealed; part of every search, merged later';
comment on column audit.event_late.late_reason is 'no_partition or sealed';
comment on column audit.event_late.late_at is 'When it was set aside';

create table audit.ingest_batch (
  batch_id uuid primary key,
  shard int not null,
  run_id text,
  n_read int not null,
  n_new int not null,
  n_dup int not null,
  n_late int not null,
  n_bad int not null,
  first_entry text,
  last_entry text,
  root bytea,
  committed_at timestamptz not null default clock_timestamp(),
  -- prevents a batch that loses an event without a trace
  constraint ingest_batch_conservation check (n_read = n_new + n_dup + n_late + n_bad)
);
-- serves "the last batches" of status and checks
create index ingest_batch_committed on audit.ingest_batch (committed_at desc);
comment on table audit.ingest_batch is 'Ledger: one row per storing transaction';
comment on column audit.ingest_batch.batch_id is 'UUIDv7 of the batch';
comment on column audit.ingest_batch.shard is 'Stream that it came from';
comment on column audit.ingest_batch.run_id is 'Dagster run that stored it';
comment on column audit.ingest_batch.n_read is 'Events read from the stream';
comment on column audit.ingest_batch.n_new is 'Rows added to audit.event';
comment on column audit.ingest_batch.n_dup is 'Events that were stored already';
comment on column audit.ingest_batch.n_late is 'Rows added to audit.event_late';
comment on column audit.ingest_batch.n_bad is 'Events set aside in audit.dead_letter';
comment on column audit.ingest_batch.first_entry is 'First Redis entry id; for diagnosis, not identity';
comment on column audit.ingest_batch.last_entry is 'Last Redis entry id';
comment on column audit.ingest_batch.root is 'Merkle root over the distinct leaves of the batch';
comment on column audit.ingest_batch.committed_at is 'Shortly before the commit';

create table audit.ingest_range (
  batch_id uuid not null,
  producer_id int not null,
  epoch bigint not null,
  kind text not null,
  reason text,
  r int8multirange not null,
  constraint ingest_range_kind check (kind in ('got', 'declared', 'end'))
);
-- serves the watermark of one producer
create index ingest_range_producer on audit.ingest_range (producer_id, epoch);
comment on table audit.ingest_range is 'Producer sequence numbers that arrived; insert-only, folded into producer_progress';
comment on column audit.ingest_range.batch_id is 'Row of audit.ingest_batch';
comment on column audit.ingest_range.producer_id is 'Producer';
comment on column audit.ingest_range.epoch is 'Run of the producer process';
comment on column audit.ingest_range.kind is 'got: arrived; declared: dropped and said so; end: last number of the epoch';
comment on column audit.ingest_range.reason is 'Why declared numbers were dropped';
comment on column audit.ingest_range.r is 'The numbers';

create table audit.producer_progress (
  producer_id int not null,
  epoch bigint not null,
  got int8multirange not null,
  declared int8multirange not null,
  end_seq bigint,
  updated_at timestamptz not null default now(),
  primary key (producer_id, epoch)
);
comment on table audit.producer_progress is 'Folded ingest_range: one row per run of a producer';
comment on column audit.producer_progress.producer_id is 'Producer';
comment on column audit.producer_progress.epoch is 'Run of the producer process';
comment on column audit.producer_progress.got is 'Numbers that arrived';
comment on column audit.producer_progress.declared is 'Numbers dropped and declared';
comment on column audit.producer_progress.end_seq is 'Last number of the epoch, once known';
comment on column audit.producer_progress.updated_at is 'Last fold';

create table audit.dead_letter (
  dead_id bigint generated always as identity primary key,
  raw_digest bytea not null,
  reason text not null,
  detail text,
  shard int,
  entry_id text,
  line_no int,
  raw bytea not null,
  key_id text not null,
  first_seen timestamptz not null default now(),
  resolved_at timestamptz,
  resolution text,
  -- prevents a second row when an entry is delivered again
  constraint dead_letter_once unique (raw_digest, reason)
);
comment on table audit.dead_letter is 'Events that could not be stored, with their bytes; kept until somebody decides';
comment on column audit.dead_letter.dead_id is 'Number for commands';
comment on column audit.dead_letter.raw_digest is 'HMAC-SHA-256 of the raw bytes, so that a copy is recognised without reading it';
comment on column audit.dead_letter.reason is 'Code of the reason';
comment on column audit.dead_letter.detail is 'Field and remedy; no payload';
comment on column audit.dead_letter.shard is 'Stream that it came from';
comment on column audit.dead_letter.entry_id is 'Redis entry id at first sight';
comment on column audit.dead_letter.line_no is 'Line within the entry, from 1';
comment on column audit.dead_letter.raw is 'The bytes, AES-256-GCM: 12 bytes nonce, then ciphertext and tag';
comment on column audit.dead_letter.key_id is 'Which key encrypted it';
comment on column audit.dead_letter.first_seen is 'When it was set aside';
comment on column audit.dead_letter.resolved_at is 'When it was re-driven or discarded';
comment on column audit.dead_letter.resolution is 'redriven or discarded';

create table audit.partition (
  name text primary key,
  lo timestamptz not null,
  hi timestamptz not null,
  generation int not null default 1,
  state text not null default 'open',
  n bigint,
  min_id uuid,
  max_id uuid,
  leaf_digest bytea,
  root bytea,
  seal_no bigint,
  files jsonb not null default '[]',
  manifest_sha256 bytea,
  verified_by text,
  opened_at timestamptz not null default now(),
  sealed_at timestamptz,
  exported_at timestamptz,
  verified_at timestamptz,
  detached_at timestamptz,
  dropped_at timestamptz,
  constraint partition_bounds check (lo < hi),
  constraint partition_state check (state in
    ('open', 'sealed', 'exported', 'verified', 'detach_started', 'detached', 'dropped')),
  -- prevents two partitions for one moment
  constraint partition_disjoint exclude using gist (tstzrange(lo, hi) with &&),
  -- prevents a skipped step of the life cycle
  constraint partition_exported check (state in ('open', 'sealed')
    or (n is not null and root is not null and leaf_digest is not null
        and manifest_sha256 is not null)),
  constraint partition_verified check (state in ('open', 'sealed', 'exported')
    or (verified_at is not null and verified_by is not null)),
  constraint partition_detached check (state not in ('detached', 'dropped')
    or detached_at is not null),
  constraint partition_dropped check (state <> 'dropped'
    or (dropped_at is not null and dropped_at >= detached_at + interval '7 days'))
);
comment on table audit.partition is 'Life cycle of each partition of audit.event; the authority, not the catalog';
comment on column audit.partition.name is 'Table in schema audit';
comment on column audit.partition.lo is 'First moment, inclusive';
comment on column audit.partition.hi is 'Last moment, exclusive';
comment on column audit.partition.generation is 'Grows when a sealed partition is opened again';
comment on column audit.partition.state is 'open, sealed, exported, verified, detach_started, detached or dropped';
comment on column audit.partition.n is 'Rows at seal';
comment on column audit.partition.min_id is 'Smallest id at seal';
comment on column audit.partition.max_id is 'Largest id at seal';
comment on column audit.partition.leaf_digest is 'SHA-256 over the ordered leaves';
comment on column audit.partition.root is 'Merkle root';
comment on column audit.partition.seal_no is 'Signed seal';
comment on column audit.partition.files is 'Archive files';
comment on column audit.partition.manifest_sha256 is 'SHA-256 of the manifest';
comment on column audit.partition.verified_by is 'Process that re-read the archive';
comment on column audit.partition.opened_at is 'When it was created';
comment on column audit.partition.sealed_at is 'When writes ended';
comment on column audit.partition.exported_at is 'When the archive was written';
comment on column audit.partition.verified_at is 'When the archive was re-read';
comment on column audit.partition.detached_at is 'When reads moved to the archive';
comment on column audit.partition.dropped_at is 'When the table was dropped';

create table audit.drain_lease (
  shard int primary key,
  fence bigint not null default 0,
  run_id text,
  expires_at timestamptz not null default '-infinity',
  stop boolean not null default false,
  updated_at timestamptz not null default now()
);
comment on table audit.drain_lease is 'At most one drain run per shard; each batch checks its fence here';
comment on column audit.drain_lease.shard is 'Stream';
comment on column audit.drain_lease.fence is 'Grows with every taking-over; an older run cannot commit';
comment on column audit.drain_lease.run_id is 'Run that holds it';
comment on column audit.drain_lease.expires_at is 'Free after this moment';
comment on column audit.drain_lease.stop is 'Asks the run to end after its batch';
comment on column audit.drain_lease.updated_at is 'Last change';

create table audit.import_file (
  file_sha256 bytea not null,
  mapping text not null,
  path text not null,
  bytes bigint not null,
  epoch bigint not null,
  records bigint,
  sent bigint not null default 0,
  rejected bigint not null default 0,
  state text not null default 'running',
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  primary key (file_sha256, mapping),
  constraint import_file_state check (state in ('running', 'complete'))
);
comment on table audit.import_file is 'Files read by audit-platform import, so that a repeat adds nothing';
comment on column audit.import_file.file_sha256 is 'SHA-256 of the file as it lies on disk';
comment on column audit.import_file.mapping is 'Mapping and its version';
comment on column audit.import_file.path is 'Where it lay; for people';
comment on column audit.import_file.bytes is 'Size of the file';
comment on column audit.import_file.epoch is 'Producer epoch of this import';
comment on column audit.import_file.records is 'Records in the file, once known';
comment on column audit.import_file.sent is 'Records read and sent or rejected; a resumed import starts after them';
comment on column audit.import_file.rejected is 'Records refused';
comment on column audit.import_file.state is 'running or complete';
comment on column audit.import_file.started_at is 'First attempt';
comment on column audit.import_file.finished_at is 'When all was stored';

create function audit.uuid7_ms(u uuid) returns bigint
language sql immutable strict parallel safe as $$
  select ('x' || substr(replace(u::text, '-', ''), 1, 12))::bit(48)::bigint $$;
comment on function audit.uuid7_ms(uuid) is 'Milliseconds since 1970 in a UUIDv7';

-- Hot and late rows as one relation, json as stored. For the owner: operators and maintenance.
create view audit.event_all as
select
  id, "timestamp", tenant_id, source, action, status, entity_type, entity_id, entity_label,
  actor_type, user_id, user_label, impersonator_id, description, changes, metadata, context,
  correlation_id, trace_id, bulk_action_id, bulk_item_no, severity, sampled_rate, schema_version,
  producer_id, producer_epoch, producer_seq, batch_id, received_at, ingested_at, leaf_hash
from audit.event
union all
select
  id, "timestamp", tenant_id, source, action, status, entity_type, entity_id, entity_label,
  actor_type, user_id, user_label, impersonator_id, description, changes, metadata, context,
  correlation_id, trace_id, bulk_action_id, bulk_item_no, severity, sampled_rate, schema_version,
  producer_id, producer_epoch, producer_seq, batch_id, received_at, ingested_at, leaf_hash
from audit.event_late;
comment on view audit.event_all is 'Every event of every tenant, json as stored; owner only';

-- Readers see one tenant: the one in app.tenant of their transaction, none without it.
-- No security_barrier and no row-level security: both sort all rows of a tenant for "the last 50",
-- measured in docs/decisions/0001-reader-views.md.
create view audit.event_read as
select * from audit.event_all -- noqa: AM04
where tenant_id = nullif(current_setting('app.tenant', true), '');
comment on view audit.event_read is 'Events of the tenant in app.tenant, json as stored; for programs';

create view audit.events as
select
  id, "timestamp", tenant_id, source, action, status, entity_type, entity_id, entity_label,
  actor_type, user_id, user_label, impersonator_id, description,
  changes::jsonb as changes, metadata::jsonb as metadata, context::jsonb as context,
  correlation_id, trace_id, bulk_action_id, bulk_item_no, severity, sampled_rate, schema_version,
  producer_id, producer_epoch, producer_seq, batch_id, received_at, ingested_at, leaf_hash
from audit.event_all
where tenant_id = nullif(current_setting('app.tenant', true), '');
comment on view audit.events is 'Events of the tenant in app.tenant, JSON as jsonb; for people who write SQL';

revoke all on all tables in schema audit from public;
revoke all on all functions in schema audit from public;
grant usage on schema audit to audit_writer, audit_reader, audit_app;
grant insert
  on audit.event, audit.event_late, audit.dead_letter, audit.ingest_batch, audit.ingest_range
  to audit_writer;
grant select (tenant_id, "timestamp", id, leaf_hash) on audit.event, audit.event_late
  to audit_writer;
grant select on audit.event_shape, audit.partition to audit_writer;
grant select, insert, update on audit.drain_lease to audit_writer;
grant select on audit.event_read, audit.events to audit_reader;
grant select (name, lo, hi, state, files) on audit.partition to audit_reader;
grant execute on function audit.uuid7_ms(uuid) to audit_writer, audit_reader;

reset role;
do $$ begin
  execute format('revoke temporary on database %I from public', current_database());
  execute format('grant temporary on database %I to audit_writer', current_database());
  execute format('grant connect on database %I to audit_writer, audit_reader, audit_maint, audit_app', current_database());
end $$;
