"""Processes that kill themselves in the middle of a merge or of a deletion.

Here: parts that are handed in and send SIGKILL where the real ones would act. Each runs in a
process of its own, started anew, as a job would be.
"""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing import get_context
from typing import Any, NoReturn

from audit_platform.archive.local_store import LocalStore
from audit_platform.archive.store import ArchiveStore
from audit_platform.db.pool import Connection, connected
from audit_platform.events.act_event import Act
from audit_platform.events.act_log import ActLog, opened_act_log
from audit_platform.events.dead_letter import DeadLetterVault, Sealed
from audit_platform.events.stream import Appender
from audit_platform.retention.classes import RetentionClasses
from audit_platform.retention.expire import Deletion, expire_file
from audit_platform.retention.late_expiry import LateDeletion, expire_late
from audit_platform.retention.late_rows import LateMerge, merge_late
from audit_platform.retention.old_generations import OldFiles, settle_generations
from audit_platform.retention.rules import RuleBook
from audit_platform.settings import load_settings
from tests.conftest import KEY
from tests.integration.retention.creation import until
from tests.integration.retention.lives import Life


def die() -> NoReturn:
    """End this process as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class DeadlyLog(ActLog):
    """Dies where the event of an act would be appended: the act is done, its commit is not."""

    def record(self, act: Act, *, now: datetime, tail74: int | None = None) -> None:
        del act, now, tail74
        die()


class DeadlyVault(DeadLetterVault):
    """Dies where a row that was taken away would become a dead letter."""

    def seal(self, raw: bytes) -> Sealed:
        del raw
        die()


class DeadlyStore(LocalStore):
    """Dies after the first file that it deletes."""

    def delete(self, path: str) -> bool:
        super().delete(path)
        die()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a process needs to find the services of a test; it can be sent to one."""

    maint_url: str
    redis_url: str
    key_prefix: str
    life: Life
    now: datetime
    deadly: str


def merge(place: Place) -> None:
    """Merge late rows, and die at `deadly`."""
    store = place.life.context().store
    with connected(place.maint_url, application="doomed") as conn, _log(place) as log:
        vault = DeadlyVault if place.deadly == "vault" else DeadLetterVault
        given = LateMerge(store=store, log=log, vault=vault.of_base64(KEY), interval="day")
        merge_late(conn, given, now=place.now)


def settle(place: Place) -> None:
    """Delete a former generation, and die at `deadly`."""
    with connected(place.maint_url, application="doomed") as conn, _log(place) as log:
        store, copy_store = _stores(place)
        given = OldFiles(store=store, copy_store=copy_store, log=log, keep=timedelta(days=1))
        settle_generations(conn, given, now=place.now)


def expire(place: Place, book: RuleBook, path: str) -> None:
    """Take a file one step further, and die at `deadly`."""
    with connected(place.maint_url, application="doomed") as conn, _log(place) as log:
        store, copy_store = _stores(place)
        given = Deletion(book=book, store=store, copy_store=copy_store, log=log)
        expire_file(conn, place.life.name, path, given, now=place.now)


def expire_rows(place: Place, book: RuleBook) -> None:
    """Delete late rows whose time is over, and die at `deadly`."""
    with connected(place.maint_url, application="doomed") as conn, _log(place) as log:
        given = LateDeletion(book=book, classes=RetentionClasses(), log=log)
        expire_late(conn, place.life.name, given, now=place.now)


def killed(admin: Connection, target: Callable[..., None], *arguments: Any) -> None:
    """Run a function in a new process, see that it was killed, and that its session is over.

    PostgreSQL notices a dead client when it next reads from it; until then its locks are held.
    """
    process = get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL, f"the fault happened: {process.exitcode}"
    until(lambda: not _sessions(admin), what="the session of the killed process ends")


def _sessions(admin: Connection) -> int:
    row = admin.execute(
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and application_name = 'audit-platform doomed'"
    ).fetchone()
    assert row is not None
    return row[0]


def _log(place: Place) -> AbstractContextManager[ActLog]:
    settings = load_settings(redis_url=place.redis_url, key_prefix=place.key_prefix)
    if place.deadly != "log":
        return opened_act_log(settings)
    appender = Appender(place.redis_url, key_prefix=place.key_prefix)
    return nullcontext(DeadlyLog(appender, tenant_id="default", shards=1))


def _stores(place: Place) -> tuple[ArchiveStore, ArchiveStore]:
    classes = [DeadlyStore if place.deadly == name else LocalStore for name in ("archive", "copy")]
    return classes[0](place.life.archive), classes[1](place.life.copy)
