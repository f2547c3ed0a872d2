"""What operators and the daemon do: jobs at an injected moment, commands, schedules off meanwhile.

Here: launching a job through GraphQL, so that the queue and the daemon take it, and its end; the
command line as a person types it. Not here: which jobs and when (`life.py`).
Guarantee: a run that does not succeed ends the drive with what Dagster says about it.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from typer.testing import CliRunner, Result

from audit_platform.cli.app import app
from tests.acceptance.conftest import Stack
from tests.acceptance.dagster_api import DagsterApi, eventually

MOST_RUN_S: Final = 1_800.0
NIGHTLY: Final = frozenset(
    {
        *("merge_nightly", "archive_nightly", "detach_daily", "drop_daily"),
        *("expiry_daily", "drill_weekly"),
    }
)
"""They would do by the real clock what this drive does by an injected one."""
ASKED: Final = 3
_OPS: Final = {
    "archive_partitions": "archive_due",
    "detach_partitions": "detach_due",
    "drop_partitions": "drop_due",
    "merge_late_rows": "late_merge",
    "expire_archive": "archive_expiry",
    "drill_restore": "restore_drill",
}
_DONE: Final = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
_REQUEST: Final = re.compile(r"--approve ([0-9a-f-]{36})")
_LAUNCH: Final = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on RunConfigValidationInvalid { errors { message } }
  ... on PythonError { message } } }
"""
_FAILURES: Final = """
query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events { __typename
  ... on ExecutionStepFailureEvent { error { message } failureMetadata { description } }
  ... on RunFailureEvent { error { message } } } } } }
"""
_SCHEDULES: Final = """
query ($repository: RepositorySelector!) {
  schedulesOrError(repositorySelector: $repository) {
    ... on Schedules { results { name scheduleState { id } } } } }
"""
_STOP: Final = "mutation ($id: String) { stopRunningSchedule(id: $id) { __typename } }"
_START: Final = """
mutation ($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) { __typename }}
"""


def run_job(
    stack: Stack, job: str, *, now: datetime, partitions: Sequence[str] | None = None
) -> None:
    """Launch a job at a moment and wait for its success.

    Args:
        stack: The platform.
        job: Of the life cycle.
        now: The moment that the run takes for now.
        partitions: Only these; None: all that are due.

    Raises:
        AssertionError: It did not succeed; says why.
    """
    config: dict[str, Any] = {"now": now.isoformat()}
    if partitions is not None:
        config["partitions"] = list(partitions)
    params = {
        "selector": {**stack.api.repository(), "jobName": job},
        "mode": "default",
        "runConfigData": {"ops": {_OPS[job]: {"config": config}}},
    }
    reply = stack.api.ask(_LAUNCH, params=params)["launchRun"]
    assert reply["__typename"] == "LaunchRunSuccess", reply
    run_id = reply["run"]["runId"]
    eventually(
        lambda: stack.api.run(run_id).status in _DONE, within_s=MOST_RUN_S, what=f"the end of {job}"
    )
    status = stack.api.run(run_id).status
    assert status == "SUCCESS", (
        f"{job} at {now:%Y-%m-%d %H:%M}: {status}: {_why(stack.api, run_id)}"
    )


def command(stack: Stack, *arguments: str) -> Result:
    """Run `audit-platform` beside the platform, as a shell there would."""
    return CliRunner().invoke(app, arguments, env={"AUDIT_DATA_DIR": str(stack.data_dir)})


def done(stack: Stack, *arguments: str) -> str:
    """Run a command that succeeds; returns what it printed."""
    result = command(stack, *arguments)
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result.stdout


def done_by_two(stack: Stack, *arguments: str) -> str:
    """Do something that takes two persons, unless nothing was ever sealed yet."""
    result = command(stack, *arguments, "--user", "ada", "--reason", "end-to-end test")
    if not result.exit_code:
        return result.stdout
    assert result.exit_code == ASKED, (arguments, result.output, result.exception)
    found = _REQUEST.search(result.stdout)
    assert found is not None, result.stdout
    return done(stack, *arguments, "--user", "ben", "--approve", found[1])


def searched(stack: Stack, arguments: Sequence[str]) -> list[str]:
    """Ids that `audit-platform search` prints."""
    printed = done(stack, "search", *arguments, "--output", "json")
    return [json.loads(line)["id"] for line in printed.splitlines()]


@contextmanager
def nights_off(stack: Stack) -> Iterator[None]:
    """Switch the nightly schedules off for a block, as an operator does in the UI."""
    repository = stack.api.repository()
    found = stack.api.ask(_SCHEDULES, repository=repository)["schedulesOrError"]["results"]
    wanted = [one for one in found if one["name"] in NIGHTLY]
    assert len(wanted) == len(NIGHTLY)
    try:
        for one in wanted:
            stack.api.ask(_STOP, id=one["scheduleState"]["id"])
        assert {stack.api.schedules()[name] for name in NIGHTLY} == {"STOPPED"}
        yield
    finally:
        for one in wanted:
            stack.api.ask(_START, selector={**repository, "scheduleName": one["name"]})


def _why(api: DagsterApi, run_id: str) -> str:
    events = api.ask(_FAILURES, run=run_id)["logsForRun"].get("events", [])
    texts: list[str] = []
    for event in events:
        for part in (event.get("failureMetadata"), event.get("error")):
            text = part and (part.get("description") or part.get("message"))
            texts += [text] if text else []
    return "; ".join(dict.fromkeys(texts))[:2_000] or "no reason is recorded"
