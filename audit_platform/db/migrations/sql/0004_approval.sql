-- Approval: acts that need the word of a second person.

-- An administrator without superuser rights must be a member to act as the owner.
do $$ begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('grant audit_owner to %I', current_user);
  end if;
end $$;
set local role audit_owner;

create table audit.approval (
  request_id uuid primary key,
  act text not null,
  target text not null,
  args_sha256 bytea not null,
  reason text not null,
  requested_by text not null,
  requested_at timestamptz not null default now(),
  approved_by text,
  approved_at timestamptz,
  not_before timestamptz not null,
  executed_at timestamptz,
  constraint approval_args check (octet_length(args_sha256) = 32),
  -- prevents an approval that nobody answers for
  constraint approval_answered check ((approved_by is null) = (approved_at is null)),
  -- prevents that one person is both
  constraint approval_two_persons check (lower(approved_by) <> lower(requested_by)),
  -- prevents an act before its approval or before its time
  constraint approval_in_order check (executed_at is null
    or (approved_at is not null and executed_at >= not_before))
);
-- serves "what waits for a second person"
create index approval_open on audit.approval (requested_at) where executed_at is null;
comment on table audit.approval is
  'Acts that two persons decide: asked for by one, approved by another, carried out once';
comment on column audit.approval.request_id is 'UUIDv7 of the request';
comment on column audit.approval.act is 'release_hold, shorten_retention';
comment on column audit.approval.target is 'What it is about, for people';
comment on column audit.approval.args_sha256 is
  'SHA-256 of the arguments: what is carried out is what was approved';
comment on column audit.approval.reason is 'One sentence for people';
comment on column audit.approval.requested_by is 'Who asked';
comment on column audit.approval.requested_at is 'When';
comment on column audit.approval.approved_by is 'Who approved: another person';
comment on column audit.approval.approved_at is 'When';
comment on column audit.approval.not_before is 'The act waits until then, so that others can object';
comment on column audit.approval.executed_at is 'When it was carried out';

revoke all on audit.approval from public;

reset role;
