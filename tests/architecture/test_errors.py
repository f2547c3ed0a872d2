"""The error tree: drawn as it is, every class raised somewhere and tested somewhere."""

import inspect
import re

import pytest

from audit_platform import errors
from audit_platform.errors import AuditPlatformError
from tests.architecture.source_tree import PACKAGE_MODULES, TEST_MODULES

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, AuditPlatformError) and value.__module__ == errors.__name__
]
LEAVES = [error for error in CLASSES if not error.__subclasses__()]
DRAWN = re.compile(r"^ *[│├└─ ]*(?P<name>[A-Z][A-Za-z]+)(?P<rest>.*)$")


def _drawn() -> dict[str, str]:
    tree = (errors.__doc__ or "").partition("    AuditPlatformError")
    lines = (tree[1] + tree[2]).splitlines()
    return {match["name"]: match["rest"] for line in lines if (match := DRAWN.match(line))}


def test_drawing_names_every_class_once() -> None:
    assert sorted(_drawn()) == sorted(error.__name__ for error in CLASSES)


def test_drawing_marks_the_retryable_ones() -> None:
    marked = {name for name, rest in _drawn().items() if "retryable" in rest}

    assert marked == {error.__name__ for error in CLASSES if error.retryable}


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_default_message_names_cause_and_remedy(error: type[AuditPlatformError]) -> None:
    sentences = re.findall(r"[^.]+\.", " ".join((error.__doc__ or "").split()))

    assert len(sentences) >= 2, "two sentences: cause, then remedy"


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_error_is_raised_somewhere(error: type[AuditPlatformError]) -> None:
    users = [
        module.name
        for module in PACKAGE_MODULES
        if module.name != "audit_platform/errors.py" and error.__name__ in module.names
    ]

    assert users, "raise it where it happens, or remove it"


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_error_is_tested_somewhere(error: type[AuditPlatformError]) -> None:
    tests = [
        module.name
        for module in TEST_MODULES
        if "architecture" not in module.path.parts and error.__name__ in module.names
    ]

    assert tests
