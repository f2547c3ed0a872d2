"""Dagster resources: settings, and the plain objects that the domain works with.

Here: thin wrappers, so that tests and the launchpad can hand in other settings. Not here: any
logic, any pool that outlives a block. Nothing is read or connected before a body asks.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import Field

from audit_platform.db.pool import OWNER_ROLE, Connection, connected
from audit_platform.events.backlog import LONGEST_READ_MS, Backlog
from audit_platform.events.janitor import Janitor
from audit_platform.settings import Settings, load_settings


class SettingsResource(dg.ConfigurableResource):
    """Settings of the platform, read from the environment when asked."""

    overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings by field name that win over the environment; for tests.",
    )

    def load(self) -> Settings:
        """Read all sources now, so that a long-lived code server sees changes.

        Raises:
            InvalidSetting: Names the variable, the problem and the accepted range.
        """
        return load_settings(**self.overrides)


class DatabaseResource(SettingsResource):
    """Connections to PostgreSQL, one per block, by role."""

    @contextmanager
    def owner(self, application: str) -> Iterator[Connection]:
        """Connect as maintenance and take on the owner: partitions, checks.

        Raises:
            InvalidSetting: No URL is set.
            DatabaseUnavailable: PostgreSQL does not answer.
        """
        url = self.load().database_url_of("maint")
        with connected(url, application=application, role=OWNER_ROLE) as conn:
            yield conn

    @contextmanager
    def writer(self, application: str) -> Iterator[Connection]:
        """Connect as the ingest job does: leases.

        Raises:
            InvalidSetting: No URL is set.
            DatabaseUnavailable: PostgreSQL does not answer.
        """
        url = self.load().database_url_of("writer")
        with connected(url, application=application) as conn:
            yield conn


class StreamResource(SettingsResource):
    """The Redis streams, as the sensor sees them and as the janitor clears them up."""

    @contextmanager
    def backlog(self) -> Iterator[Backlog]:
        """Connect as the sensor user, which can look and wait but not take."""
        settings = self.load()
        backlog = Backlog(
            settings.redis_url_of("sensor"),
            key_prefix=settings.key_prefix,
            block_ms=LONGEST_READ_MS,
        )
        try:
            yield backlog
        finally:
            backlog.close()

    @contextmanager
    def janitor(self) -> Iterator[Janitor]:
        """Connect as the janitor, which removes leftovers and can read no event."""
        settings = self.load()
        janitor = Janitor(settings.redis_url_of("janitor"), key_prefix=settings.key_prefix)
        try:
            yield janitor
        finally:
            janitor.close()


def platform_resources(overrides: Mapping[str, Any] | None = None) -> dict[str, object]:
    """Make the resources, by the name that bodies ask for.

    Args:
        overrides: Settings by field name that win over the environment; for tests.
    """
    # Each reads the settings itself: for a resource inside a resource Dagster uses a deprecated
    # property of its own and warns at every tick (1.13.27).
    given = dict(overrides or {})
    return {
        "settings": SettingsResource(overrides=given),
        "database": DatabaseResource(overrides=given),
        "stream": StreamResource(overrides=given),
    }
