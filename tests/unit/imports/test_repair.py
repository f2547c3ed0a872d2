"""Repairs set what was wrong and leave every other byte alone."""

import json

import pytest

from audit_platform.errors import InvalidEvent, InvalidQuery
from audit_platform.imports.mapping_rules import load_mapping
from audit_platform.imports.repair import Repair, parse_change

LINE = b'{"action": "a.b", "severity": 9, "x": 1.10, "metadata": {"n": 1e400}}'


def _line(raw: bytes, *changes: str) -> bytes:
    repair = Repair(changes=[parse_change(change) for change in changes])
    return repair.line(raw, fallback_id="f")


def test_without_changes_the_very_bytes_stay() -> None:
    assert _line(b'\xff{"a" :1}\n') == b'\xff{"a" :1}\n'


def test_what_is_not_addressed_keeps_its_bytes() -> None:
    assert _line(LINE, "severity=3", "metadata.plan=pro") == (
        b'{"action":"a.b","severity":3,"x":1.10,"metadata":{"n":1e400,"plan":"pro"}}'
    )


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("severity=3", 3),
        ("user_id=42", "42"),
        ('user_id="42"', "42"),
        ("note=free text", "free text"),
        ("note=", ""),
        ("flag=true", True),
        ('changes={"a": {"old": 1}}', {"a": {"old": 1}}),
        ('note=1,"action":"injected"', '1,"action":"injected"'),
        ('note=1},"b":{"c":2', '1},"b":{"c":2'),
        ("note=a=b", "a=b"),
        ("note=NaN", "NaN"),
        ('note={"a":1,"a":2}', '{"a":1,"a":2}'),
        ("note=\ud800", "?"),
    ],
)
def test_a_value_is_json_or_else_text(change: str, value: object) -> None:
    found = json.loads(_line(b'{"action":"a.b"}', change))

    assert found == {"action": "a.b", change.partition("=")[0]: value}


def test_null_takes_a_value_away_whether_it_is_there_or_not() -> None:
    assert _line(LINE, "severity=null", "metadata=null", "none=null", "x.y=null") == (
        b'{"action":"a.b","x":1.10}'
    )


@pytest.mark.parametrize("raw", [b"{", b"[]", b"7", b"\xff", b"", b"[" * 50_000])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidEvent, match="is no JSON object"):
        _line(raw, "severity=3")


@pytest.mark.parametrize("change", ["none.plan=pro", "action.plan=pro"])
def test_a_path_without_an_object_around_it_is_named(change: str) -> None:
    with pytest.raises(InvalidEvent, match="has no object around it"):
        _line(LINE, change)


@pytest.mark.parametrize("change", ["severity", "=3", "a[0]=3", "a..b=3", ""])
def test_a_change_of_another_form_is_refused(change: str) -> None:
    with pytest.raises(InvalidQuery, match="--set"):
        parse_change(change)


def test_fields_of_an_entry_are_set_taken_away_and_mapped() -> None:
    fields = {b"action": b"door.open", b"src": b"doors", b"junk": b"\xff", b"n": b"007"}
    changes = [parse_change(text) for text in ("junk=null", "time=2026-03-01T10:00:00Z")]
    mapping = load_mapping("generic")

    plain = Repair(changes=changes).entry(fields, fallback_id="f")
    mapped = Repair(changes=[*changes, parse_change("source=doors")], mapping=mapping)
    wire = mapped.entry(fields, fallback_id="f")

    assert plain == {
        b"action": b"door.open",
        b"src": b"doors",
        b"n": b"007",
        b"time": b"2026-03-01T10:00:00Z",
    }
    assert json.loads(wire[b"event"])["metadata"] == {"src": "doors", "n": "007"}
    assert wire == mapped.entry(fields, fallback_id="f")


def test_a_field_that_is_no_text_cannot_be_mapped() -> None:
    with pytest.raises(InvalidEvent, match="not UTF-8"):
        Repair(mapping=load_mapping("generic")).entry({b"a": b"\xff"}, fallback_id="f")
