-- Queries of the demo: what the database holds, to be compared with what was accepted.
-- For the owner: they see every tenant.

-- name: list_stored_ids
-- description: Give the id of every row of the event table, one per row
select id::text
from audit.event;

-- name: list_late_ids
-- description: Give the id of every late row, one per row
select id::text
from audit.event_late;

-- name: sum_ledger
-- description: Add up the ledger: events by fate, batches, Dagster runs, last commit
select
    coalesce(sum(n_read), 0)::bigint as read_count,
    coalesce(sum(n_new), 0)::bigint as new_count,
    coalesce(sum(n_dup), 0)::bigint as duplicate_count,
    coalesce(sum(n_late), 0)::bigint as late_count,
    coalesce(sum(n_bad), 0)::bigint as bad_count,
    count(*) as batch_count,
    count(distinct run_id) as run_count,
    max(committed_at) as last_commit_at
from audit.ingest_batch;

-- name: measure_lag
-- description: Give the median and the 99th percentile of the seconds from queue to table
select
    percentile_cont(0.5) within group (
        order by extract(epoch from ingested_at - received_at)
    ) as lag_p50_s,
    percentile_cont(0.99) within group (
        order by extract(epoch from ingested_at - received_at)
    ) as lag_p99_s
from audit.event
where received_at >= %(since)s;
