-- Life cycle of partitions: what is recorded, and one guarded change per step.
-- Each change names the state before: a repeat, or a second copy of the job, changes nothing.

-- name: try_partition_lock
-- description: One process at a time works on a partition; the lock ends with the session
select pg_try_advisory_lock(hashtextextended(%(name)s, %(key)s)) as is_ours;

-- name: release_partition_lock
-- description: Give back the lock of try_partition_lock
select pg_advisory_unlock(hashtextextended(%(name)s, %(key)s));

-- name: read_partition_rows
-- description: Everything recorded of one partition, or of all of them in order of time
select
  name, lo, hi, generation, state, n, min_id, max_id, leaf_digest, root, seal_no, files,
  manifest_sha256, verified_by, classes, opened_at, sealed_at, seal_checked_at, indexed_at,
  exported_at, verified_at, detached_at, dropped_at, last_error, restored_at, restored_as
from audit.partition
where %(name)s::text is null or name = %(name)s::text
order by lo;

-- name: read_partition_groups
-- description: What a sealed generation holds of each tenant and retention class, in byte order
select
  tenant_id,
  retention_class,
  n,
  root
from audit.partition_group
where partition_name = %(name)s and generation = %(generation)s
order by tenant_id collate "C", retention_class collate "C";

-- name: mark_sealed
-- description: Step 1, first half: from here on late producers are told so
update audit.partition
set state = 'sealed', sealed_at = %(now)s, last_error = null
where name = %(name)s and state = 'open' and hi <= %(ended_before)s;

-- name: find_seal_triggers
-- description: Names of the triggers of a sealed table that are in force
select t.tgname as name
from pg_trigger as t
where
  t.tgrelid = to_regclass('audit.' || quote_ident(%(name)s))
  and t.tgname in ('sealed_row', 'sealed_all')
  and t.tgenabled <> 'D';

-- name: list_table_indexes
-- description: Names of the indexes of a table
select c.relname as name
from pg_index as i
inner join pg_class as c on i.indexrelid = c.oid
where i.indrelid = to_regclass('audit.' || quote_ident(%(name)s)) and i.indisvalid;

-- name: read_current_role
-- description: Name whose rights this session has now
select current_user;

-- name: find_vacuum_right
-- description: Tell whether a role vacuums a table as its owner does; others only get a warning
select pg_has_role(%(role_name)s, c.relowner, 'usage') as is_granted
from pg_class as c
where c.oid = to_regclass('audit.' || quote_ident(%(name)s));

-- name: mark_root
-- description: Step 1, second half: what the sealed rows came to
update audit.partition
set
  n = %(n)s,
  min_id = %(min_id)s,
  max_id = %(max_id)s,
  leaf_digest = %(leaf_digest)s,
  root = %(root)s,
  classes = %(classes)s::jsonb,
  seal_checked_at = %(now)s,
  last_error = null
where
  name = %(name)s
  and state = 'sealed'
  and generation = %(generation)s
  and root is null;

-- name: insert_partition_groups
-- description: Keep the group roots beside the root that is made of them
insert into audit.partition_group
(partition_name, generation, tenant_id, retention_class, n, root)
select
  %(name)s,
  %(generation)s,
  g.tenant_id,
  g.retention_class,
  g.n,
  g.root
from unnest(
  %(tenant_ids)s::text[],
  %(retention_classes)s::text[],
  %(counts)s::bigint[],
  %(roots)s::bytea[]
) as g (tenant_id, retention_class, n, root);

-- name: mark_indexed
-- description: Step 2: the cold indexes are there
update audit.partition
set indexed_at = %(now)s, last_error = null
where
  name = %(name)s
  and state = 'sealed'
  and generation = %(generation)s
  and indexed_at is null;

-- name: mark_exported
-- description: Step 3: the archive is written
update audit.partition
set
  state = 'exported',
  exported_at = %(now)s,
  files = %(files)s::jsonb,
  manifest_sha256 = %(manifest_sha256)s,
  last_error = null
where
  name = %(name)s
  and state = 'sealed'
  and generation = %(generation)s
  and root is not null;

-- name: mark_verified
-- description: Step 4: another process read the archive and found what was sealed
update audit.partition
set
  state = 'verified',
  verified_at = %(now)s,
  verified_by = %(verified_by)s,
  last_error = null
where
  name = %(name)s
  and state = 'exported'
  and generation = %(generation)s
  and manifest_sha256 = %(manifest_sha256)s;

-- name: mark_detach_started
-- description: Step 5, first half: readers go to the archive from here on; a hold may forbid it
update audit.partition as p
set state = 'detach_started', last_error = null
where
  p.name = %(name)s
  and p.state = 'verified'
  and not exists (
    select 1
    from audit.legal_hold as h
    where
      h.released_at is null
      and h.keep_hot
      and tstzrange(h.lo, h.hi) && tstzrange(p.lo, p.hi)
  );

-- name: mark_detached
-- description: Step 5, second half: the catalog no longer knows it as a partition
update audit.partition as p
set
  state = 'detached',
  detached_at = %(now)s,
  last_error = null,
  -- A day that was attached again has left again; a table beside the archive is still there.
  restored_as = nullif(p.restored_as, p.name),
  restored_at = case when p.restored_as <> p.name then p.restored_at end
where
  p.name = %(name)s
  and p.state = 'detach_started'
  and not exists (
    select 1
    from pg_inherits as i
    where i.inhrelid = to_regclass('audit.' || quote_ident(p.name))
  );

-- name: mark_dropped
-- description: Step 7: the table that is dropped in this transaction is the one that was sealed
update audit.partition as p
set state = 'dropped', dropped_at = %(now)s, last_error = null
where
  p.name = %(name)s
  and p.state = 'detached'
  and p.generation = %(generation)s
  and p.n = %(n)s
  and p.leaf_digest = %(leaf_digest)s
  and p.detached_at <= %(detached_before)s
  and not exists (
    select 1
    from pg_inherits as i
    where i.inhrelid = to_regclass('audit.' || quote_ident(p.name))
  )
  and not exists (
    select 1
    from audit.legal_hold as h
    where h.released_at is null and tstzrange(h.lo, h.hi) && tstzrange(p.lo, p.hi)
  );

-- name: replace_partition_files
-- description: Exchange the file entries of a partition, unless somebody else did meanwhile
update audit.partition
set files = %(files)s::jsonb
where
  name = %(name)s
  and generation = %(generation)s
  and files = %(files_before)s::jsonb;

-- name: note_partition_error
-- description: Say why the next step failed; the next step that succeeds clears it
update audit.partition
set last_error = %(error)s
where name = %(name)s;

-- name: note_partition_restored
-- description: Note the table beside the archive that holds an archived day, or that it is gone
update audit.partition
set restored_as = %(restored_as)s, restored_at = %(now)s
where name = %(name)s and restored_as is not distinct from %(restored_before)s::text;

-- name: lock_partition_row
-- description: Hold the record of a partition until the transaction ends, if it is as expected
select name
from audit.partition
where name = %(name)s and state = %(state)s and generation = %(generation)s
for update;

-- name: keep_partition_generation
-- description: Keep what a sealed generation held before its partition is opened again
insert into audit.partition_generation
(
  partition_name, generation, state, n, min_id, max_id, leaf_digest, root, seal_no, files,
  manifest_sha256, sealed_at, reopened_at
)
select
  name,
  generation,
  state,
  n,
  min_id,
  max_id,
  leaf_digest,
  root,
  seal_no,
  files,
  manifest_sha256,
  sealed_at,
  %(now)s
from audit.partition
where name = %(name)s and root is not null;

-- name: mark_reopened
-- description: Open a sealed partition again as its next generation, with nothing proved of it yet
update audit.partition
set
  state = 'open',
  generation = generation + 1,
  n = null,
  min_id = null,
  max_id = null,
  leaf_digest = null,
  root = null,
  seal_no = null,
  files = '[]',
  manifest_sha256 = null,
  verified_by = null,
  classes = '[]',
  sealed_at = null,
  seal_checked_at = null,
  indexed_at = null,
  exported_at = null,
  verified_at = null,
  detached_at = null,
  dropped_at = null,
  last_error = null
where name = %(name)s;

-- name: list_partition_generations
-- description: Former generations of one partition, or of all, whose files are not deleted yet
select
  partition_name,
  generation,
  state,
  n,
  min_id,
  max_id,
  leaf_digest,
  root,
  files,
  manifest_sha256,
  sealed_at,
  reopened_at,
  proved_at
from audit.partition_generation
where
  files_deleted_at is null
  and (%(name)s::text is null or partition_name = %(name)s::text)
order by partition_name, generation;

-- name: mark_generation_proved
-- description: Every leaf of a former generation was found in the one that followed
update audit.partition_generation
set proved_at = %(now)s
where partition_name = %(name)s and generation = %(generation)s and proved_at is null;

-- name: mark_generation_files_deleted
-- description: The files of a former generation are gone
update audit.partition_generation
set files_deleted_at = %(now)s
where
  partition_name = %(name)s
  and generation = %(generation)s
  and proved_at is not null
  and files_deleted_at is null;
