"""docs/faults.md names every fault of the catalogue once, and tests that exist."""

import ast
import re
from typing import Final

import pytest

from tests.architecture.source_tree import ROOT

TEXT: Final = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS: Final = re.findall(r"^\| ([FNRPBA]\d\d) \| .* \| (.*) \|$", TEXT, re.MULTILINE)
NAMED: Final = sorted({name for _, cell in ROWS for name in re.findall(r"`(tests/[^`]+)`", cell)})
LAST: Final = {"F": 25, "N": 11, "R": 13, "P": 12, "B": 32, "A": 8}


def test_every_fault_has_one_row() -> None:
    expected = [
        f"{kind}{number:02}" for kind, last in LAST.items() for number in range(1, last + 1)
    ]

    assert [row[0] for row in ROWS] == expected


def test_a_fault_without_a_test_says_why() -> None:
    unexplained = [row[0] for row in ROWS if "`tests/" not in row[1] and row[1][:6] != "none: "]

    assert not unexplained


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))

    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
