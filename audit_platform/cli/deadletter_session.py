"""Dead letters with the services of a running platform.

Here: connections and repairs from settings and options. Not here: options themselves
(`cli/deadletter.py`), the acts (`events/redrive.py`).
Rights: the login `audit_maint` as owner; the writer can neither read nor close a letter.
"""

import os
import pwd
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from audit_platform.db.pool import OWNER_ROLE, connected
from audit_platform.events.dead_letter import DeadLetterVault
from audit_platform.events.dead_letter_rows import LetterTable
from audit_platform.events.identity import TAIL_BITS
from audit_platform.events.normalise import FrameLimits
from audit_platform.events.redrive import RedriveEdges
from audit_platform.events.stream import Appender
from audit_platform.imports.mapping_rules import load_mapping
from audit_platform.imports.repair import Repair, parse_change
from audit_platform.settings import Settings, load_settings


@contextmanager
def opened_table() -> Iterator[LetterTable]:
    """Connect to the table.

    Raises:
        InvalidSetting: No platform has run here and no URL or key is set.
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    with _table(load_settings()) as table:
        yield table


@contextmanager
def acting_edges() -> Iterator[RedriveEdges]:
    """Connect to the table and to the stream.

    Raises:
        InvalidSetting: No platform has run here and no URL or key is set.
        DatabaseUnavailable: PostgreSQL does not answer.
        QueueUnavailable: Redis does not answer.
    """
    settings = load_settings()
    with (
        _table(settings) as table,
        Appender(
            settings.redis_url.get_secret_value(),
            key_prefix=settings.key_prefix,
            timeout_ms=settings.redis_timeout_ms,
        ) as appender,
    ):
        appender.ping()
        yield RedriveEdges(
            table=table,
            appender=appender,
            key_prefix=settings.key_prefix,
            tenant_id=settings.tenant_id,
            shards=settings.shards,
            limits=FrameLimits(
                max_event_bytes=settings.max_event_bytes,
                max_json_depth=settings.max_json_depth,
                max_json_keys=settings.max_json_keys,
                future_tolerance_s=settings.future_tolerance_s,
            ),
            now=lambda: datetime.now(UTC),
            tail74=lambda: secrets.randbits(TAIL_BITS),
        )


def make_repair(changes: Sequence[str], mapping: str | None) -> Repair:
    """Read what is to be done to each record.

    Raises:
        InvalidQuery: A change has not the form field=value.
        InvalidMapping: The mapping does not exist or breaks a rule.
    """
    return Repair(
        changes=[parse_change(change) for change in changes],
        mapping=None if mapping is None else load_mapping(mapping),
    )


def system_user() -> str:
    """Name of the user that runs this process, not what its environment says."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


@contextmanager
def _table(settings: Settings) -> Iterator[LetterTable]:
    vault = DeadLetterVault.of_settings(settings)
    url = settings.database_url_of("maint")
    with connected(url, application="deadletter", role=OWNER_ROLE) as connection:
        yield LetterTable(connection, vault)
