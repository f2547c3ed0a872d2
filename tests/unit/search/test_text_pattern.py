"""The text filter over archived text finds what PostgreSQL's expression finds."""

import string

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.search.query import EventQuery, parameters
from audit_platform.search.text_pattern import text_pattern

# Letters whose two cases are not one to one, and characters that mean something in a pattern.
NASTY = "aAkKiIsS éÉßẞİıςσΣΜµμǅǆǄÅÅK.*+?()[]{}|^$\\-&~#\n%_'\"😀"  # noqa: RUF001 - meant
# An asterisk alone is refused before it is a pattern.
texts = st.text(NASTY, min_size=1, max_size=6).filter(lambda text: text != "*")


def _found_by_postgres(stored: str, text: str) -> bool:
    """strpos(translate(lower(stored), fold_from, fold_to), text) > 0, `lower` of the C locale."""
    given_parameters = parameters(EventQuery(text=text))
    lower = "".join(c.lower() if c in string.ascii_uppercase else c for c in stored)
    folds: dict[str, str] = {}
    for upper, folded in zip(
        given_parameters["fold_from"], given_parameters["fold_to"], strict=True
    ):
        folds.setdefault(upper, folded)
    return given_parameters["text"] in "".join(folds.get(c, c) for c in lower)


@given(texts, st.lists(st.text(NASTY, max_size=12), min_size=1, max_size=20))
def test_pattern_finds_what_the_statement_finds(text: str, stored: list[str]) -> None:
    stored = [*stored, text, text.upper(), text.lower(), f"x{text.swapcase()}y"]
    pattern = text_pattern(text)

    if pattern is None:
        found = [False] * len(stored)
    else:
        found = pl.Series(stored).str.contains(pattern).to_list()

    assert found == [_found_by_postgres(one, text) for one in stored]


@pytest.mark.parametrize(
    ("text", "stored"),
    [("ÉMILE", "Émile"), ("50% ä", "x 50% Ä"), ("a.c", "A.C"), ("x\ny", "X\nY")],
)
def test_case_and_meaning_of_characters_are_ignored(text: str, stored: str) -> None:
    pattern = text_pattern(text)

    assert pattern is not None
    assert pl.Series([stored, "abc"]).str.contains(pattern).to_list() == [True, False]


def test_two_thousand_characters_are_one_pattern() -> None:
    text = "aé😀" * 700
    pattern = text_pattern(text)

    assert pattern is not None
    assert pl.Series([text.upper()]).str.contains(pattern).to_list() == [True]
