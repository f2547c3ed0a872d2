"""Mappings applied to single records: where values go, what stays, what comes back."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.events.identity import from_external, uuid7_ms
from audit_platform.imports.file_format import FileFormat
from audit_platform.imports.files import read_records
from audit_platform.imports.mapping import map_record
from audit_platform.imports.mapping_rules import load_mapping
from audit_platform.imports.rebuild import rebuild
from tests.unit.events.mapped import exact, stored_row, wire_of

CLOUDTRAIL_DIR = Path(__file__).parents[4] / "shared" / "data" / "cloudtrail"
CLOUDTRAIL = load_mapping("cloudtrail")
GENERIC = load_mapping("generic")

RECORD: dict[str, Any] = {
    "eventVersion": "1.08",
    "userIdentity": {
        "type": "AssumedRole",
        "arn": "arn:aws:sts::1:assumed-role/ops/ann",
        "accountId": "1",
        "sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::1:role/ops", "userName": "ops"}},
    },
    "eventTime": "2023-07-10T11:42:36Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "sourceIPAddress": "192.0.2.1",
    "userAgent": "cli",
    "requestID": "r-1",
    "eventID": "293ba626-3be5-4a26-ab1b-0f4c54f49959",
    "recipientAccountId": "2",
    "resources": [{"type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::b"}],
    "responseElements": None,
}


def test_cloudtrail_fields_go_to_their_columns() -> None:
    wire = wire_of(RECORD, CLOUDTRAIL)

    assert wire["timestamp"] == "2023-07-10T11:42:36.000000Z"
    assert (wire["source"], wire["action"]) == ("s3.amazonaws.com", "GetObject")
    assert (wire["tenant_id"], wire["status"], wire["actor_type"]) == ("2", "success", "service")
    assert (wire["entity_type"], wire["entity_id"]) == ("AWS::S3::Bucket", "arn:aws:s3:::b")
    assert wire["user_id"] == "arn:aws:sts::1:assumed-role/ops/ann"
    assert wire["user_label"] == "ops"
    assert wire["impersonator_id"] == "arn:aws:iam::1:role/ops"
    assert wire["context"] == {
        "external_id": RECORD["eventID"],
        "ip": "192.0.2.1",
        "user_agent": "cli",
        "request_id": "r-1",
    }
    assert wire["metadata"]["responseElements"] is None
    assert not {"eventTime", "eventSource", "eventName", "eventID"} & wire["metadata"].keys()


def test_id_comes_from_the_external_id_and_the_time() -> None:
    wire = wire_of(RECORD, CLOUDTRAIL)

    assert wire["id"] == from_external(
        1_688_989_356_000,
        tenant_id="2",
        source="s3.amazonaws.com",
        external_id=RECORD["eventID"],
    )
    assert uuid7_ms(wire["id"]) == 1_688_989_356_000


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("AccessDenied", "denied"),
        ("AccessDeniedException", "denied"),
        ("Client.UnauthorizedOperation", "denied"),
        ("ThrottlingException", "failure"),
        (None, "success"),
    ],
)
def test_error_code_decides_the_status(code: str | None, status: str) -> None:
    assert wire_of(RECORD | {"errorCode": code}, CLOUDTRAIL)["status"] == status


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"eventTime": "2023-07-10T11:42:36.5Z"},
        {"eventTime": "2023-07-10T13:42:36+02:00"},
        {"eventTime": "2023-07-10T11:42:36.123456789Z"},
        {"errorCode": None},
        {"recipientAccountId": "default"},
        {"userAgent": ""},
        {"userAgent": {"not": ["a", "text"]}},
        {"requestID": 12345678901234567890123},
        {"sourceIPAddress": "\u202e\x1b[31m"},
        {"resources": []},
        {"userIdentity": {"type": "IAMUser", "arn": "x" * 300}},
        {"metadata": {"a": 1}, "context": {"b": 2}, "id": "own"},
        {"action": "also here", "timestamp": "2023"},
    ],
)
def test_record_is_rebuilt_whatever_its_values(change: dict[str, Any]) -> None:
    raw = json.dumps(RECORD | change).encode()

    mapped = map_record(raw, CLOUDTRAIL, fallback_id="f:1")

    assert exact(rebuild(stored_row(mapped.wire), CLOUDTRAIL)) == exact(raw)


@pytest.mark.parametrize("missing", sorted(set(RECORD) - {"eventTime", "eventSource", "eventName"}))
def test_record_is_rebuilt_whatever_is_missing(missing: str) -> None:
    raw = json.dumps({key: value for key, value in RECORD.items() if key != missing}).encode()

    mapped = map_record(raw, CLOUDTRAIL, fallback_id="f:1")

    assert exact(rebuild(stored_row(mapped.wire), CLOUDTRAIL)) == exact(raw)


@pytest.mark.skipif(
    not CLOUDTRAIL_DIR.is_dir(), reason="the folder shared/data/cloudtrail is absent"
)
def test_every_cloudtrail_record_is_rebuilt_from_its_wire_form() -> None:
    count = 0
    for path in sorted(CLOUDTRAIL_DIR.glob("*.json")):
        for record in read_records(path, FileFormat.CLOUDTRAIL):
            mapped = map_record(record.raw, CLOUDTRAIL, fallback_id="f:1")
            assert exact(rebuild(stored_row(mapped.wire), CLOUDTRAIL)) == exact(record.raw)
            count += 1

    assert count == 2_900


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | text
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
optional = sorted(set(RECORD) - {"eventTime", "eventSource", "eventName"})
cloudtrail_values = st.dictionaries(
    st.sampled_from([*optional, "errorCode", "errorMessage", "additionalEventData", "apiVersion"])
    | text.filter(lambda key: key not in RECORD),
    json_values,
    max_size=8,
)


@given(cloudtrail_values)
def test_any_record_is_rebuilt(change: dict[str, Any]) -> None:
    raw = json.dumps(RECORD | change).encode()

    mapped = map_record(raw, CLOUDTRAIL, fallback_id="f:1")

    assert exact(rebuild(stored_row(mapped.wire), CLOUDTRAIL)) == exact(raw)


@given(st.dictionaries(text, json_values, max_size=6))
def test_metadata_keeps_every_value_and_the_text_of_its_numbers(metadata: dict[str, Any]) -> None:
    raw = json.dumps(metadata, ensure_ascii=False)
    line = f'{{"action":"a","time":"2025-01-01T00:00:00Z","metadata":{raw},"n":1.10}}'
    if "n" in metadata:
        return

    wire = map_record(line.encode(), GENERIC, fallback_id="f:1").wire

    stored = msgspec.json.decode(wire, type=dict[str, msgspec.Raw])["metadata"]
    assert exact(bytes(stored)) == exact(raw.encode()) | {"n": ("n", "1.10")}
