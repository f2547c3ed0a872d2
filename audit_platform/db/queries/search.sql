-- Search over hot and late events: one tenant as the reader, all tenants as the operator.
-- Where archived events are, as the same snapshot sees it.
-- Absent filters are null; each statement is planned for its own values, so that they fold away.

-- name: search_events
-- description: newest events that match, hot and late; search/hot.py names the view for operators
select
  id, "timestamp", tenant_id, source, action, status, entity_type, entity_id, entity_label,
  actor_type, user_id, user_label, impersonator_id, description,
  changes::text as changes, metadata::text as metadata, context::text as context,
  correlation_id, trace_id, bulk_action_id, bulk_item_no, severity, sampled_rate, schema_version,
  producer_id, producer_epoch, producer_seq, batch_id, received_at, ingested_at
from audit.event_read
where "timestamp" >= %(since)s
  and "timestamp" <= %(until)s
  and (%(tenant_id)s::text is null or tenant_id = %(tenant_id)s::text)
  and (%(user_id)s::text is null or user_id = %(user_id)s::text)
  and (%(entity_type)s::text is null or entity_type = %(entity_type)s::text)
  and (%(entity_id)s::text is null or entity_id = %(entity_id)s::text)
  and (%(source)s::text is null or source = %(source)s::text)
  and (%(status)s::audit.event_status is null or status = %(status)s::audit.event_status)
  and (%(action)s::text is null or action = %(action)s::text)
  and (%(action_prefix)s::text is null or starts_with(action, %(action_prefix)s::text))
  and (%(correlation_id)s::text is null or correlation_id = %(correlation_id)s::text)
  and (
    %(text)s::text is null
    or strpos(translate(lower(action), %(fold_from)s, %(fold_to)s), %(text)s) > 0
    or strpos(translate(lower(description), %(fold_from)s, %(fold_to)s), %(text)s) > 0
    or strpos(translate(lower(entity_label), %(fold_from)s, %(fold_to)s), %(text)s) > 0
  )
  and (
    %(metadata_filters)s::jsonb is null
    or not exists (
      select
      from jsonb_array_elements(%(metadata_filters)s::jsonb) as conditions (wanted) -- noqa: RF02
      -- a path that meets another type gives null, which is no match
      where jsonb_path_exists(
        event_read.metadata::jsonb,
        (conditions.wanted ->> 'path')::jsonpath,
        conditions.wanted -> 'values',
        true
      ) is not true
    )
  )
  and (
    %(after_timestamp)s::timestamptz is null
    or ("timestamp", tenant_id, id)
    < (%(after_timestamp)s::timestamptz, %(after_tenant)s::text, %(after_id)s::uuid)
  )
order by "timestamp" desc, tenant_id desc, id desc
limit %(limit)s;

-- name: set_tenant
-- description: choose the tenant that this transaction may read
select set_config('app.tenant', %(tenant_id)s, true);

-- name: list_partitions_in_range
-- description: where the partitions of a range are, newest first; both ends of the range included
select name, lo, hi, generation, state
from audit.partition
where tstzrange(lo, hi) && tstzrange(%(since)s, %(until)s, '[]')
order by lo desc;

-- name: list_archive_files
-- description: files of archived partitions; only of those a search needs, since there are years of them
select name, files
from audit.partition
where name = any(%(names)s);

-- name: list_archive_files_of_tenant
-- description: the same for a reader: no file that holds rows of another tenant only
select name, files
from audit.partition_read
where name = any(%(names)s);

-- name: list_all_archive_files
-- description: every partition with its files, oldest first; for those who read all of it
select lo, hi, state, files
from audit.partition
order by lo;

-- name: list_late_deletions
-- description: events about deleted late rows, but not those of archived spans, which files hold
select metadata::text as metadata
from audit.event
where tenant_id = %(tenant_id)s
  and source = %(source)s
  and action = %(action)s
  and not "timestamp" <@ (
    select coalesce(range_agg(tstzrange(lo, hi)), '{}')
    from unnest(%(los)s::timestamptz[], %(his)s::timestamptz[]) as archived (lo, hi)
  )
union all
select metadata::text as metadata
from audit.event_late
where tenant_id = %(tenant_id)s
  and source = %(source)s
  and action = %(action)s;
