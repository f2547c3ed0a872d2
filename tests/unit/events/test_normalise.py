"""Foreign names and shapes: each means one field of ours, and nothing sent is lost."""

import json
from typing import Any

import pytest

from audit_platform.events.event import EVENT_FIELDS
from audit_platform.events.frame import RejectReason
from tests import factories
from tests.unit.events.entries import NOW, event, frame_of, reject_of, row_of, single, wire


def _renamed(**names: str) -> bytes:
    return factories.wire({names.get(name, name): value for name, value in event().items()})


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("timestamp", "created_at"),
        ("timestamp", "createdAt"),
        ("timestamp", "occurred_at"),
        ("timestamp", "occurredAt"),
        ("timestamp", "time"),
        ("action", "action_type"),
        ("action", "actionType"),
        ("action", "eventName"),
        ("entity_type", "resource_type"),
        ("entity_type", "resourceType"),
        ("entity_type", "entity_name"),
        ("entity_type", "entityName"),
        ("entity_id", "resource_id"),
        ("entity_id", "resourceId"),
        ("metadata", "details"),
        ("metadata", "data"),
    ],
)
def test_foreign_name_means_the_field(field: str, name: str) -> None:
    made = event()
    foreign = factories.wire({name if key == field else key: made[key] for key in made})

    row = row_of(foreign)

    assert row == {**row_of(factories.wire(made)), "line_index": 0}


def test_camel_case_of_every_field_is_accepted() -> None:
    made = event(
        description="d",
        status="denied",
        entity_label="l",
        user_label="u",
        impersonator_id="i",
        correlation_id="c",
        trace_id="t",
        bulk_action_id="0f0e0d0c-0b0a-0908-0706-050403020100",
        bulk_item_no=4,
        severity=3,
        sampled_rate=2.5,
        schema_version=1,
    )
    assert set(made) == {field.name for field in EVENT_FIELDS}
    camel = {_camel(name): value for name, value in made.items()}

    assert row_of(factories.wire(camel)) == row_of(factories.wire(made))


def _camel(name: str) -> str:
    return "".join(
        word if index == 0 else word.capitalize() for index, word in enumerate(name.split("_"))
    )


@pytest.mark.parametrize("name", ["admin_id", "adminId", "triggered_by_id", "triggeredById"])
def test_an_admin_name_means_the_user_and_that_an_admin_acted(name: str) -> None:
    row = row_of(wire(user_id=None, actor_type=None, **{name: "9"}))

    assert (row["user_id"], row["actor_type"]) == ("9", "admin")


def test_an_actor_type_that_was_sent_is_kept() -> None:
    row = row_of(wire(user_id=None, actor_type="service", admin_id="9"))

    assert (row["user_id"], row["actor_type"]) == ("9", "service")


def test_of_two_names_for_one_field_the_own_wins_and_the_other_is_kept() -> None:
    row = row_of(wire(adminId="9", eventName="other", userId="8"))

    assert (row["user_id"], row["action"], row["actor_type"]) == ("7", "user.suspend", "user")
    assert json.loads(row["metadata"]) == {
        "plan": "pro",
        "seats": 12,
        "adminId": "9",
        "eventName": "other",
        "userId": "8",
    }


def test_a_null_under_our_name_does_not_hide_a_foreign_one() -> None:
    made: dict[str, Any] = {**event(), "action": None, "eventName": "x"}

    row = row_of(factories.wire(made))

    assert (row["action"], row["metadata"]) == ("x", row_of(wire())["metadata"])


def test_an_unknown_member_goes_into_metadata_byte_by_byte() -> None:
    line = wire()[:-1] + b', "x" : {"b":1.10, "a":1e400} , "n":null}'

    assert row_of(line)["metadata"] == (
        '{"plan":"pro","seats":12,"x":{"b":1.10, "a":1e400},"n":null}'
    )


@pytest.mark.parametrize("metadata", [b"{}", b"{ }", b"{\t}"])
def test_an_unknown_member_goes_into_empty_metadata(metadata: bytes) -> None:
    line = wire(metadata=None)[:-1] + b',"metadata":' + metadata + b',"x":1}'

    assert json.loads(row_of(line)["metadata"]) == {"x": 1}


def test_an_unknown_member_does_not_replace_one_of_metadata() -> None:
    row = row_of(wire(plan="free", **{"event.plan": 1}))

    assert json.loads(row["metadata"]) == {
        "plan": "pro",
        "seats": 12,
        "event.plan": "free",
        "event.event.plan": 1,
    }


def test_tenant_names_of_imports_are_no_tenant_here() -> None:
    row = row_of(wire(tenant_id=None, account_id="other"))

    assert row["tenant_id"] == "default"
    assert json.loads(row["metadata"])["account_id"] == "other"


@pytest.mark.parametrize(
    ("name", "value"),
    [("details", "text"), ("metadata", [1, 2]), ("context", "here"), ("changes", 5)],
)
def test_json_field_of_another_shape_is_kept_in_metadata(name: str, value: object) -> None:
    override = {"metadata": None, name: value}

    row = row_of(wire(**override))

    assert json.loads(row["metadata"]) == {name: value}


def test_changes_may_be_a_list() -> None:
    assert row_of(wire(changes=[{"field": "a", "old": 1}]))["changes"] == '[{"field":"a","old":1}]'


@pytest.mark.parametrize(
    "field", ["user_id", "entity_id", "impersonator_id", "correlation_id", "tenant_id"]
)
def test_a_number_is_accepted_as_an_id(field: str) -> None:
    assert row_of(wire(**{field: 42}))[field] == "42"


@pytest.mark.parametrize("value", [1, True, 1.5, [], {}])
def test_another_type_than_text_is_rejected(value: object) -> None:
    reject = reject_of(wire(description=value))

    assert reject.reason == RejectReason.INVALID_VALUE
    assert reject.detail == "description: is no text; send a JSON string"


@pytest.mark.parametrize(("field", "word"), [("status", "Failure"), ("actor_type", "API_KEY")])
def test_words_are_accepted_in_any_case(field: str, word: str) -> None:
    assert row_of(wire(**{field: word}))[field] == word.lower()


@pytest.mark.parametrize("field", ["status", "actor_type"])
def test_an_unknown_word_is_rejected_with_the_known_ones(field: str) -> None:
    reject = reject_of(wire(**{field: "unheard"}))

    assert reject.reason == RejectReason.INVALID_VALUE
    assert reject.detail.startswith(f"{field}: is an unknown word; send ")


@pytest.mark.parametrize("field", ["action", "source"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_required_field_must_be_there_and_not_empty(field: str, value: str | None) -> None:
    reject = reject_of(wire(**{field: value}))

    assert reject.reason == RejectReason.MISSING_FIELD
    assert reject.detail.startswith(f"{field}: ")


def test_an_id_without_a_time_is_rejected() -> None:
    made = event()
    del made["timestamp"]

    reject = reject_of(factories.wire(made))

    assert (reject.reason, reject.detail[:10]) == (RejectReason.MISSING_FIELD, "timestamp:")


def test_an_id_is_accepted_in_capitals_and_without_dashes() -> None:
    made = event()

    for spelled in (made["id"].upper(), made["id"].replace("-", "")):
        assert row_of(factories.wire({**made, "id": spelled}))["id"] == made["id"]


def test_keys_folded_into_metadata_count_as_its_keys() -> None:
    members = {f"k{number}": number for number in range(257)}

    line = wire(changes=None, context=None, metadata=None, **members)

    assert reject_of(line).reason == RejectReason.TOO_MANY_KEYS


def test_milliseconds_since_1970_are_accepted() -> None:
    milliseconds = int(NOW.timestamp() * 1000)

    row = row_of(wire(timestamp=milliseconds))

    assert row["timestamp"] == NOW.replace(microsecond=123_000)


def test_a_naive_time_is_rejected_with_the_remedy() -> None:
    reject = reject_of(wire(timestamp="2026-03-01T12:00:00.123456"))

    assert reject.reason == RejectReason.INVALID_VALUE
    assert reject.detail == "timestamp: has no time zone; end it with Z or an offset such as +01:00"


def test_a_legacy_event_without_id_in_camel_case_is_stored() -> None:
    line = json.dumps(
        {
            "createdAt": "2026-03-01T13:00:00.5+01:00",
            "tenantId": "acme",
            "source": "crm",
            "actionType": "contact.create",
            "entityType": "contact",
            "entityId": 12,
            "userId": 7,
            "details": {"name": "Ann"},
            "context": {"external_id": 991},
            "ipAddress": "192.0.2.1",
        }
    ).encode()

    row = frame_of(single(line)).rows.row(0, named=True)

    assert (row["action"], row["entity_id"], row["user_id"]) == ("contact.create", "12", "7")
    assert json.loads(row["metadata"]) == {"name": "Ann", "ipAddress": "192.0.2.1"}
