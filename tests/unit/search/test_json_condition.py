"""Metadata filters decided on JSON text; the comparison with PostgreSQL is in test_everywhere."""

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.search.json_condition import all_hold, json_conditions

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 4_000)
    | st.sampled_from([3.5, 3600.0, 1e22, "a", "3600", "true", "null", "x/y", "é", 'say "hi"', ""])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abé/"), inner),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("stored", "path", "value"),
    [
        ('{"a":{"b":[1,"x"]}}', "a.b[1]", "x"),
        ('{"a": {"b": 2.50}}', "a.b", "2.5"),
        ('{"a": 36e2 }', "a", "3600"),
        ('{"a":"3600"}', "a", "3600"),
        ('{"a":"3600"}', "a", '"3600"'),
        ('{"n":12345678901234567890123}', "n", "12345678901234567890123"),
        ('{"n":1e400}', "n", "1E+400"),
        ('{"n":-0.0}', "n", "0"),
        ('{"ok":true}', "ok", "true"),
        ('{"ok":null}', "ok", "null"),
        ('{"ok":"null"}', "ok", "null"),
        ('{"\\u0061":"\\u0078"}', "a", "x"),
        ('{"x.y":{"é":"ß"}}', '"x.y".é', "ß"),
        ('{"a":1,"a":2}', "a", "2"),
    ],
)
def test_value_at_the_path_is_found(stored: str, path: str, value: str) -> None:
    conditions = json_conditions({path: value})

    assert all_hold(conditions, stored)
    assert _passes_hints(stored, {path: value})


@pytest.mark.parametrize(
    ("stored", "path", "value"),
    [
        ('{"a":[{"b":1}]}', "a.b", "1"),
        ('{"a":{"0":1}}', "a[0]", "1"),
        ('{"a":[1]}', "a", "1"),
        ('{"a":[1]}', "a[1]", "1"),
        ('{"n":12345678901234567890124}', "n", "12345678901234567890123"),
        ('{"n":3600}', "n", '"3600"'),
        ('{"ok":1}', "ok", "true"),
        ('{"ok":true}', "ok", "1"),
        ('{"ok":false}', "ok", "null"),
        ('{"a":{}}', "a", "{}"),
        ('{"a":"x "}', "a", "x"),
        ("{}", "a", "null"),
        ("[1]", "a", "1"),
        ('{"a":', "a", "1"),
    ],
)
def test_other_value_type_or_path_is_no_match(stored: str, path: str, value: str) -> None:
    assert not all_hold(json_conditions({path: value}), stored)


def test_all_conditions_must_hold() -> None:
    conditions = json_conditions({"a": "1", "b": "2"})

    assert all_hold(conditions, '{"a":1,"b":2}')
    assert not all_hold(conditions, '{"a":1,"b":3}')


@given(
    st.dictionaries(st.sampled_from("abé/"), values, max_size=3),
    st.sampled_from("abé/"),
    scalars,
    st.booleans(),
)
def test_hints_rule_out_no_match(
    metadata: dict[str, Any], key: str, value: Any, is_ascii: bool
) -> None:
    metadata = metadata | {key: value}
    stored = json.dumps(metadata, ensure_ascii=is_ascii)
    wanted = value if isinstance(value, str) and value else json.dumps(value)
    conditions = {f'"{key}"': wanted}

    assert all_hold(json_conditions(conditions), stored)
    assert _passes_hints(stored, conditions)


def test_hints_rule_out_texts_without_key_or_value() -> None:
    conditions = {"plan": "pro"}

    assert not _passes_hints('{"tier":"pro"}', conditions)
    assert not _passes_hints('{"plan":"free"}', conditions)
    assert not _passes_hints('{"seats":12}', {"seats": "13"})


def _passes_hints(stored: str, conditions: dict[str, str]) -> bool:
    hints = [hint for one in json_conditions(conditions) for hint in one.patterns()]
    return all(pl.Series([stored]).str.contains(hint)[0] for hint in hints)
