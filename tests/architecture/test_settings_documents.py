"""`.env.example` equals the settings, every setting is used, and each says what it is."""

import re

import pytest

from audit_platform.settings import ENV_PREFIX, Settings
from tests.architecture import env_example
from tests.architecture.source_tree import PACKAGE_MODULES, ROOT

SETTINGS_FILE = "audit_platform/settings.py"
# Read through `database_url_of("writer")` and `redis_url_of("sensor")`.
URL_OF_ROLE = re.compile(r"^(?:redis_(?P<user>\w+)|(?P<role>writer|reader|maint|dagster))_url$")
# Read through `settings.archive_place()` and `settings.export_place()`, which know the defaults.
READ_BY = {"archive_url": "archive_place", "export_dir": "export_place"}
every_setting = pytest.mark.parametrize("name", sorted(Settings.model_fields))


def test_example_file_equals_the_settings() -> None:
    written = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert written == env_example.render(), "run `make docs`"


@every_setting
def test_setting_is_used(name: str) -> None:
    words = {name}
    if match := URL_OF_ROLE.match(name):
        words.add(match["user"] or match["role"])
    users = [
        module.name
        for module in PACKAGE_MODULES
        if module.name != SETTINGS_FILE
        and ({name, READ_BY.get(name)} & set(module.names) or words & module.strings)
    ]

    assert users, "use it or remove it"


@every_setting
def test_setting_says_what_it_is(name: str) -> None:
    assert Settings.model_fields[name].description


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "SECURITY.md", ".env.example"]
)
def test_documents_name_only_variables_that_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    # AUDIT_TEST_*: read by the tests themselves. AUDIT_*_URL: a family of settings.
    named = {
        name
        for name in re.findall(rf"\b{ENV_PREFIX}[A-Z0-9_]*[A-Z0-9]\b", text)
        if not name.startswith(f"{ENV_PREFIX}TEST_")
    }

    assert named <= {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
