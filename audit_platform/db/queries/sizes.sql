-- Sizes and use of tables and indexes in schema audit, from the catalog and the statistics of the
-- server: they look, they change nothing, and they need no extension.

-- name: set_patience
-- description: bound the wait for a lock, for the rest of the session
select set_config('lock_timeout', %(patience_ms)s::text, false);

-- name: list_table_sizes
-- description: Size, rows, writes, reads, last vacuum and analyze of each table, and the widths that bloat is estimated from
with widths as (
  select
    a.attrelid,
    count(*) as n_columns,
    count(w.avg_width) as n_known,
    sum((1 - w.null_frac) * w.avg_width) as data_width,
    bool_or(w.null_frac > 0) as has_nulls
  from pg_attribute as a
  inner join pg_class as c on a.attrelid = c.oid
  left join pg_stats as w
    on
      w.schemaname = 'audit'
      and c.relname = w.tablename
      and a.attname = w.attname
      and not w.inherited
  where
    c.relnamespace = 'audit'::regnamespace
    and c.relkind = 'r'
    and a.attnum > 0
    and not a.attisdropped
  group by a.attrelid
)

select
  c.relname as name,
  p.lo,
  p.hi,
  p.state,
  exists(
    select
    from pg_inherits as i
    where i.inhrelid = c.oid and i.inhparent = 'audit.event'::regclass
  ) as is_attached,
  pg_relation_size(c.oid) as heap_bytes,
  coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) as toast_bytes,
  pg_indexes_size(c.oid) as index_bytes,
  pg_total_relation_size(c.oid) as total_bytes,
  c.reltuples::float8 as counted_rows,
  c.relpages as counted_pages,
  age(c.relfrozenxid) as frozen_age,
  s.n_live_tup as live_rows,
  s.n_dead_tup as dead_rows,
  s.n_tup_ins as inserted,
  s.n_tup_upd as updated,
  s.n_tup_del as deleted,
  s.seq_scan as table_scans,
  coalesce(s.idx_scan, 0) as index_scans,
  greatest(s.last_vacuum, s.last_autovacuum) as vacuumed_at,
  greatest(s.last_analyze, s.last_autoanalyze) as analyzed_at,
  w.n_columns,
  w.n_known,
  w.data_width::float8 as data_width,
  coalesce(w.has_nulls, false) as has_nulls
from pg_class as c
inner join widths as w on c.oid = w.attrelid
left join pg_stat_user_tables as s on c.oid = s.relid
left join audit.partition as p on c.relname in (p.name, p.restored_as)
where
  c.relnamespace = 'audit'::regnamespace
  and c.relkind = 'r'
-- a table that is dropped meanwhile has no size any more
order by pg_total_relation_size(c.oid) desc nulls last, c.relname asc;

-- name: list_index_sizes
-- description: Size and use of each index, the index of the parent it belongs to, and the width of its keys
select
  c.relname as name,
  t.relname as table_name,
  parent.relname as parent_name,
  m.amname as method,
  pg_relation_size(c.oid) as bytes,
  c.reltuples::float8 as counted_rows,
  c.relpages as counted_pages,
  x.indisunique as is_unique,
  x.indisvalid as is_valid,
  s.idx_scan as scans,
  s.idx_tup_read as entries_read,
  s.idx_tup_fetch as rows_fetched,
  s.last_idx_scan as used_at,
  exists(
    select
    from audit.partition as p
    where t.relname in (p.name, p.restored_as)
  ) as is_of_partition,
  keys.width::float8 as key_width
from pg_index as x
inner join pg_class as c on x.indexrelid = c.oid
inner join pg_class as t on x.indrelid = t.oid
inner join pg_am as m on c.relam = m.oid
left join pg_stat_user_indexes as s on x.indexrelid = s.indexrelid
left join pg_inherits as i on c.oid = i.inhrelid
left join pg_class as parent on i.inhparent = parent.oid
cross join lateral (
  -- null when a column has no statistics, or is an expression
  select
    case
      when count(w.avg_width) = x.indnkeyatts then sum((1 - w.null_frac) * w.avg_width)
    end as width
  from pg_attribute as a
  inner join pg_stats as w
    on
      w.schemaname = 'audit'
      and a.attname = w.attname
      and not w.inherited
  where
    w.tablename = t.relname
    and a.attrelid = t.oid
    and a.attnum = any(x.indkey::int2[])
) as keys
where
  t.relnamespace = 'audit'::regnamespace
  and t.relkind = 'r'
order by pg_relation_size(c.oid) desc nulls last, c.relname asc;

-- name: read_database_size
-- description: Size of the database, what its write-ahead log took since the statistics began, and what slots keep of it
select
  current_database() as name,
  current_setting('server_version') as server_version,
  pg_database_size(current_database()) as bytes,
  d.stats_reset as counted_since,
  w.wal_bytes::bigint as wal_bytes,
  w.stats_reset as wal_since,
  pg_size_bytes(current_setting('max_wal_size')) as max_wal_bytes,
  current_setting('block_size')::int as block_bytes,
  has_function_privilege('pg_ls_waldir()', 'execute') as may_list_wal,
  (
    select max(pg_wal_lsn_diff(
      case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
      slots.restart_lsn
    ))::bigint
    from pg_replication_slots as slots
  ) as slot_bytes
from pg_stat_database as d
cross join pg_stat_wal as w
where d.datname = current_database();

-- name: read_wal_directory
-- description: Files and bytes of the write-ahead log on disk; only roles with pg_monitor may ask
select
  count(*) as files,
  coalesce(sum(f.size), 0)::bigint as bytes
from pg_ls_waldir() as f;
