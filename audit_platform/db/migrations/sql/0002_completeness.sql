-- Completeness: what became of each number a producer gave; folding the ledger; the return path.

-- An administrator without superuser rights must be a member to act as the owner.
do $$ begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant audit_owner to %I', current_user);
  end if;
end $$;
set local role audit_owner;

alter table audit.ingest_batch add column n_unstamped int not null default 0;
comment on column audit.ingest_batch.n_unstamped is
  'Events read without a producer''s number, for which no gap can be seen';

alter table audit.ingest_range drop constraint ingest_range_kind;
-- prevents a kind that the fold would drop without a word
alter table audit.ingest_range add constraint ingest_range_kind
  check (kind in ('got', 'declared', 'end', 'late', 'dead'));
comment on column audit.ingest_range.kind is
  'got: arrived; late, dead: arrived and set aside; declared: dropped and said so; end: last number';
comment on column audit.ingest_range.reason is
  'Why declared numbers were dropped; clean or unclean for an end';

-- A run that sheds every other number makes a range of each: one row of them all would be written
-- again with every fold. So numbers go in parts, and the few ranges that producers ask for apart.
create table audit.producer_numbers (
  producer_id int not null,
  epoch bigint not null,
  kind text not null,
  reason text not null default '',
  part bigint not null,
  r int8multirange not null,
  primary key (producer_id, epoch, kind, reason, part),
  constraint producer_numbers_kind check (kind in ('got', 'late', 'dead', 'declared'))
);
comment on table audit.producer_numbers is
  'Folded ingest_range: numbers of each run of a producer by fate, in parts';
comment on column audit.producer_numbers.producer_id is 'Producer';
comment on column audit.producer_numbers.epoch is 'Run of the producer process';
comment on column audit.producer_numbers.kind is
  'got: arrived; late, dead: arrived and set aside; declared: dropped and said so';
comment on column audit.producer_numbers.reason is 'Why declared numbers were dropped, else empty';
comment on column audit.producer_numbers.part is
  'First number of a range, divided by 32,768; a range lies whole in the part it begins in';
comment on column audit.producer_numbers.r is 'The numbers';

insert into audit.producer_numbers (producer_id, epoch, kind, part, r)
select p.producer_id, p.epoch, k.kind, lower(x) / 32768, range_agg(x)
from audit.producer_progress as p
cross join lateral (values ('got', p.got), ('declared', p.declared)) as k (kind, r)
cross join lateral unnest(k.r) as x
group by p.producer_id, p.epoch, k.kind, lower(x) / 32768;

alter table audit.producer_progress rename to producer_epoch;
alter table audit.producer_epoch rename constraint producer_progress_pkey to producer_epoch_pkey;
alter table audit.producer_epoch
  add column known int8multirange not null default '{}',
  add column is_unclean boolean,
  add column older_seq bigint not null default 0,
  add column older_at timestamptz,
  add column newer_seq bigint not null default 0,
  add column newer_at timestamptz;
update audit.producer_epoch set known = got + declared;
alter table audit.producer_epoch drop column got, drop column declared;
comment on table audit.producer_epoch is
  'Folded ingest_range: one row per run of a producer, with what its process asks for';
comment on column audit.producer_epoch.known is
  'Numbers that arrived or were declared: few ranges, however the two alternate';
comment on column audit.producer_epoch.is_unclean is
  'Whether the last number was read after a crash and may be too low; null while the epoch is open';
comment on column audit.producer_epoch.older_seq is
  'Highest number known at older_at: a gap below it is older than that';
comment on column audit.producer_epoch.older_at is 'At least 15 minutes before newer_at';
comment on column audit.producer_epoch.newer_seq is 'Highest number known at newer_at';
comment on column audit.producer_epoch.newer_at is
  'Moment of the newest such note, taken every 15 minutes at most';

create table audit.producer_sampled (
  producer_id int not null,
  epoch bigint not null,
  source text not null,
  action text not null,
  kind text not null,
  n bigint not null,
  primary key (producer_id, epoch, source, action, kind),
  constraint producer_sampled_kind check (kind in ('sampled', 'dropped')),
  constraint producer_sampled_count check (n >= 0)
);
comment on table audit.producer_sampled is
  'Events that a policy left out before they got a number, as the producer counted them';
comment on column audit.producer_sampled.producer_id is 'Producer';
comment on column audit.producer_sampled.epoch is 'Epoch of the producer''s own reports';
comment on column audit.producer_sampled.source is 'Source of the events';
comment on column audit.producer_sampled.action is 'Action of the events';
comment on column audit.producer_sampled.kind is
  'sampled: others of them were kept; dropped: the policy keeps none';
comment on column audit.producer_sampled.n is 'How many since the process began; only grows';

create table audit.producer_name (
  producer_id int primary key,
  name text not null,
  seen_at timestamptz not null default now(),
  constraint producer_name_length check (length(name) between 1 and 200)
);
comment on table audit.producer_name is 'Names of producers, from their own reports; for people';
comment on column audit.producer_name.producer_id is 'Producer';
comment on column audit.producer_name.name is 'Name and slot, as the producer says';
comment on column audit.producer_name.seen_at is 'Last report';

-- The parts together. For the owner: people and checks.
create view audit.producer_progress as
select
  e.producer_id,
  e.epoch,
  coalesce(n.got, '{}') as got,
  coalesce(n.late, '{}') as late,
  coalesce(n.dead, '{}') as dead,
  coalesce(n.declared, '{}') as declared,
  e.end_seq,
  e.is_unclean,
  e.updated_at
from audit.producer_epoch as e
cross join lateral (
  select
    range_agg(p.r) filter (where p.kind = 'got') as got,
    range_agg(p.r) filter (where p.kind = 'late') as late,
    range_agg(p.r) filter (where p.kind = 'dead') as dead,
    range_agg(p.r) filter (where p.kind = 'declared') as declared
  from audit.producer_numbers as p
  where p.producer_id = e.producer_id and p.epoch = e.epoch
) as n;
comment on view audit.producer_progress is
  'Folded numbers of each run of a producer, their parts put together; owner only';
comment on column audit.producer_progress.producer_id is 'Producer';
comment on column audit.producer_progress.epoch is 'Run of the producer process';
comment on column audit.producer_progress.got is 'Numbers that arrived';
comment on column audit.producer_progress.late is 'Numbers that arrived and went to audit.event_late';
comment on column audit.producer_progress.dead is
  'Numbers that arrived and went to audit.dead_letter';
comment on column audit.producer_progress.declared is 'Numbers dropped and declared';
comment on column audit.producer_progress.end_seq is 'Last number of the epoch, once known';
comment on column audit.producer_progress.is_unclean is
  'Whether the last number may be too low, after a crash; null while the epoch is open';
comment on column audit.producer_progress.updated_at is 'Last fold';

-- Folded and not yet folded, as one relation. For the owner: people and checks.
create view audit.producer_ledger as
with parts as (
  select producer_id, epoch, kind, reason, r, null::timestamptz as folded_at
  from audit.ingest_range
  union all
  select p.producer_id, p.epoch, p.kind, p.reason, p.r, e.updated_at
  from audit.producer_numbers as p
  inner join audit.producer_epoch as e on p.producer_id = e.producer_id and p.epoch = e.epoch
  union all
  select
    producer_id,
    epoch,
    'end',
    case when is_unclean then 'unclean' else 'clean' end,
    int8multirange(int8range(end_seq, end_seq, '[]')),
    updated_at
  from audit.producer_epoch
  where end_seq is not null
),

merged as (
  select
    producer_id,
    epoch,
    max(upper(r)) - 1 as max_seq,
    bool_or(kind = 'end') as is_ended,
    bool_or(kind = 'end' and reason = 'unclean') as is_unclean,
    coalesce(range_agg(r) filter (where kind = 'got'), '{}') as got,
    coalesce(range_agg(r) filter (where kind = 'late'), '{}') as late,
    coalesce(range_agg(r) filter (where kind = 'dead'), '{}') as dead,
    coalesce(range_agg(r) filter (where kind = 'declared'), '{}') as declared,
    -- A row that is not folded yet is younger than a minute or two.
    case when bool_or(folded_at is null) then now() else max(folded_at) end as seen_at
  from parts
  group by producer_id, epoch
)

select
  m.producer_id,
  m.epoch,
  coalesce(m.max_seq, 0) as max_seq,
  m.is_ended,
  m.is_unclean,
  m.got,
  m.late * m.got as late,
  m.dead * m.got as dead,
  m.declared - m.got as declared,
  int8multirange(int8range(1, coalesce(m.max_seq, 0) + 1)) - (m.got + m.declared) as missing,
  m.seen_at,
  case
    when m.seen_at < now() - interval '15 minutes' then coalesce(m.max_seq, 0)
    when p.newer_at < now() - interval '15 minutes' then p.newer_seq
    else coalesce(p.older_seq, 0)
  end as settled_seq
from merged as m
left join audit.producer_epoch as p on m.producer_id = p.producer_id and m.epoch = p.epoch;
comment on view audit.producer_ledger is
  'What became of the numbers of each run of a producer; owner only';
comment on column audit.producer_ledger.producer_id is 'Producer';
comment on column audit.producer_ledger.epoch is 'Run of the producer process';
comment on column audit.producer_ledger.max_seq is 'Highest number known: arrived, declared or said at the end';
comment on column audit.producer_ledger.is_ended is 'Whether the producer said that this run has ended';
comment on column audit.producer_ledger.is_unclean is 'Whether the last number may be too low, after a crash';
comment on column audit.producer_ledger.got is 'Numbers that arrived';
comment on column audit.producer_ledger.late is 'Arrived numbers that went to audit.event_late';
comment on column audit.producer_ledger.dead is 'Arrived numbers that went to audit.dead_letter';
comment on column audit.producer_ledger.declared is 'Numbers that the producer dropped and declared, and that did not arrive';
comment on column audit.producer_ledger.missing is 'Numbers that neither arrived nor were declared';
comment on column audit.producer_ledger.seen_at is 'Last arrival, to a minute or two';
comment on column audit.producer_ledger.settled_seq is 'Up to here a missing number has been missing for 15 minutes at least';

-- The writer only adds. What it must not do itself it asks of these functions of the owner; they
-- name every schema, so that no object of a session can stand in for one of ours.

create function audit.fold_ranges() returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  folded bigint;
begin
  -- One at a time, over all shards: a second one has nothing to do.
  if not pg_try_advisory_xact_lock(4707724114509826) then
    return null;
  end if;
  with moved as (
    delete from audit.ingest_range
    returning producer_id, epoch, kind, reason, r
  ),
  parts as (
    insert into audit.producer_numbers as n (producer_id, epoch, kind, reason, part, r)
    select
      m.producer_id,
      m.epoch,
      m.kind,
      case when m.kind = 'declared' then coalesce(m.reason, 'unknown') else '' end as why,
      lower(x) / 32768 as part_no,
      range_agg(x)
    from moved as m
    cross join lateral unnest(m.r) as x
    where m.kind <> 'end'
    group by m.producer_id, m.epoch, m.kind, why, part_no
    on conflict (producer_id, epoch, kind, reason, part) do update set r = n.r + excluded.r
  ),
  progress as (
    insert into audit.producer_epoch as p (
      producer_id, epoch, known, end_seq, is_unclean, newer_seq, newer_at
    )
    select
      producer_id,
      epoch,
      coalesce(range_agg(r) filter (where kind in ('got', 'declared')), '{}'),
      max(upper(r) - 1) filter (where kind = 'end'),
      bool_or(coalesce(reason, 'clean') = 'unclean') filter (where kind = 'end'),
      max(upper(r)) - 1,
      now()
    from moved
    group by producer_id, epoch
    on conflict (producer_id, epoch) do update set
      known = p.known + excluded.known,
      end_seq = greatest(p.end_seq, excluded.end_seq),
      is_unclean = case
        when excluded.is_unclean is null then p.is_unclean
        else excluded.is_unclean or coalesce(p.is_unclean, false)
      end,
      older_seq = case when p.newer_at < now() - interval '15 minutes'
        then p.newer_seq else p.older_seq end,
      older_at = case when p.newer_at < now() - interval '15 minutes'
        then p.newer_at else p.older_at end,
      newer_seq = case when p.newer_at < now() - interval '15 minutes' or p.newer_at is null
        then greatest(upper(p.known) - 1, p.end_seq, excluded.newer_seq)
        else p.newer_seq end,
      newer_at = case when p.newer_at < now() - interval '15 minutes' or p.newer_at is null
        then now() else p.newer_at end,
      updated_at = now()
  )
  select count(*) into folded from moved;
  return folded;
end $$;
comment on function audit.fold_ranges() is
  'Moves audit.ingest_range into audit.producer_epoch and producer_numbers; null while another session does';

create function audit.read_watermarks(producer_ids int[], epochs bigint[], gap_limit int)
returns table (
  producer_id int, epoch bigint, watermark bigint, max_seq bigint,
  gap_firsts bigint[], gap_lasts bigint[]
)
language sql stable security definer
set search_path = pg_catalog, pg_temp as $$
  -- One statement, one snapshot: a fold that commits meanwhile moves rows, it hides none.
  with asked as (
    select distinct a.producer_id, a.epoch
    from unnest(producer_ids, epochs) as a (producer_id, epoch)
  ),
  parts as (
    select r.producer_id, r.epoch, r.kind = 'end' as is_end, r.r
    from asked as a
    inner join audit.ingest_range as r on a.producer_id = r.producer_id and a.epoch = r.epoch
    where r.kind in ('got', 'declared', 'end')
    union all
    select p.producer_id, p.epoch, k.is_end, k.r
    from asked as a
    inner join audit.producer_epoch as p on a.producer_id = p.producer_id and a.epoch = p.epoch
    cross join lateral (values
      (false, p.known),
      (true, case
        when p.end_seq is not null then int8multirange(int8range(p.end_seq, p.end_seq, '[]'))
      end)
    ) as k (is_end, r)
    where k.r is not null
  ),
  merged as (
    select
      a.producer_id,
      a.epoch,
      coalesce(max(upper(p.r)) - 1, 0) as max_seq,
      coalesce(range_agg(p.r) filter (where not p.is_end), '{}') as known
    from asked as a
    left join parts as p on a.producer_id = p.producer_id and a.epoch = p.epoch
    group by a.producer_id, a.epoch
  )
  select
    m.producer_id,
    m.epoch,
    coalesce((select upper(k) - 1 from unnest(m.known) as k where lower(k) = 1), 0),
    m.max_seq,
    g.firsts,
    g.lasts
  from merged as m
  cross join lateral (
    select
      coalesce(array_agg(lower(x.gap) order by lower(x.gap)), '{}') as firsts,
      coalesce(array_agg(upper(x.gap) - 1 order by lower(x.gap)), '{}') as lasts
    from (
      select gap
      from unnest(int8multirange(int8range(1, m.max_seq + 1)) - m.known) as gap
      limit gap_limit
    ) as x
  ) as g
$$;
comment on function audit.read_watermarks(int[], bigint[], int) is
  'For each asked run of a producer: up to where all is accounted for, highest number, first gaps';

create function audit.list_recent_epochs(longest interval, most int)
returns table (producer_id int, epoch bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp as $$
  select u.producer_id, u.epoch
  from (
    select r.producer_id, r.epoch, now() as seen_at
    from audit.ingest_range as r
    union all
    select p.producer_id, p.epoch, p.updated_at
    from audit.producer_epoch as p
    -- Counted from the newest row, not from now: after a recovery to an earlier point in time
    -- exactly the last producers of that time must learn what is missing.
    where p.updated_at >= (select max(n.updated_at) from audit.producer_epoch as n) - longest
  ) as u
  group by u.producer_id, u.epoch
  order by max(u.seen_at) desc
  limit most
$$;
comment on function audit.list_recent_epochs(interval, int) is
  'Runs of producers that were heard of last, newest first';

create function audit.note_sampled(
  producer_ids int[], epochs bigint[], sources text[], actions text[], kinds text[], counts bigint[]
) returns void
language sql security definer
set search_path = pg_catalog, pg_temp as $$
  insert into audit.producer_sampled as s (producer_id, epoch, source, action, kind, n)
  select c.producer_id, c.epoch, c.source, c.action, c.kind, max(c.n)
  from unnest(producer_ids, epochs, sources, actions, kinds, counts)
    as c (producer_id, epoch, source, action, kind, n)
  group by c.producer_id, c.epoch, c.source, c.action, c.kind
  -- One order of locks for all sessions.
  order by c.producer_id, c.epoch, c.source, c.action, c.kind
  on conflict (producer_id, epoch, source, action, kind) do update
    set n = greatest(s.n, excluded.n)
$$;
comment on function audit.note_sampled(int[], bigint[], text[], text[], text[], bigint[]) is
  'Keeps the highest count that a producer reported; a repeat changes nothing';

create function audit.note_producer_names(producer_ids int[], names text[]) returns void
language sql security definer
set search_path = pg_catalog, pg_temp as $$
  insert into audit.producer_name as p (producer_id, name)
  select n.producer_id, max(n.name)
  from unnest(producer_ids, names) as n (producer_id, name)
  group by n.producer_id
  order by n.producer_id
  on conflict (producer_id) do update set name = excluded.name, seen_at = now()
$$;
comment on function audit.note_producer_names(int[], text[]) is
  'Keeps the last name of a producer, for people';

revoke all on all tables in schema audit from public;
revoke all on all functions in schema audit from public;
grant execute on function audit.fold_ranges() to audit_writer;
grant execute on function audit.read_watermarks(int[], bigint[], int) to audit_writer;
grant execute on function audit.list_recent_epochs(interval, int) to audit_writer;
grant execute on function
audit.note_sampled(int[], bigint[], text[], text[], text[], bigint[]) to audit_writer;
grant execute on function audit.note_producer_names(int[], text[]) to audit_writer;

-- serves "the producers of the last hour" when a drain run begins
create index producer_epoch_updated on audit.producer_epoch (updated_at);

reset role;
