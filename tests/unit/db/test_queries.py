"""The loader of named queries refuses what a reader would trip over."""

import pytest

from audit_platform.db import queries
from audit_platform.db.queries import load_queries


def test_every_query_is_found_by_its_name_without_comments() -> None:
    loaded = load_queries("events")

    assert loaded["check_fence"].startswith("select")
    assert not any("--" in statement for statement in loaded.values())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-- name: a\nselect 1", "second line"),
        ("-- name: a\n-- description: no statement\n", "no statement"),
    ],
)
def test_an_incomplete_query_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        list(queries._parse(text))
