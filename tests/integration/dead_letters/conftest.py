"""The command line beside the services of a test."""

import pytest

from audit_platform.settings import Settings
from tests.integration.dead_letters.command import URLS


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The services of this test, as a shell beside the platform would find them."""
    for name in URLS:
        monkeypatch.setenv(f"AUDIT_{name.upper()}", getattr(settings, name).get_secret_value())
    monkeypatch.setenv("AUDIT_KEY_PREFIX", settings.key_prefix)
    monkeypatch.setenv("AUDIT_DATA_DIR", str(settings.data_dir))
