"""Acts of two persons: one asks, another approves, and it is carried out once as approved.

Here: requests, the second person, the waiting time. Not here: the acts (each its own module), who a
person is: names are what the command line was told, until logins exist.
Guarantee: an act is carried out only with the very arguments that were asked for, with the word of
another person, not before its time, and once; the table refuses everything else.

Source: security design, section 8.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from audit_platform.db.pool import Connection, transaction
from audit_platform.db.queries import load_queries
from audit_platform.errors import ApprovalRefused

DELETION_DELAY: Final = timedelta(hours=48)
"""Between asking for what leads to a deletion and doing it: time to object."""
MAX_AGE: Final = timedelta(days=30)
"""An older request is asked for again: who approves should mean the present."""


class TwoPersonAct(StrEnum):
    """Acts that one person may not do alone."""

    RELEASE_HOLD = "release_hold"
    SHORTEN_RETENTION = "shorten_retention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One request and what became of it."""

    request_id: UUID
    act: TwoPersonAct
    target: str
    args_sha256: bytes
    reason: str
    requested_by: str
    requested_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    not_before: datetime
    executed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be done: the same for asking, approving and doing.

    Attributes:
        act: Kind of act.
        target: What it is about, for people.
        args: Everything that decides what happens; JSON values.
    """

    act: TwoPersonAct
    target: str
    args: Mapping[str, object]

    @property
    def sha256(self) -> bytes:
        """Digest of act, target and arguments."""
        text = json.dumps([self.act, self.target, self.args], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def ask(
    conn: Connection,
    wanted: Wanted,
    *,
    request_id: UUID,
    reason: str,
    person: str,
    delay: timedelta,
    now: datetime,
) -> Approval:
    """Ask for an act.

    Args:
        conn: As the owner.
        wanted: What is to be done.
        request_id: A fresh UUIDv7.
        reason: One sentence for people.
        person: Who asks.
        delay: It is not carried out before this time has passed.
        now: Aware.
    """
    values: dict[str, Any] = {
        "request_id": request_id,
        "act": wanted.act,
        "target": wanted.target,
        "args_sha256": wanted.sha256,
        "reason": reason,
        "requested_by": person,
        "requested_at": now,
        "not_before": now + delay,
    }
    with transaction(conn):
        conn.execute(load_queries("approval")["request_approval"], values)
    return Approval(**values, approved_by=None, approved_at=None, executed_at=None)


def decide(
    conn: Connection, wanted: Wanted, *, request_id: UUID, person: str, now: datetime
) -> tuple[Approval, bool]:
    """Approve a request where that is still to be done, and say whether the act is due.

    Args:
        conn: As the owner, inside the transaction of the act.
        wanted: What is to be done now; it must be what was asked for.
        request_id: The request.
        person: Who approves, or who carries out what was approved.
        now: Aware.

    Returns:
        The request, and True if the caller is to do the act in this transaction: it is noted as
        carried out. False: approved, but its time has not come.

    Raises:
        ApprovalRefused: No such request, other arguments, the same person, too old, or done.
    """
    queries = load_queries("approval")
    with transaction(conn):
        row = conn.execute(queries["lock_approval"], {"request_id": request_id}).fetchone()
        if row is None:
            raise _refusal("there is no such request; `list` shows the open ones")
        found = _approval(row)
        _check(found, wanted, now=now)
        given = {"request_id": request_id, "now": now}
        if found.approved_by is None:
            if _same(person, found.requested_by):
                raise _refusal(f"{found.requested_by} asked for it; another person approves it")
            conn.execute(queries["approve_request"], given | {"approved_by": person})
        if now < found.not_before:
            return _approval(_locked(conn, request_id)), False
        conn.execute(queries["execute_request"], given)
        return _approval(_locked(conn, request_id)), True


def list_open(conn: Connection, *, now: datetime) -> list[Approval]:
    """List requests that still can be carried out, oldest first."""
    with transaction(conn):
        rows = conn.execute(
            load_queries("approval")["list_open_approvals"], {"since": now - MAX_AGE}
        ).fetchall()
    return [_approval(row) for row in rows]


def _check(found: Approval, wanted: Wanted, *, now: datetime) -> None:
    if found.executed_at is not None:
        raise _refusal(f"it was carried out at {found.executed_at:%Y-%m-%d %H:%M}Z; ask again")
    if now - found.requested_at > MAX_AGE:
        raise _refusal(f"it is older than {MAX_AGE.days} days; ask again")
    if found.act != wanted.act or found.args_sha256 != wanted.sha256:
        raise _refusal(
            f"it asks for something else ({found.act}: {found.target}), or what it is about has "
            "changed since; repeat the command as it was asked for, or ask again"
        )


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _locked(conn: Connection, request_id: UUID) -> tuple[Any, ...]:
    row = conn.execute(
        load_queries("approval")["lock_approval"], {"request_id": request_id}
    ).fetchone()
    assert row is not None  # noqa: S101 - it is locked in this transaction
    return row


def _approval(row: tuple[Any, ...]) -> Approval:
    request_id, act, target, args_sha256, reason, requested_by, requested_at, *rest = row
    approved_by, approved_at, not_before, executed_at = rest
    return Approval(
        request_id=request_id,
        act=TwoPersonAct(act),
        target=target,
        args_sha256=bytes(args_sha256),
        reason=reason,
        requested_by=requested_by,
        requested_at=requested_at,
        approved_by=approved_by,
        approved_at=approved_at,
        not_before=not_before,
        executed_at=executed_at,
    )


def _refusal(why: str) -> ApprovalRefused:
    return ApprovalRefused(f"the request is not followed: {why}")
