-- Exports of searches.

-- name: lock_export
-- description: One process at a time writes an export of this name; ends with the connection
select pg_try_advisory_lock(%(key)s::bigint) as is_locked;
