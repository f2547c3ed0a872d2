"""The CloudTrail files of the data folder, from disk to rows and back."""

import json
from pathlib import Path
from typing import Any

import pytest

from audit_platform.cli.import_session import import_session
from audit_platform.imports.edges import ImportOptions
from audit_platform.imports.mapping_rules import load_mapping
from audit_platform.imports.rebuild import rebuild
from audit_platform.imports.report import FileOutcome
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.integration.imports.draining import draining
from tests.integration.imports.prepared import prepare, rows_of

pytestmark = pytest.mark.integration

CLOUDTRAIL = Path(__file__).parents[4] / "shared" / "data" / "cloudtrail"


@pytest.mark.skipif(not CLOUDTRAIL.is_dir(), reason="the folder shared/data/cloudtrail is absent")
def test_every_cloudtrail_record_is_rebuilt_from_its_stored_row(
    settings: Settings, database: Database
) -> None:
    files = sorted(CLOUDTRAIL.glob("*.json"))
    mapping = load_mapping("cloudtrail")
    originals: dict[str, Any] = {}
    for path in files:
        for record in json.loads(path.read_text(), **_exact)["Records"]:
            originals[record["eventID"]] = record

    with draining(settings), import_session(settings) as session:
        first = [prepare(session, path) for path in files]
        for moving in first:
            moving.send(is_repeat=False)
        reports = [moving.settle() for moving in first]
        twice = [prepare(session, path).run(ImportOptions()) for path in files]

    rows = rows_of(database)
    rebuilt = {
        record["eventID"]: record
        for record in (json.loads(rebuild(row, mapping), **_exact) for row in rows)
    }
    assert len(rows) == len(originals) == 2_900
    assert rebuilt == originals
    assert sum(report.new for report in reports) == 2_900
    assert {report.outcome for report in twice} == {FileOutcome.ALREADY_IMPORTED}


_exact: dict[str, Any] = {
    "parse_int": lambda text: ("number", text),
    "parse_float": lambda text: ("number", text),
}
