"""A policies file in force: what is stored, what is left out, and the account of both."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from audit_platform.client import AuditClient
from audit_platform.errors import InvalidPolicy
from audit_platform.events.policy_rules import Omission
from tests.integration.events.shard import Shard, wait_until

pytestmark = pytest.mark.integration

POLICIES = """
policies:
  - {action: page.*, sample_rate: 0.25, severity: 0, redact: [user_label, metadata.phone]}
  - {action: health.*, drop: true}
  - {source: billing, durability: durable}
"""


def _client(shard: Shard, policies: Path) -> AuditClient:
    settings = shard.settings.model_copy(update={"policies_file": policies})
    return AuditClient(settings, handle_sigterm=False)


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES)
    return path


def _sampled(shard: Shard) -> Counter[tuple[str, str]]:
    """Greatest reported count per action and kind."""
    found: Counter[tuple[str, str]] = Counter()
    for (metadata,) in shard.rows(
        "select metadata from audit.event where action = 'audit.producer.sampled'"
    ):
        for _, action, kind, calls in metadata["counts"]:
            found[action, kind] = max(found[action, kind], calls)
    return found


def test_stored_and_left_out_add_up_to_the_calls(shard: Shard, policies: Path) -> None:
    client = _client(shard, policies)
    for number in range(1_000):
        client.log("page.view", user_label="Ada", metadata={"phone": "1", "n": number})
        client.log("health.live")
        client.log("user.suspend", user_label="Ada")
    client.close()
    stats = client.stats()
    shard.drain()

    stored = dict(
        shard.rows(
            "select action, count(*) from audit.event where source <> 'audit' group by action"
        )
    )
    assert 170 < stored["page.view"] < 330
    assert stored["user.suspend"] == 1_000
    assert "health.live" not in stored
    assert _sampled(shard) == {
        ("page.view", "sampled"): 1_000 - stored["page.view"],
        ("health.live", "dropped"): 1_000,
    }
    assert stats.not_logged == {
        Omission.SAMPLED: 1_000 - stored["page.view"],
        Omission.DROPPED: 1_000,
    }
    assert stats.accepted == 1_000 + stored["page.view"]
    weight = shard.rows("select sum(sampled_rate) from audit.event where action = 'page.view'")
    assert weight == [(4.0 * stored["page.view"],)]


def test_a_kept_event_is_shaped_by_its_rule(shard: Shard, policies: Path) -> None:
    policies.write_text(POLICIES.replace("0.25", "1"))
    with _client(shard, policies) as client:
        client.log("page.view", user_label="Ada", metadata={"phone": "1", "n": 7})
        client.log_many([{"action": "page.list", "severity": 3, "user_label": "Ada"}])
    shard.drain()

    rows = shard.rows(
        "select action, severity, user_label, metadata::text from audit.event"
        " where source <> 'audit' order by action"
    )
    assert [row[:3] for row in rows] == [
        ("page.list", 3, "[redacted]"),
        ("page.view", 0, "[redacted]"),
    ]
    assert json.loads(rows[1][3]) == {"phone": "[redacted]", "n": 7}


def test_a_durable_policy_needs_no_word_in_the_call(shard: Shard, policies: Path) -> None:
    settings = {"policies_file": policies, "redis_url": "redis://127.0.0.1:1/0"}
    client = AuditClient(shard.settings.model_copy(update=settings), handle_sigterm=False)
    client.log("card.charge", source="billing")
    on_disk = client._core.disk.size_bytes
    client.close(0)

    assert on_disk > 0


def test_a_durability_of_none_is_not_given(shard: Shard, policies: Path) -> None:
    settings = {"policies_file": policies, "redis_url": "redis://127.0.0.1:1/0"}
    client = AuditClient(shard.settings.model_copy(update=settings), handle_sigterm=False)
    client.log("card.charge", source="billing", durability=None)
    on_disk = client._core.disk.size_bytes
    client.close(0)

    assert on_disk > 0


def test_a_client_that_drops_everything_reports_while_it_runs(shard: Shard, policies: Path) -> None:
    """Nothing else wakes its sender; waiting for `close()` would hide days."""
    running = shard.drain_beside(drain_idle_s=5.0)
    with _client(shard, policies) as client:
        for _ in range(10):
            client.log("health.live")
        wait_until(lambda: _sampled(shard)["health.live", "dropped"] > 0)
    running.result(60)

    assert _sampled(shard) == {("health.live", "dropped"): 10}


def test_a_changed_file_is_in_force_without_a_restart(shard: Shard, policies: Path) -> None:
    with _client(shard, policies) as client:
        client.log("health.live")
        fresh = policies.with_suffix(".new")
        fresh.write_text("policies: []")
        fresh.replace(policies)

        def is_kept() -> bool:
            client.log("health.live")
            return client.stats().accepted > 0

        wait_until(is_kept)
    shard.drain()

    assert shard.rows("select count(*) from audit.event where action = 'health.live'") == [(1,)]


def test_a_forked_child_follows_the_policies_and_counts_by_itself(
    shard: Shard, policies: Path
) -> None:
    client = _client(shard, policies)
    client.log("health.live")
    child = os.fork()
    if child == 0:
        client.log("health.live")
        client.log("health.live")
        is_right = client.stats().not_logged == {Omission.DROPPED: 2}
        client.close()
        os._exit(0 if is_right else 1)
    _, status = os.waitpid(child, 0)
    client.close()

    assert os.waitstatus_to_exitcode(status) == 0
    assert client.stats().not_logged == {Omission.DROPPED: 1}


def test_a_wrong_file_is_refused_when_the_client_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match="cannot be read"):
        AuditClient.from_env(policies_file=tmp_path / "none.yaml", handle_sigterm=False)


def test_without_a_file_nothing_is_left_out(shard: Shard) -> None:
    with AuditClient(shard.settings, handle_sigterm=False) as client:
        client.log("health.live")

    assert client.stats().not_logged == {}
    assert client.stats().accepted == 1
