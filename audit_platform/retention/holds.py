"""Legal holds: rows that must stay, by case, whatever the rules say.

Here: placing, releasing, listing, and the question that every destroying step asks. Not here: who
may release (`approval.py`, two persons), options and words (`cli/hold.py`), the steps themselves.
Guarantee: a hold acts from the moment it is placed; what it covers stays until every hold that
covers it is released.

A hold names rows; files and tables hold many rows. So it holds every partition and every file that
may contain one of them: those of its period, of its tenant or of all. Its entity and user say what
it is about and narrow nothing here.

    keep_hot    the partition is not detached: rows stay in PostgreSQL
    any hold    the detached table is not dropped, the archived file is not deleted
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.events.event import TEXT_LIMITS
from audit_platform.retention.lifecycle import as_owner

ALL_TENANTS: Final = "*"
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
END: Final = datetime(9999, 12, 31, tzinfo=UTC)
"""Bounds of a hold without any: every event that can be stored."""
_LONGEST_CASE: Final = 100
_LONGEST_REASON: Final = 500
_FREEZE: Final = "lock table audit.legal_hold in share mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldScope:
    """What a hold covers.

    Attributes:
        tenant_id: `*` for all tenants.
        lo: First moment, inclusive.
        hi: Last moment, exclusive.
        entity_type: Only events about this kind of record.
        entity_id: Only events about this record; goes with its type.
        user_id: Only events of this user.
        keep_hot: Whether the rows must stay in PostgreSQL.
    """

    tenant_id: str
    lo: datetime = BEGINNING
    hi: datetime = END
    entity_type: str | None = None
    entity_id: str | None = None
    user_id: str | None = None
    keep_hot: bool = False

    def __post_init__(self) -> None:
        """Refuse what would hold nothing.

        Raises:
            ValueError: Names the part and the remedy.
        """
        if self.lo.tzinfo is None or self.hi.tzinfo is None:
            raise ValueError("period: pass moments with a time zone")
        if self.lo >= self.hi:
            raise ValueError("period: its beginning is not before its end; swap or widen them")
        if self.entity_id is not None and self.entity_type is None:
            raise ValueError("entity: an id goes with its type, as in order:1042")
        for name in ("tenant_id", "entity_type", "entity_id", "user_id"):
            value: str | None = getattr(self, name)
            if value is not None and not (
                1 <= len(value) <= TEXT_LIMITS[name] and "\0" not in value
            ):
                raise ValueError(f"{name}: write 1 to {TEXT_LIMITS[name]} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One row of `audit.legal_hold`."""

    hold_id: UUID
    case_id: str
    scope: HoldScope
    reason: str
    placed_by: str
    placed_at: datetime
    released_by: str | None = None
    released_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether it acts."""
        return self.released_at is None


def place(
    conn: Connection,
    *,
    hold_id: UUID,
    case_id: str,
    scope: HoldScope,
    reason: str,
    placed_by: str,
    now: datetime,
) -> Hold:
    """Place a hold; it acts when this returns.

    A step that is destroying something at this moment is waited for: what it destroyed was not
    held, and what follows is.

    Args:
        conn: As `audit_maint` or the owner.
        hold_id: A fresh UUIDv7; with that of an earlier hold nothing is added.
        case_id: Case or matter that asks for it; a case has any number of holds.
        scope: What is held.
        reason: One sentence for people.
        placed_by: Who answers for it.
        now: Aware.

    Raises:
        ValueError: Case, reason or person is empty or too long.
    """
    for name, value, longest in (
        ("case", case_id, _LONGEST_CASE),
        ("reason", reason, _LONGEST_REASON),
        ("person", placed_by, _LONGEST_CASE),
    ):
        if not value.strip() or len(value) > longest or not value.isprintable():
            raise ValueError(f"{name}: write 1 to {longest} printable characters")
    hold = Hold(
        hold_id=hold_id,
        case_id=case_id,
        scope=scope,
        reason=reason,
        placed_by=placed_by,
        placed_at=now,
    )
    with as_owner(conn):
        conn.execute(load_queries("rules")["place_hold"], _values(hold))
    return hold


def release(
    conn: Connection, hold_ids: Sequence[UUID], *, released_by: str, now: datetime
) -> list[UUID]:
    """Release holds; what other holds cover stays.

    The caller has seen to the two persons that this act needs (security design, section 8).

    Args:
        conn: As `audit_maint` or the owner; inside a transaction the release is part of it.
        hold_ids: Those that are released already stay as they are.
        released_by: Who answers for it.
        now: Aware.

    Returns:
        The holds that this call released.
    """
    with as_owner(conn):
        rows = conn.execute(
            load_queries("rules")["release_holds"],
            {"hold_ids": list(hold_ids), "released_by": released_by, "released_at": now},
        ).fetchall()
    return [row[0] for row in rows]


def list_holds(
    conn: Connection, *, case_id: str | None = None, with_released: bool = False
) -> list[Hold]:
    """List holds in the order in which they were placed."""
    with as_owner(conn):
        rows = conn.execute(
            load_queries("rules")["list_holds"],
            {"case_id": case_id, "with_released": with_released},
        ).fetchall()
    return [_hold(row) for row in rows]


def blocking_holds(
    conn: Connection,
    lo: datetime,
    hi: datetime,
    tenant: str | None = None,
    *,
    keep_hot: bool | None = None,
) -> list[Hold]:
    """List the active holds that forbid destroying rows of a range.

    Inside `frozen_holds` the answer stays true until that transaction ends.

    Args:
        conn: As `audit_maint` or the owner.
        lo: First moment, inclusive.
        hi: Last moment, exclusive.
        tenant: Whose rows; None: of any tenant, as in a table or a shared file.
        keep_hot: True: only holds that forbid leaving PostgreSQL. None: every hold.
    """
    with as_owner(conn):
        rows = conn.execute(
            load_queries("rules")["find_blocking_holds"],
            {"lo": lo, "hi": hi, "tenant_id": tenant, "keep_hot": keep_hot},
        ).fetchall()
    return [_hold(row) for row in rows]


@contextmanager
def frozen_holds(conn: Connection) -> Iterator[None]:
    """One transaction as the owner in which nobody can place or release a hold.

    For steps that ask for holds and then destroy. Readers of holds do not wait; whoever places one
    waits until the step is done.

    Args:
        conn: As `audit_maint` or the owner; inside a transaction the lock lasts as long as that.

    Raises:
        LockNotAvailable: A `lock_timeout` of the caller ran out.
    """
    with as_owner(conn):
        conn.execute(_FREEZE)
        yield


def _values(hold: Hold) -> dict[str, Any]:
    scope = hold.scope
    return {
        "hold_id": hold.hold_id,
        "case_id": hold.case_id,
        "tenant_id": scope.tenant_id,
        "entity_type": scope.entity_type,
        "entity_id": scope.entity_id,
        "user_id": scope.user_id,
        "lo": scope.lo,
        "hi": scope.hi,
        "keep_hot": scope.keep_hot,
        "reason": hold.reason,
        "placed_by": hold.placed_by,
        "placed_at": hold.placed_at,
    }


def _hold(row: tuple[Any, ...]) -> Hold:
    hold_id, case_id, tenant_id, entity_type, entity_id, user_id, lo, hi, keep_hot, *rest = row
    reason, placed_by, placed_at, released_by, released_at = rest
    return Hold(
        hold_id=hold_id,
        case_id=case_id,
        scope=HoldScope(
            tenant_id=tenant_id,
            lo=lo,
            hi=hi,
            entity_type=entity_type,
            entity_id=entity_id,
            user_id=user_id,
            keep_hot=keep_hot,
        ),
        reason=reason,
        placed_by=placed_by,
        placed_at=placed_at,
        released_by=released_by,
        released_at=released_at,
    )
