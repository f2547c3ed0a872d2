"""Fields that a policy names are taken out: columns, keys at any depth, paths through lists."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.privacy.patterns import REDACTED
from audit_platform.privacy.redact_fields import parse_fields


def _applied(record: dict[str, object], *names: str) -> dict[str, object]:
    parse_fields(names).apply(record)
    return record


def test_a_column_is_masked_where_it_has_a_value() -> None:
    record: dict[str, object] = {"user_label": "Ada", "user_id": "7", "entity_label": None}

    done = _applied(record, "user_label", "entity_label")

    assert done == {"user_label": REDACTED, "user_id": "7", "entity_label": None}


def test_a_key_is_masked_at_any_depth_in_any_spelling() -> None:
    record: dict[str, object] = {
        "metadata": {"IBAN": "DE1", "list": [{"i_ban": "DE2"}], "other": "x"},
        "changes": {"iban": {"old": "DE3", "new": None}},
    }

    done = _applied(record, "iban")

    assert done["metadata"] == {"IBAN": REDACTED, "list": [{"i_ban": REDACTED}], "other": "x"}
    assert done["changes"] == {"iban": {"old": REDACTED, "new": None}}


def test_a_path_reaches_through_lists_and_no_further() -> None:
    record: dict[str, object] = {
        "metadata": {
            "customers": [{"phone": 1, "name": "a"}, {"phone": 2}, "text"],
            "phone": "stays",
        }
    }

    done = _applied(record, "metadata.customers.phone")

    assert done["metadata"] == {
        "customers": [{"phone": REDACTED, "name": "a"}, {"phone": REDACTED}, "text"],
        "phone": "stays",
    }


def test_a_whole_json_column_keeps_its_shape() -> None:
    done = _applied({"metadata": {"a": [1, {"b": True}], "c": None}}, "metadata")

    assert done["metadata"] == {"a": [REDACTED, {"b": REDACTED}], "c": None}


def test_the_caller_s_values_stay_as_they_are() -> None:
    metadata: dict[str, object] = {"iban": "DE1", "deep": {"iban": ["DE2"]}}
    before = copy.deepcopy(metadata)

    _applied({"metadata": metadata}, "iban", "metadata.deep")

    assert metadata == before


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("action", "cannot be taken out"),
        ("tenant_id", "cannot be taken out"),
        ("timestamp", "cannot be taken out"),
        ("customer.phone", "does not start with"),
        ("metadata..phone", "neither a key name nor a path"),
        ("", "neither a key name nor a path"),
        ("a\x1b[31m", "neither a key name nor a path"),
        ("x" * 300, "neither a key name nor a path"),
        ("_-_", "no letter"),
    ],
)
def test_what_cannot_be_taken_out_is_refused(name: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_fields([name])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["iban", "a", "b", "phone"]), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["iban", "a", "phone"]), _JSON, max_size=3))
def test_redacting_twice_changes_nothing(metadata: dict[str, object]) -> None:
    redaction = parse_fields(["iban", "metadata.a.phone"])
    once = redaction.without("metadata", metadata)

    assert redaction.without("metadata", once) == once
