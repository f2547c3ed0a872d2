"""The life of a partition in the real stack: launched in the UI, run by the daemon, shown there."""

from datetime import UTC, datetime, timedelta

import pytest

from audit_platform.events.stream import Appender
from tests import factories
from tests.acceptance.conftest import Stack
from tests.acceptance.dagster_api import eventually

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(400),
]

LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } } }
"""
SHOWN = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { __typename
  ... on AssetNode { assetMaterializations(limit: 50) { partition
    metadataEntries { label ... on IntMetadataEntry { intValue } } } } } }
"""
DONE = {"SUCCESS", "FAILURE", "CANCELED"}


def launch(stack: Stack, job: str) -> str:
    """Launch a job without any config, as from its page; returns how it ended."""
    selector = {**stack.api.repository(), "jobName": job}
    params = {"selector": selector, "mode": "default", "runConfigData": {}}
    run_id = stack.api.ask(LAUNCH, params=params)["launchRun"]["run"]["runId"]
    eventually(lambda: stack.api.run(run_id).status in DONE, within_s=180, what=f"the end of {job}")
    return stack.api.run(run_id).status


def rows_shown(stack: Stack, asset: str) -> dict[str, int]:
    """Rows by partition, as the page of an asset shows them."""
    node = stack.api.ask(SHOWN, key={"path": [asset]})["assetNodeOrError"]
    return {
        one["partition"]: next(
            entry["intValue"] for entry in one["metadataEntries"] if entry["label"] == "rows"
        )
        for one in node["assetMaterializations"]
    }


def test_history_that_came_late_is_archived_and_detached_by_the_daemon(stack: Stack) -> None:
    """No moment is injected: a day of a year ago is due for everything but its drop."""
    moment = datetime.now(UTC) - timedelta(days=300)
    event = factories.event(action="acceptance.history", timestamp=moment)
    url = stack.settings.redis_url.get_secret_value()
    with Appender(url, key_prefix=stack.settings.key_prefix) as appender:
        appender.append_event(0, factories.wire(event))
    eventually(lambda: stack.stored("acceptance.history"), within_s=90, what="the late row")
    name = f"event_{moment:%Y%m%d}"

    ended = [
        launch(stack, job) for job in ("merge_late_rows", "archive_partitions", "detach_partitions")
    ]

    assert ended == ["SUCCESS"] * 3
    ((state, rows, files),) = stack.ask(
        "select state, n, jsonb_array_length(files) from audit.partition where name = %s", name
    )
    assert (state, rows, files) == ("detached", 1, 1)
    assert list((stack.data_dir / "archive").rglob("*.parquet"))
    for asset in ("sealed_partition", "archived_partition", "verified_archive"):
        assert rows_shown(stack, asset)[name] == 1
    assert rows_shown(stack, "detached_partition")[name] == 1
    # Other tests of this stack drop theirs.
    assert name not in rows_shown(stack, "dropped_partition")
