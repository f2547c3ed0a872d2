"""Mapping files: what is accepted, and the error for everything else."""

from pathlib import Path

import pytest

from audit_platform.errors import InvalidMapping
from audit_platform.imports.mapping_rules import load_mapping, parse_mapping, shipped_mappings

BASE = """
name: own
version: 1
description: A test
timestamp: {move: at, form: seconds}
fields:
  source: {default: own}
  action: {move: verb}
"""


def test_shipped_mappings_load_and_formats_have_one_each() -> None:
    shipped = shipped_mappings()

    assert set(shipped) == {"cloudtrail", "generic", "github", "kubernetes"}
    records = [name for mapping in shipped.values() for name in mapping.records]
    assert sorted(records) == ["cloudtrail", "csv", "json", "ndjson", "parquet"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "no YAML at line"),
        ("name: x", "missing required field"),
        (BASE + "colour: red\n", "unknown field `colour`"),
        (BASE + "  colour: {copy: [x]}\n", "fields.colour: is no column"),
        (BASE + "  metadata: {copy: [x]}\n", "fields.metadata: is no column"),
        (BASE + "  user_id: {mov: x}\n", "unknown field `mov`"),
        (BASE + "  user_id: {}\n", "fields.user_id: needs move, take, copy, cases or default"),
        (BASE + "  user_id: {move: x, copy: [y]}\n", "use one of move, take and copy"),
        (BASE + "  user_id: {move: x, table: {a: b}}\n", "cannot be inverted"),
        (BASE + "  status: {move: x}\n", "kind enum cannot give the value back"),
        (BASE + "  status: {default: fine}\n", "'fine' is not one of"),
        (BASE + "  user_id: {move: verb.x}\n", "verb.x overlaps another moved path"),
        (BASE + "  user_id: {move: 'a[0]'}\n", "array element cannot be removed"),
        (BASE + "  user_id: {copy: ['a..b']}\n", "path 'a..b' is not understood at character 3"),
        (BASE + "  user_id: {copy: ['a.']}\n", "dot without a key"),
        (BASE + "  entity_type: {default: " + "x" * 51 + "}\n", "longer than 50 characters"),
        (BASE.replace("version: 1", "version: one"), "$.version"),
        (BASE.replace("  action: {move: verb}\n", ""), "fields.action: is required"),
        (BASE.replace("move: at, ", ""), "timestamp needs move or take"),
        (BASE.replace("name: own", "name: a/b"), "name must not"),
    ],
)
def test_mistake_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidMapping) as caught:
        parse_mapping(text.encode(), origin="own.yaml")

    assert caught.value.message.startswith("own.yaml: ")
    assert message.lower() in caught.value.message.lower()


def test_own_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(BASE)
    first = load_mapping(str(path)).key
    path.write_text(BASE + "  user_id: {copy: [who]}\n")

    assert first.startswith("own/1:")
    assert load_mapping(str(path)).key != first
    assert load_mapping("cloudtrail").key == "cloudtrail/1"


def test_unknown_mapping_names_the_known_ones() -> None:
    with pytest.raises(InvalidMapping, match="cloudtrail, generic, github, kubernetes"):
        load_mapping("nothing")
