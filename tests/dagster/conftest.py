"""A temporary Dagster instance, and the code location wired to the services of the test."""

from collections.abc import Iterator

import dagster as dg
import pytest

from audit_platform.settings import Settings
from tests.dagster.location import location_of


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance with its own storage; an ephemeral one is refused by sensors."""
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def settings_for_runs(settings: Settings) -> Settings:
    """Settings under which a drain ends soon after its last event and a tick waits shortly."""
    quick = {"drain_idle_s": 1.0, "sensor_block_ms": 100}
    return settings.model_copy(update=quick)


@pytest.fixture
def location(settings_for_runs: Settings) -> dg.Definitions:
    """A fresh code location that reads the settings of this test."""
    return location_of(settings_for_runs)
