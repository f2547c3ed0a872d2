"""Audit Platform: what lives where, in reading order; this module imports nothing.

An event: `client` → `events.stream` (Redis) → `sensors.stream_backlog` → `jobs.ingest` →
`events.drain`: read, frame, COPY with the ledger in one transaction, acknowledge → `search`.
Upper layers import lower ones; the contract in pyproject.toml says who may import whom.
(pure): no clock, no I/O, no randomness.

Length: one line per module, in one picture.

settings.py                 every setting; the only reader of the environment
errors.py                   the error tree: cause, remedy, retryable
crash_points.py             named points where tests kill the process; inert unless armed
events/                     PATH 1: from the stream to PostgreSQL
  event.py                  AuditEvent: fields, limits, wire form (pure)
  identity.py               UUIDv7 from the event's own timestamp; ids of external sources (pure)
  policy.py                 durability classes, batching presets, shards (pure)
  policy_rules.py           policies per source and action: which rule applies (pure)
  redis_edge.py             connections to Redis, keys, its errors as ours
  stream_entry.py           one entry; replies of Redis to entries
  stream.py                 Redis Streams edge: append, read, claim, acknowledge
  backlog.py                Redis Streams edge of those who only look
  janitor.py                clears up what crashes leave in Redis
  decode_batch.py           decodes a batch so that no entry stops a shard
  lines.py                  stream entries to lines; both entry formats (pure)
  wire_event.py             one event in canonical wire form, as decoded (pure)
  wire_time.py              event times in every accepted form (pure)
  frame.py                  entries to one Polars frame with a declared schema, rejects apart
  control_events.py         what producers report about themselves (pure)
  control_rows.py           finds such reports among the rows
  screen.py                 vectorised checks: which lines are not plainly good
  repeated_keys.py          lines that may hold a key twice, by column (pure)
  normalise.py              one line precisely: foreign names, the exact verdict on a bad one
  field_values.py           JSON value of one field to its column's type, or what is wrong (pure)
  json_text.py              judges JSON as `jsonb` would (pure)
  json_path.py              paths into JSON text that keep untouched bytes (pure)
  reject.py                 reason codes; a rejected line with its bytes (pure)
  split_rows.py             open or late: which partition takes a row
  ready_frame.py            frame with its batch id and its COPY text, made beforehand
  copy_text.py              frame to the bytes of COPY text (pure)
  copy_rows.py              the consumer transaction: one batch with its ledger row
  merge_rows.py             merge path: through a stage, when rows exist already
  ledger_ranges.py          what a batch tells about the numbers of its producers
  ledger.py                 ledger of one batch: counts, dead letters, ranges, Merkle root
  dead_letter.py            bad events: encrypt, keep, count, list
  dead_letter_rows.py       their table as operators use it: find, claim, resolve
  redrive.py                dead letters back into the stream, or discarded
  act_event.py              what operators and maintenance do, as events (pure)
  act_log.py                acts into the stream, or they do not go on
  lease.py                  one drain run per shard: take, renew, check the fence, release
  watermark.py              what a producer's numbers came to, as it reads it; folds the ledger
  completeness.py           what became of every number of every producer
  row_check.py              rows counted against it, those of the archive included
  row_numbers.py            numbers that rows carry, folded into ranges (pure)
  number_ranges.py          ascending ranges: size, difference (pure)
  certificate.py            those accounts as a JSON file with its digest
  return_path.py            tells producers what is stored and how the shard is
  batch.py                  when to flush, how much to read, how to halve (pure)
  overload.py               overload levels: how far the drain is behind (pure)
  load_gauge.py             age of the oldest entry and Redis memory, measured, as a level
  suspects.py               entries read by many runs, acknowledged by none: tried alone
  intake.py                 reader thread of a drain: read, decode, hand over
  hand_over.py              bounded hand-over between two threads, errors included
  run_state.py              what the threads of a drain run share: why it ends, what it did
  storer.py                 storing thread of a drain: store, retry, halve, acknowledge
  drain_loop.py             thread of the run: lease, reports, until a reason to end
  drain.py                  drain of one shard, from settings to summary; the job calls this
  tally.py                  what a drain run did: since the last report, in total (pure)
  writer_session.py         the writer's connection of a run, replaced when broken
  back_off.py               waiting between attempts, with jitter, ended by a stop
  garbage.py                rarer garbage collections for the length of a drain
  stop_signal.py            SIGTERM as a stop flag, for one block
imports/                    files of other systems into the stream
  mapping.py                foreign records to events and back (pure)
  mapping_rules.py          form and validation of a mapping file
  mapping_values.py         foreign values as columns take them (pure)
  repair.py                 dead letters made good: values set, then mapped (pure)
  mapping_identity.py       id of a foreign record's event (pure)
  rebuild.py                a stored row back to its foreign record (pure)
  mappings/                 foreign formats as data, one .yaml each
  files.py                  import files as records: NDJSON, CSV, Parquet, CloudTrail, gzip
  file_format.py            formats of import files, and names that suggest them (pure)
  tables.py                 CSV and Parquet as one JSON object per row
  json_array.py             one large JSON array as its elements, in bounded memory
  file_import.py            the import of one file: read, map, send, wait for the ledger
  edges.py                  what an import needs from outside: queue, ledger, partitions
  ledger.py                 how far each import came and what arrived
  report.py                 what an import says while it runs and at its end (pure)
client/                     the producer SDK; imports neither Polars nor Dagster nor psycopg
  client.py                 AuditClient: `log()`, `flush()`, `close()`, `stats()`
  core.py                   what a forked child makes anew: buffer, sender, events
  frozen.py                 arguments of a call, copied as they are
  scope.py                  fields inherited inside `context()`
  fields.py                 arguments of `log()`: names, types, values (pure)
  policy_file.py            form of a policies file, checked
  policies.py               follows the file, decides calls, counts what is not logged
  snapshot.py               arguments to the bytes of one event: checked, redacted, fixed
  moments.py                how ids and times of one millisecond begin
  payload.py                JSON as the ingest job accepts it, or why not (pure)
  draft.py                  an event being put together
  buffer.py                 bounded memory: numbers, keeps until it is elsewhere, counts drops
  lane.py                   one shard's part of the buffer
  sender.py                 thread: buffer and spool to Redis
  transport.py              one attempt to send; outages counted and logged
  breaker.py                circuit breaker: how long to wait, how much to risk (pure)
  custodian.py              asks what is stored, sends again, spills, declares losses
  confirmations.py          asks the platform what is stored, and its overload level
  parcel.py                 consecutive events of one entry, and when they go again (pure)
  custody.py                what one epoch sent and nobody confirmed yet
  seq_set.py                sets of numbers as ranges (pure)
  coverage.py               what the platform says it has stored (pure)
  declarations.py           declares numbers given up, and calls that policies left out
  control_events.py         what a producer writes about itself: losses, ends (pure)
  inheritance.py            what dead processes left: events on disk, numbers without an end
  disk.py                   the producer's directory; group commit of `durable` events
  overload_rules.py         what a producer does at each overload level (pure)
  slot.py                   process slots: a lock, and what dead processes left
  sequence_state.py         epochs and last numbers in a file that survives SIGKILL
  spool.py                  disk spool of one slot: append, read, delete what is confirmed
  spool_room.py             limits of the spool, half of it for `durable`
  open_segments.py          which open segment takes which record
  spool_reader.py           one ascending sequence out of several segments
  spool_directory.py        the segments found when the spool opens
  spool_segment.py          one segment file: append, scan, cut, read
  spool_format.py           bytes of a segment: header and records (pure)
  segment_index.py          numbers and blocks of a segment (pure)
  index_file.py             index of a closed segment, so that no start has to scan it
  seq_ranges.py             ascending numbers as ranges (pure)
  private_files.py          directories and files of one user, errors of their disk
  process_hooks.py          drain at exit and on SIGTERM; a forked child starts afresh
  stats.py                  counts that add up
search/                     questions about stored events
  query.py                  filters of a search (pure)
  cursor.py                 signed keyset cursor (pure)
  everywhere.py             one search over PostgreSQL and the archive, with one cursor
  border.py                 which events lie in PostgreSQL, which in the archive: one snapshot
  time_limit.py             how long one search may take, PostgreSQL and archive together
  hot.py                    searches in PostgreSQL, late rows included
  cold.py                   searches in archived partitions: which files, rows read ahead
  cold_scan.py              newest matches of open files: which row groups
  cold_file.py              one archived file: columns and rows, from the first good copy
  cold_numbers.py           producers' numbers of all archived rows, for the count of completeness
  cold_filter.py            the filters of a search over archived columns (pure)
  json_condition.py         metadata filters decided on JSON text (pure)
  text_pattern.py           the text filter as a pattern for archived text (pure)
  follow.py                 what a repeated search found that is new (pure)
archive/                    cold tier: sealed partitions as Parquet files
  manifest.py               what an archived partition consists of, as JSON; paths of files (pure)
  json_fields.py            reads the fields of a JSON object strictly (pure)
  match_filter.py           what a file certainly does not hold, so that it stays closed (pure)
  store.py                  where files lie: one interface, chosen by URL
  local_store.py            archive in a directory: fsync, rename, errors of the disk as ours
  remote_store.py           archive in an object store that speaks S3
  columns.py                columns of an archived event: types, encodings, filter keys
  routes.py                 which file takes which rows: date, class, tenant
  parquet_file.py           one Parquet file being written, and its entry
  file_set.py               the files of one export: row groups, second copy, cleaning up
  export.py                 a sealed partition into Parquet files and their manifest
  read.py                   files as rows: only the bytes that were written, in bounded batches
  lookup.py                 which of some keys files hold, and with which leaf
  verify.py                 proves from files alone that they hold what was sealed; a program, too
  verify_apart.py           runs that program: no database, nothing of this process
  verify_report.py          what a verification found, as a value and as JSON (pure)
  row_check.py              rows of one file against its entry and the partition
  leaf_order.py             leaves in canonical order, in bounded memory
  leaf_sums.py              digest, group roots and counts from ordered leaves
  compare.py                tables compared on the server, with each other and with their leaves
exports/                    searches as files
  order.py                  what is exported: filters as people write them, form, name (pure)
  search_export.py          pages in, files out; resumable, with a manifest
  services.py               the same with connections, the lock, the log of who exported
  formats.py                CSV, NDJSON, Parquet in constant memory
  cells.py                  columns and cells, made safe for spreadsheets (pure)
  progress.py               how far an export is: checkpoint and report (pure)
  manifest.py               what the files hold, with digests (pure)
retention/                  life of the partitions
  partition.py              names, bounds, what is due (pure)
  seal.py                   seals: refuses every change, then a root over the rows
  digest.py                 rows in canonical order: digest, group roots, proofs
  cold_indexes.py           indexes of sealed partitions, then VACUUM
  partition_table.py        rows of `audit.partition`: read, locked, changed by guarded steps
  partition_generations.py  what partitions held before they were opened again
  partition_states.py       state machine of a partition's life: which step is due (pure)
  lifecycle.py              creates partitions by ATTACH; writers never wait
  detach.py                 takes a verified partition out of the table; readers left before
  drop.py                   drops a detached partition after a second proof of its archive
  advance.py                runs the steps that are due, keeps why one failed
  walk.py                   every partition that is due, with the proofs between its steps
  lifecycle_settings.py     settings as the steps take them: rules, archive, classes
  overview.py               every partition as operators see it
  partition_ledger.py       compares a partition with the ledger, before its export
  archive_copies.py         compares both copies with their hashes, before the detach
  span.py                   spans of retention by the calendar (pure)
  classes.py                retention class by source and action; tenants with files of their own
  rules.py                  presets and rules: what is hot, when it expires
  rule_changes.py           which changes of rules and classes keep events for a shorter time
  holds.py                  legal holds by case: place, release, what they block
  archived_partition.py     what of a partition lies in the archive, and whether it is as sealed
  restore.py                archived partitions brought back: beside the archive, or attached
  restored_table.py         a table filled from archive files and proved
  removed_table.py          tables of restores and drills: their names, and how they go again
  reattach.py               an archived partition into the searched table again, sealed
  drill.py                  a random archived partition restored on trial, compared, recorded
  expire.py                 deletes archive files whose time is over, step by guarded step
  reopen.py                 opens a sealed partition again, as its next generation
  late_rows.py              late rows into their partitions, whatever state those are in
  late_known.py             late rows that the archive has already: settled without an opening
  late_table.py             rows leave the table of late rows, their numbers that account
  late_expiry.py            deletes late rows whose time is over, as the files of their day
  late_letters.py           late rows whose key is taken: dead letters
  old_generations.py        former generations proved to be in the present one, then deleted
  ledger.py                 compares the ledger with the rows it speaks of
  sizes.py                  tables, indexes, dead rows, use, last vacuum, write-ahead log
  bloat.py                  how much of a table or an index is empty, estimated (pure)
  size_findings.py          what is remarkable about sizes, with what to do (pure)
integrity/                  tamper evidence
  leaf.py                   canonical text and leaf hash of an event (pure)
  merkle.py                 Merkle root over leaves (pure)
privacy/                    redaction before bytes leave the process
  redact.py                 secrets out of an event, by key and by pattern (pure)
  redact_fields.py          fields a policy names out of an event (pure)
  key_names.py              keys whose values are secret (pure)
  patterns.py               secrets inside text: cards, tokens, headers, URLs (pure)
approval.py                 acts of two persons: asked for, approved by another, done once
db/                         PostgreSQL edge
  pool.py                   connections by role, transactions, sqlstate to errors
  arrow_rows.py             one query as a stream of Arrow batches, through ADBC
  queries.py                loads the named queries
  queries/                  named SQL by area
  migrate.py                brings a server to the current schema
  migrations/               Alembic; each revision executes one .sql file
    env.py                  one transaction per revision, short lock time-outs
    run_sql.py              executes one .sql file
    sql/                    DDL, `NNNN_what.sql`, forward only
    versions/               one Alembic revision per .sql file
  dagster_storage.py        database and login of Dagster's own storage
  dagster_leftovers.py      what deleted runs leave in Dagster's storage
observability/              logs of our own processes
  log.py                    one JSON object per line on standard error
selfcheck.py                is it safe to start, is it well; `audit-platform doctor`
resources.py                Dagster resources to the plain objects above
failures.py                 errors to Dagster failures
assets/                     what the platform keeps, as Dagster shows it
  audit_event.py            event tables and stream, as external assets
  table_partitions.py       partitions kept ready ahead
  checks.py                 checks: what is wrong and what to do
  completeness_check.py     check for missing numbers, with the day's certificate
  columns.py                column schemas of the asset pages
  partition_keys.py         partitions as Dagster knows them, brought up to the records
  partition_lifecycle.py    sealed, archived, verified, detached, dropped: one asset each
  partition_pages.py        what the page of a partition shows
  lifecycle_checks.py       checks between the steps of a partition's life
  lifecycle_verdicts.py     what a run over many partitions found, as those checks
  archive_care.py           late rows merged, files expired, restores tried
  care_pages.py             what their pages show
  run_moment.py             the moment that a run takes for now
  storage_sizes.py          sizes and use, as observations
  search_exports.py         exports and their progress, as observations
jobs/                       what Dagster launches
  ingest.py                 one drain run of one shard
  observation.py            how often a run reports, and what (pure)
  coordinator.py            Dagster's run queue, past which ingest runs go
  maintenance.py            partitions ahead, checks
  lifecycle.py              archive, detach, drop what is due; care for the archive
  finished_runs.py          old runs in Dagster's storage, deleted in bounded steps
  old_ticks.py              old ticks of sensors and schedules, likewise
  janitor.py                clears up in Redis and in Dagster's storage
  observe_storage.py        notes sizes and use of tables and indexes
  search_export.py          a search written to files, launched by hand
sensors/                    state, decision, translation
  decision.py               when a shard needs a run (pure)
  lost_runs.py              which runs nothing executes any more (pure)
  gather.py                 the state that the sensors decide on
  stream_backlog.py         entries without a live drain: requests a run
  reaper.py                 drain runs that nothing executes any more: failed
schedules.py                cron, each with the reason for its hour
definitions.py              the code location: everything Dagster shows and runs
cli/                        `audit-platform`: one file per command group
  entry.py                  entry point; what to install where only the SDK is
  app.py                    the commands, errors to exit codes
  up.py                     up, status, down, reset, config
  doctor.py                 doctor: one line per self-check
  demo.py                   demo: everything from nothing, with a balance
  import_.py                import: files of history
  import_session.py         an import with the services of a running platform
  events.py                 search, tail
  completeness.py           completeness: is everything accepted accounted for
  partitions.py             partitions: where each stands in its life
  deadletter.py             deadletter list, show, redrive, discard
  deadletter_session.py     dead letters with the services of a running platform
  deadletter_output.py      dead letters as a table, NDJSON or readable bytes
  policies.py               policies check, example
  retention.py              retention list, set, preset, unset
  retention_class.py        retention class set, unset
  retention_output.py       rules and classes as lists
  hold.py                   hold place, release, list
  acting.py                 acts of an operator: rights, log, second person
  listing.py                lists as a table or NDJSON
  event_output.py           events as a table, NDJSON or CSV
  export.py                 export: a search as files
  restore.py                restore: archived days back, attached or beside, and trials
  storage.py                storage: sizes, bloat, use of indexes
  terminal_text.py          foreign text made safe for terminals (pure)
local/                      everything embedded, the supervisor and the demo
  supervisor.py             starts everything, keeps it running, stops it in order
  control.py                what other processes do to a platform: look, stop, remove
  platform_plan.py          which services are ours, their ports and URLs
  platform_state.py         lock, `platform.json` and `platform.env` of a data directory
  platform_secrets.py       passwords and keys, made once
  prepare.py                databases, roles, partitions and groups, before Dagster starts
  children.py               command line and environment of each process
  keeper.py                 starts children and starts dead ones again
  restart.py                when to start a dead process again (pure)
  guardian.py               clears up when the supervisor is killed
  leftovers.py              clears up when the guardian was killed too
  stopping.py               stop order: who launches first, who stores last
  processes.py              one child: start, log, signal, kill with its group
  readiness.py              does a process answer, and the one line when not
  log_lines.py              lines that an operator should see (pure)
  ports.py                  is a port free, which one to take
  binaries.py               bundled PostgreSQL and Redis, readable by whoever runs them
  postgres.py               embedded PostgreSQL: initialise, start, stop; never as root
  unprivileged.py           who runs PostgreSQL when root starts it, and where
  redis.py                  embedded Redis: configure, start, stop
  dagster_home.py           Dagster's home directory and instance
  traffic/                  demo: applications, broken events, the balance
    plan.py                 who produces how much (pure)
    application.py          applications that log through the SDK
    balance.py              is everything taken also stored, by sets of ids (pure)
    catalogue.py            tenants, people, actions, requests (pure)
    display.py              progress bars and the final table
    faults.py               broken events of each kind (pure)
    found.py                what the database holds afterwards
    history.py              what the queue has taken, one line each
    cloudtrail.py           CloudTrail files, with their ids
    legacy.py               programs that write to the queue without the SDK
    patience.py             waits for the platform, but not for ever
    place.py                its own data directory and settings
    process.py              producer processes, started, counted, stopped
    records.py              flat records and their JSON (pure)
    run.py                  one run against a running platform
    schedule.py             nights, office hours, bursts (pure)
    values.py               metadata and changed fields (pure)
"""
