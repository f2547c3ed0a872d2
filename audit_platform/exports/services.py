"""An export with the services of a platform: the search, the lock, the log of who exported what.

Here: connections from settings, and the order in which the log is told. Not here: the steps of an
export (`exports/search_export.py`), options (`cli/export.py`, `jobs/search_export.py`).
Guarantee: nothing is exported unless the log took note of it before, and what was exported is in
the log when it is finished (security design, S70); one process at a time writes an export.
Rights: with a tenant, the login of readers, who see this tenant only; without, the operator's.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from audit_platform.archive.store import ArchiveStore
from audit_platform.db.pool import Connection, connected, translated
from audit_platform.db.queries import load_queries
from audit_platform.errors import LockNotAvailable
from audit_platform.events.act_event import Act
from audit_platform.events.act_log import opened_act_log
from audit_platform.events.event import ActorType
from audit_platform.exports.manifest import FinishedExport
from audit_platform.exports.order import ExportOrder, query_record
from audit_platform.exports.progress import ExportProgress
from audit_platform.exports.search_export import PageSource, run_export
from audit_platform.search.cold import Archive
from audit_platform.search.everywhere import Everywhere
from audit_platform.search.hot import Searcher
from audit_platform.settings import Settings

BEGIN_ACTION: Final = "audit.log.export.begin"
END_ACTION: Final = "audit.log.export.end"
STATEMENT_TIMEOUT_S: Final = 120.0
"""Nobody waits at a screen for one page of an export; a detach waits for a page at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """Who asks for an export, as the log keeps it."""

    name: str
    actor_type: ActorType
    run_id: str | None = None


def export_search(
    settings: Settings,
    order: ExportOrder,
    *,
    store: ArchiveStore,
    requester: Requester,
    now: datetime,
    report: Callable[[ExportProgress], None],
) -> FinishedExport:
    """Export a search over everything that is stored, or go on with it.

    Args:
        settings: Of the platform.
        order: What, in which form, under which name.
        store: Where the directory of the export is made.
        requester: For the log.
        now: Aware.
        report: Told after each page.

    Raises:
        LockNotAvailable: Another process writes an export of this name.
        QueueError: The log takes no note of it; nothing was exported.
        InvalidQuery: The name belongs to another export, or the search is refused or too slow.
        DatabaseError: As the search.
        ArchiveError: The destination takes no files, or the archive cannot be read.
    """
    with (
        _locked(settings, order, store),
        opened_act_log(settings) as log,
        opened_pages(settings, tenant=order.query.tenant_id, now=now) as pages,
    ):
        log.record(_act(BEGIN_ACTION, order, requester, _request_of(order)), now=now)
        done = run_export(order, pages=pages, store=store, now=now, report=report)
        log.record(_act(END_ACTION, order, requester, _result_of(done)), now=now)
    return done


@contextmanager
def opened_pages(settings: Settings, *, tenant: str | None, now: datetime) -> Iterator[PageSource]:
    """Connect to the search over PostgreSQL and the archive, for one block.

    Raises:
        InvalidSetting: No platform has run here and no URL is set.
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    is_operator = tenant is None
    searcher = Searcher(
        url=settings.database_url_of("maint" if is_operator else "reader"),
        is_operator=is_operator,
        timeout_s=max(STATEMENT_TIMEOUT_S, settings.search_timeout_s),
    )
    places = [settings.archive_place()]
    if settings.archive_copy_url is not None:
        places.append(settings.archive_copy_url)
    # A page of rare events may have to read months of the archive.
    with Everywhere.opened(searcher, Archive(places), is_patient=True) as everywhere:
        yield lambda query: everywhere.search(query, now=now)


@contextmanager
def _locked(settings: Settings, order: ExportOrder, store: ArchiveStore) -> Iterator[None]:
    """Hold the lock of an export's name at its destination.

    Its own connection, because a search that fails may cost its connection, and the lock with it.
    """
    role = "maint" if order.query.tenant_id is None else "reader"
    with connected(settings.database_url_of(role), application="export lock") as connection:
        if not _is_locked(connection, f"export {store.url} {order.name}"):
            raise LockNotAvailable(
                f"another process writes the export {order.name} right now: wait for it, or "
                "export under another name"
            )
        yield


def _is_locked(connection: Connection, name: str) -> bool:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    with translated():
        row = connection.execute(load_queries("exports")["lock_export"], {"key": key}).fetchone()
    return row is not None and bool(row[0])


def _act(action: str, order: ExportOrder, requester: Requester, metadata: dict[str, Any]) -> Act:
    verb = "Began" if action == BEGIN_ACTION else "Finished"
    run = {} if requester.run_id is None else {"run_id": requester.run_id}
    return Act(
        action=action,
        actor=requester.name,
        actor_type=requester.actor_type,
        entity_type="export",
        entity_id=order.name,
        description=f"{verb} an export of events as {order.format.value}",
        metadata={**metadata, **run},
    )


def _request_of(order: ExportOrder) -> dict[str, Any]:
    return {"query": query_record(order.query), "order_sha256": order.digest}


def _result_of(done: FinishedExport) -> dict[str, Any]:
    return {
        "query": dict(done.query),
        "rows": done.rows,
        "files": len(done.files),
        "manifest_sha256": done.manifest_sha256,
    }
