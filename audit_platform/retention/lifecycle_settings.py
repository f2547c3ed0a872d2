"""The settings as the life cycle takes them: rules, archive, second copy, classes.

Here: from settings and stored rules to the plain objects that steps work with, once for resources
and command line. Not here: what the rules mean (`retention/rules.py`), the steps.
Guarantee: nothing is kept; each call sees the settings and rules of this moment.

The steps are imported when they are needed: the code location, which every ingest run loads while
events wait, imports this module, and the libraries of Parquet take 0.1 s.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from audit_platform.archive.store import ArchiveStore, open_store
from audit_platform.db.pool import Connection
from audit_platform.retention.classes import read_classes
from audit_platform.retention.partition_states import LifecycleRules
from audit_platform.retention.rules import read_rules
from audit_platform.settings import Settings

if TYPE_CHECKING:
    from audit_platform.retention.advance import LifecycleContext


def read_lifecycle_rules(conn: Connection, settings: Settings) -> LifecycleRules:
    """Say when steps are due: the settings, and the longest hot time that any rule asks for.

    Args:
        conn: As `audit_maint` or the owner.
        settings: Of the platform.

    Raises:
        InvalidSetting: The preset does not exist.
    """
    rules = read_rules(conn, preset=settings.retention_preset, hot_days=settings.hot_days)
    return LifecycleRules(
        seal_after=timedelta(hours=settings.seal_after_hours),
        hot_for=rules.hot_for,
        grace=timedelta(days=settings.grace_days),
    )


def open_archive(settings: Settings) -> tuple[ArchiveStore, ArchiveStore | None]:
    """Open the archive and its second copy; None where the platform keeps one copy.

    Raises:
        InvalidSetting: A URL is of no known form.
        ArchiveUnavailable: A place cannot be reached.
    """
    copy_url = settings.archive_copy_url
    copy_store = None if copy_url is None else open_store(copy_url)
    return open_store(settings.archive_place()), copy_store


def read_lifecycle_context(conn: Connection, settings: Settings) -> "LifecycleContext":
    """Put together what the steps need.

    Raises:
        As `read_lifecycle_rules` and `open_archive`.
    """
    from audit_platform.retention.advance import LifecycleContext  # noqa: PLC0415 - see above

    store, copy_store = open_archive(settings)
    return LifecycleContext(
        rules=read_lifecycle_rules(conn, settings),
        store=store,
        copy_store=copy_store,
        classes=read_classes(conn),
        rows_per_group=settings.archive_rows_per_group,
        file_bytes=settings.archive_file_bytes,
    )
