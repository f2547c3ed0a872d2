"""Searches of people who look for something, and their answers.

Here: making them from rows that exist, asking each page by page with signed cursors, comparing two
answers. Not here: when they are asked (`life.py`).
Guarantee: an answer is all columns of all rows, in order; two are equal only if these are.

An answer that lost declared rows (expired) or gained some (late) is compared without them: its
pages hold other rows at their end then, so that the shorter one must begin the longer one.
"""

import base64
import hashlib
import json
import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from audit_platform.search.cold import Archive
from audit_platform.search.cursor import resume, sign_cursor
from audit_platform.search.everywhere import Everywhere
from audit_platform.search.hot import ArchiveUse, EventRow, Page, Searcher
from audit_platform.search.query import EventQuery
from audit_platform.settings import Settings
from tests.acceptance.lifecycle.plan import DAY, Plan

_WORDS: Final = ("STAGE", "contract", "İstanbul", "api key", "not allowed", "here, line")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search; without tenant, an operator asks.

    Attributes:
        kind: What a person wants to know.
        query: The first page.
        pages: Pages at most.
    """

    kind: str
    query: EventQuery
    pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was found.

    Attributes:
        rows: Id and digest of all columns, in order.
        is_complete: Whether the last page was reached.
        use: Archive files that were needed.
    """

    rows: tuple[tuple[bytes, bytes], ...]
    is_complete: bool
    use: ArchiveUse


def make_searches(sample: pl.DataFrame, plan: Plan) -> list[Search]:
    """Make the searches out of rows that are stored."""
    rng = random.Random(plan.seed)
    rows = sample.to_dicts()
    made: list[Search] = []
    for kind, percent in _MIX:
        fitting = _fitting(rows, kind)
        count = plan.searches * percent // 100
        made += [_search(kind, rng.choice(fitting), rng, plan) for _ in range(count)]
    return made


def ask_all(settings: Settings, searches: Sequence[Search]) -> list[Answer]:
    """Ask all of them now, with connections and a memory of files of their own."""
    assert settings.cursor_key is not None
    key = base64.b64decode(settings.cursor_key.get_secret_value())
    now = datetime.now(UTC)
    with ExitStack() as stack:
        asked = {
            is_operator: stack.enter_context(
                Everywhere.opened(
                    Searcher(
                        url=settings.database_url_of("maint" if is_operator else "reader"),
                        is_operator=is_operator,
                        timeout_s=60,
                    ),
                    Archive([settings.archive_place()]),
                )
            )
            for is_operator in (False, True)
        }
        return [_ask(asked[one.query.tenant_id is None], one, key=key, now=now) for one in searches]


def difference(
    before: Answer, after: Answer, *, removed: Collection[bytes], added: Collection[bytes]
) -> str | None:
    """Say how an answer differs from an earlier one, apart from declared rows; None if not."""
    kept = [row for row in before.rows if row[0] not in removed]
    found = [row for row in after.rows if row[0] not in added]
    is_as_before = len(kept) == len(before.rows) and len(found) == len(after.rows)
    if is_as_before or (before.is_complete and after.is_complete):
        length = max(len(kept), len(found))
    else:
        length = min(len(kept), len(found))
    if is_as_before and before.is_complete != after.is_complete:
        return "one answer says that there is more, the other that there is not"
    for number, (old, new) in enumerate(zip(kept[:length], found[:length], strict=False)):
        if old[0] != new[0]:
            return f"row {number} is {new[0].hex()} instead of {old[0].hex()}"
        if old[1] != new[1]:
            return f"row {number} ({new[0].hex()}) has other values"
    if len(kept[:length]) != len(found[:length]):
        return f"{len(found)} rows instead of {len(kept)}"
    return None


def arguments_of(query: EventQuery) -> list[str]:
    """A query as options of `audit-platform search`."""
    options = {
        "--tenant": query.tenant_id,
        "--since": query.since and query.since.isoformat(),
        "--until": query.until and query.until.isoformat(),
        "--user": query.user_id,
        "--entity": query.entity_type and f"{query.entity_type}:{query.entity_id}",
        "--action": query.action,
        "--status": query.status,
        "--source": query.source,
        "--correlation": query.correlation_id,
        "--text": query.text,
        "--limit": str(query.limit),
    }
    given = [part for name, value in options.items() if value for part in (name, value)]
    for path, value in query.metadata.items():
        given += ["--where", f"{path}={value}"]
    return given


def _ask(everywhere: Everywhere, search: Search, *, key: bytes, now: datetime) -> Answer:
    query = search.query
    rows: list[tuple[bytes, bytes]] = []
    use = ArchiveUse()
    for _ in range(search.pages):
        page: Page = everywhere.search(query, now=now)
        rows += [(row["id"].bytes, digest_of(row)) for row in page.rows]
        use += page.archive
        if page.next_position is None:
            return Answer(rows=tuple(rows), is_complete=True, use=use)
        cursor = sign_cursor(search.query, page.next_position, key=key, now=now)
        query = resume(search.query, cursor, key=key, now=now)
    return Answer(rows=tuple(rows), is_complete=False, use=use)


def digest_of(row: EventRow) -> bytes:
    """Digest of every column with its type; the same instant is the same whatever its zone."""
    parts = [(name, type(value).__name__, _plain(value)) for name, value in sorted(row.items())]
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()


def _plain(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else repr(value)


# In percent.
_MIX: Final = (
    ("last of a tenant", 12),
    ("history of an entity", 18),
    ("activity of a user", 14),
    ("failures of a day", 12),
    ("an action", 8),
    ("text", 8),
    ("metadata", 10),
    ("everything of some days", 10),
    ("one operation", 4),
    ("a source of everybody", 4),
)


def _fitting(rows: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """Rows that such a search can start from."""
    match kind:
        case "metadata":
            return [row for row in rows if _conditions(row["metadata"])]
        case "one operation":
            return [row for row in rows if row["correlation_id"]]
        case _:
            return list(rows)


def _search(kind: str, row: Mapping[str, Any], rng: random.Random, plan: Plan) -> Search:
    until = _midnight(row["timestamp"]) + rng.randint(1, 3) * DAY
    base = EventQuery(tenant_id=row["tenant_id"], until=min(until, plan.end), limit=20)
    day = replace(base, since=_midnight(row["timestamp"]))
    pages = 1
    match kind:
        case "last of a tenant":
            query = replace(base, limit=50) if rng.random() < 0.5 else replace(base, limit=7)
            pages = 1 if query.limit == 50 else 5
        case "history of an entity":
            entity = {"entity_type": row["entity_type"], "entity_id": row["entity_id"]}
            # A third over all days: complete histories, which no page limit ends.
            is_whole = rng.random() < 0.3
            query = replace(base, until=plan.end if is_whole else base.until, **entity)
            query, pages = replace(query, limit=50 if is_whole else 10), 6 if is_whole else 3
        case "activity of a user":
            query, pages = replace(base, user_id=row["user_id"], limit=15), 3
        case "failures of a day":
            query, pages = replace(day, status="failure", limit=25), 4
        case "an action":
            action = row["action"]
            prefix = f"{action.partition('.')[0]}.*"
            query, pages = replace(day, action=action if rng.random() < 0.5 else prefix), 2
        case "text":
            word = rng.choice((*_WORDS, (row["user_label"] or "contact").split()[0].upper()))
            query, pages = replace(day, text=word, limit=10), 2
        case "metadata":
            path, value = rng.choice(_conditions(row["metadata"]))
            query, pages = replace(day, metadata={path: value}, limit=10), 2
        case "everything of some days":
            since = plan.midnight(rng.randrange(plan.days)) + timedelta(hours=rng.randrange(24))
            span = timedelta(minutes=rng.choice((3, 600, 2_900, 14_000)))
            query = EventQuery(since=since, until=min(since + span, plan.end), limit=9)
            pages = 6
        case "one operation":
            query = replace(base, correlation_id=row["correlation_id"], since=day.since)
        case _:
            query = EventQuery(
                source=row["source"], since=day.since, until=base.until, limit=30,
                status=rng.choice((None, "denied")),
            )  # fmt: skip
    return Search(kind=kind, query=query, pages=pages)


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _conditions(metadata: str) -> list[tuple[str, str]]:
    """Conditions that a row meets: plain paths with the value as it is spelled."""
    found: dict[str, Any] = json.loads(metadata, parse_int=str, parse_float=str)
    return [
        (name, value)
        for name, value in found.items()
        if name.isascii() and name.isidentifier() and isinstance(value, str) and value
    ]
