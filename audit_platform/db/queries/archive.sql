-- Queries of the archive. The rows themselves are read by a statement composed in archive/export.py.

-- name: tell_whether_text_sorts_by_bytes
-- description: whether columns without a collation of their own sort as the bytes of their UTF-8
select
  d.datlocprovider = 'b'
  or (
    d.datlocprovider = 'c'
    and upper(replace(d.datcollate, '-', '')) in ('C', 'POSIX', 'C.UTF8')
  ) as sorts_by_bytes
from pg_database as d
where d.datname = current_database();
