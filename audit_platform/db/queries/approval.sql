-- Acts of two persons. Run as audit_owner.

-- name: request_approval
-- description: Ask for an act
insert into audit.approval
(
    request_id, act, target, args_sha256, reason, requested_by, requested_at, not_before
)
values
(
    %(request_id)s, %(act)s, %(target)s, %(args_sha256)s, %(reason)s, %(requested_by)s,
    %(requested_at)s, %(not_before)s
);

-- name: lock_approval
-- description: Read one request and keep others from deciding it until the transaction ends
select
    request_id,
    act,
    target,
    args_sha256,
    reason,
    requested_by,
    requested_at,
    approved_by,
    approved_at,
    not_before,
    executed_at
from audit.approval
where request_id = %(request_id)s
for update;

-- name: list_open_approvals
-- description: Requests that were not carried out, oldest first
select
    request_id,
    act,
    target,
    args_sha256,
    reason,
    requested_by,
    requested_at,
    approved_by,
    approved_at,
    not_before,
    executed_at
from audit.approval
where executed_at is null and requested_at >= %(since)s
order by requested_at, request_id;

-- name: approve_request
-- description: Give the word of the second person
update audit.approval
set
    approved_by = %(approved_by)s,
    approved_at = %(now)s
where request_id = %(request_id)s and approved_at is null and executed_at is null;

-- name: execute_request
-- description: Note that an approved act is carried out in this transaction
update audit.approval
set executed_at = %(now)s
where
    request_id = %(request_id)s
    and approved_at is not null
    and executed_at is null
    and not_before <= %(now)s;
