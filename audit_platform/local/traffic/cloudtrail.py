"""Real audit logs for the demo: which events a directory of AWS CloudTrail files must bring.

Here: the files and the ids of their events. Not here: the import (`imports/file_import.py`), the
mapping (`imports/mappings/cloudtrail.yaml`).
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from audit_platform.errors import InvalidEvent
from audit_platform.imports.file_format import FileFormat
from audit_platform.imports.files import find_files, read_records
from audit_platform.imports.mapping import map_record
from audit_platform.imports.mapping_rules import Mapping, load_mapping

MAPPING: Final = "cloudtrail"


def cloudtrail_files(directory: Path) -> list[Path]:
    """List the CloudTrail files below a directory, in order of name."""
    chosen, _passed = find_files([directory])
    return chosen


def event_ids(files: Sequence[Path]) -> frozenset[str]:
    """Name the events that an import of these files must bring; rejected records are none."""
    mapping = load_mapping(MAPPING)
    return frozenset(event_id for path in files for event_id in _ids_of(path, mapping))


def _ids_of(path: Path, mapping: Mapping) -> Iterator[str]:
    for record in read_records(path, FileFormat.CLOUDTRAIL):
        # Every record has an id of its own, so the fallback is never used.
        with suppress(InvalidEvent):
            yield map_record(record.raw, mapping, fallback_id="").event_id
