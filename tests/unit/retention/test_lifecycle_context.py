"""What a life of a partition does unless somebody says otherwise."""

from dataclasses import fields

from audit_platform.archive.verify_apart import verify_apart
from audit_platform.retention.advance import LifecycleContext


def test_an_archive_is_proved_by_a_process_of_its_own_unless_a_test_asks_for_less() -> None:
    defaults = {field.name: field.default for field in fields(LifecycleContext)}

    assert defaults["verifier"] is verify_apart
