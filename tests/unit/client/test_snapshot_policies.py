"""A policy's decision shapes the event: defaults, rate, and what is taken out."""

import json
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from audit_platform.client.frozen import freeze
from audit_platform.client.policies import PolicyBook
from audit_platform.client.policy_file import parse_policies
from audit_platform.client.snapshot import Snapshots
from audit_platform.events.policy import Durability
from audit_platform.events.policy_rules import Decision, Omission
from audit_platform.privacy.patterns import REDACTED
from audit_platform.privacy.redact import Redactor

SEED = 20_261_122


@pytest.fixture
def snapshots() -> Snapshots:
    return Snapshots(
        tenant_id="acme",
        source="web",
        context={"host": "web-1"},
        redactor=Redactor(),
        tail74=lambda: random.getrandbits(74),
        max_event_bytes=65_536,
    )


def _decision(rule: str) -> Decision:
    found = parse_policies(f"policies: [{{{rule}}}]".encode(), origin="p").rules[0]
    return found.decide(None, lambda: 0.0)


def _event(
    snapshots: Snapshots, rule: str, scope: Any = None, **arguments: object
) -> dict[str, Any]:
    made = snapshots.snapshot("page.view", arguments, scope, decision=_decision(rule))
    return json.loads(made.payload)


def test_durability_comes_from_the_policy_unless_the_call_names_one(snapshots: Snapshots) -> None:
    decision = _decision("durability: durable")

    by_policy = snapshots.snapshot("page.view", {}, None, decision=decision)
    by_call = snapshots.snapshot("a", {"durability": "best_effort"}, None, decision=decision)

    assert by_policy.durability is Durability.DURABLE
    assert by_call.durability is Durability.BEST_EFFORT


def test_severity_comes_from_the_policy_unless_the_call_names_one(snapshots: Snapshots) -> None:
    assert _event(snapshots, "severity: 0")["severity"] == 0
    assert _event(snapshots, "severity: 0", severity=4)["severity"] == 4
    assert _event(snapshots, "severity: 3", severity=None)["severity"] == 3


def test_a_kept_event_says_how_many_it_stands_for(snapshots: Snapshots) -> None:
    assert _event(snapshots, "sample_rate: 0.05")["sampled_rate"] == 20.0
    assert "sampled_rate" not in _event(snapshots, "severity: 1")


def test_fields_of_the_policy_are_taken_out_everywhere(snapshots: Snapshots) -> None:
    scope = snapshots.scope(None, {"ip": "192.0.2.7", "iban": "DE1", "user_label": "Ada"})

    event = _event(
        snapshots,
        "redact: [iban, user_label, metadata.customer.phone, context.ip]",
        scope,
        metadata=OrderedDict(customer={"phone": "1", "iban": "DE2"}),
        changes={"iban": {"old": "DE3", "new": None}},
        context={"note": "stays"},
    )

    assert event["user_label"] == REDACTED
    assert event["metadata"] == {"customer": {"phone": REDACTED, "iban": REDACTED}}
    assert event["changes"] == {"iban": {"old": REDACTED, "new": None}}
    assert event["context"] == {
        "host": "web-1",
        "ip": REDACTED,
        "iban": REDACTED,
        "note": "stays",
    }


def test_context_that_no_policy_names_keeps_its_bytes(snapshots: Snapshots) -> None:
    plain = snapshots.snapshot("a", {"timestamp": "2026-01-01T00:00:00Z"}, None).payload
    with_rule = snapshots.snapshot(
        "a",
        {"timestamp": "2026-01-01T00:00:00Z"},
        None,
        decision=_decision("redact: [metadata.x]"),
    ).payload

    assert json.loads(plain)["context"] == json.loads(with_rule)["context"] == {"host": "web-1"}


def test_the_caller_s_objects_stay_as_they_are(snapshots: Snapshots) -> None:
    metadata = {"iban": "DE1"}

    _event(snapshots, "redact: [iban]", metadata=metadata)

    assert metadata == {"iban": "DE1"}


def test_a_copied_call_keeps_its_decision() -> None:
    decision = _decision("severity: 1")

    call = freeze("page.view", {}, None, decision)

    assert call is not None
    assert call[3] is decision


def test_source_and_correlation_id_come_from_call_scope_or_client(
    snapshots: Snapshots, tmp_path: Path
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "policies: [{source: web, drop: true}, {source: api, sample_rate: 0.5}, "
        "{source: job, severity: 1}]"
    )
    book = PolicyBook.load(path, draw=random.Random(SEED).random)
    inside = snapshots.scope(None, {"source": "api", "correlation_id": "order-1"})

    by_client = snapshots.decide(book, "a", {}, None)
    by_scope = {snapshots.decide(book, "a", {}, inside).omission for _ in range(50)}
    by_call = snapshots.decide(book, "a", {"source": "job"}, inside)

    assert by_client.omission is Omission.DROPPED
    assert len(by_scope) == 1
    assert by_call.severity == 1
