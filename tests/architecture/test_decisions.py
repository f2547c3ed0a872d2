"""Decision records: numbered once each, in order, with date and status."""

import re
from pathlib import Path

import pytest

from tests.architecture.source_tree import ROOT

DIRECTORY = ROOT / "docs" / "decisions"
RECORDS = sorted(path for path in DIRECTORY.glob("*.md") if path.name[0].isdigit())
FORM = re.compile(r"\A# (\d{4}): .+\n\n\d{4}-\d{2}-\d{2}\. Status: (accepted|replaced by \d{4})\.")


def test_numbers_have_neither_gap_nor_repetition() -> None:
    numbers = [int(path.name[:4]) for path in RECORDS]

    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_record_has_number_date_and_status(record: Path) -> None:
    match = FORM.match(record.read_text(encoding="utf-8"))

    assert match, "see docs/decisions/template.md"
    assert match[1] == record.name[:4]
    assert re.fullmatch(r"\d{4}-[a-z0-9]+(-[a-z0-9]+)*\.md", record.name)
