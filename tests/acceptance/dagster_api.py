"""The webserver's GraphQL API, as a program outside the platform uses it."""

import json
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from threading import Event
from time import monotonic
from typing import Any, TypeVar
from urllib.error import HTTPError

from audit_platform.errors import DatabaseUnavailable

Found = TypeVar("Found")
LOOK_S = 0.25
STALE_CONNECTIONS = 5

_REPOSITORIES = """
query { repositoriesOrError { __typename
  ... on RepositoryConnection { nodes { name location { name } } }
  ... on PythonError { message } } }
"""
_INSTIGATORS = """
query ($repository: RepositorySelector!) {
  sensorsOrError(repositorySelector: $repository) { __typename
    ... on Sensors { results { name sensorState { status } } } }
  schedulesOrError(repositorySelector: $repository) { __typename
    ... on Schedules { results { name scheduleState { status } } } } }
"""
_LOCATIONS = """
query { workspaceOrError { __typename
  ... on Workspace { locationEntries { name loadStatus
    locationOrLoadError { __typename ... on PythonError { message } } } } } }
"""
_RUNS = """
query ($filter: RunsFilter) { runsOrError(filter: $filter) { __typename
  ... on Runs { results { runId status jobName startTime endTime tags { key value } } }
  ... on PythonError { message } } }
"""
_OBSERVATIONS = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { __typename
  ... on AssetNode { assetObservations(limit: 50) { runId timestamp metadataEntries {
    __typename label
    ... on IntMetadataEntry { intValue }
    ... on FloatMetadataEntry { floatValue } } } } } }
"""
_LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on PythonError { message } } }
"""
_TERMINATE = """
mutation ($run: String!) { terminateRun(runId: $run) { __typename
  ... on TerminateRunFailure { message }
  ... on PythonError { message } } }
"""
_DAEMONS = """
query { instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as the API shows it; times in seconds since 1970."""

    run_id: str
    job: str
    status: str
    start_s: float | None
    tags: Mapping[str, str]


class DagsterApi:
    """One webserver."""

    def __init__(self, ui_url: str) -> None:
        self._url = f"{ui_url}/graphql"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Send one query and return its `data`; an error in the reply fails the test."""
        request = urllib.request.Request(  # noqa: S310 - the webserver of this test
            self._url,
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        answer = _answer(request)
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def repository(self) -> dict[str, str]:
        """Selector of the only repository."""
        (node,) = self.ask(_REPOSITORIES)["repositoriesOrError"]["nodes"]
        return {
            "repositoryName": node["name"],
            "repositoryLocationName": node["location"]["name"],
        }

    def locations(self) -> dict[str, tuple[str, str]]:
        """Load status and kind of result by code location."""
        entries = self.ask(_LOCATIONS)["workspaceOrError"]["locationEntries"]
        return {
            each["name"]: (each["loadStatus"], each["locationOrLoadError"]["__typename"])
            for each in entries
        }

    def daemons(self) -> dict[str, bool]:
        """Whether each required daemon is well."""
        statuses = self.ask(_DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
        return {each["daemonType"]: each["healthy"] for each in statuses if each["required"]}

    def sensors(self) -> dict[str, str]:
        """Status by sensor."""
        results = self.ask(_INSTIGATORS, repository=self.repository())["sensorsOrError"]["results"]
        return {each["name"]: each["sensorState"]["status"] for each in results}

    def schedules(self) -> dict[str, str]:
        """Status by schedule."""
        data = self.ask(_INSTIGATORS, repository=self.repository())
        results = data["schedulesOrError"]["results"]
        return {each["name"]: each["scheduleState"]["status"] for each in results}

    def runs(self, **filters: Any) -> list[Run]:
        """Runs that match, newest first.

        Args:
            **filters: Fields of the API's `RunsFilter`, for example `pipelineName="ingest"`.
        """
        results = self.ask(_RUNS, filter=filters)["runsOrError"]["results"]
        return [
            Run(
                run_id=each["runId"],
                job=each["jobName"],
                status=each["status"],
                start_s=each["startTime"],
                tags={tag["key"]: tag["value"] for tag in each["tags"]},
            )
            for each in results
        ]

    def run(self, run_id: str) -> Run:
        """One run."""
        (found,) = self.runs(runIds=[run_id])
        return found

    def observed_numbers(self, *asset_key: str) -> list[dict[str, float]]:
        """Numbers by label of the latest observations, as the asset's page plots them."""
        data = self.ask(_OBSERVATIONS, key={"path": list(asset_key)})
        return [
            {
                entry["label"]: entry.get("intValue", entry.get("floatValue"))
                for entry in observation["metadataEntries"]
                if entry["__typename"] in {"IntMetadataEntry", "FloatMetadataEntry"}
            }
            for observation in data["assetNodeOrError"]["assetObservations"]
        ]

    def materialise(self, *asset_key: str) -> str:
        """Launch a run that materialises one asset; returns the run's id."""
        repository = self.repository()
        selector = {
            **repository,
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": list(asset_key)}],
        }
        params = {"selector": selector, "mode": "default", "runConfigData": {}}
        reply = self.ask(_LAUNCH, params=params)["launchRun"]
        assert reply["__typename"] == "LaunchRunSuccess", reply
        return reply["run"]["runId"]

    def terminate(self, run_id: str) -> None:
        """Ask a run to end, as the button of the UI does."""
        reply = self.ask(_TERMINATE, run=run_id)["terminateRun"]
        assert reply["__typename"] == "TerminateRunSuccess", reply


def _answer(request: urllib.request.Request) -> dict[str, Any]:
    """Send a request; again when the webserver fails inside.

    After a crash of PostgreSQL it answers 500 once per connection of its pool that the crash cut
    (Dagster 1.13.27 sets no pre-ping), and connects anew then.
    """
    for left in reversed(range(STALE_CONNECTIONS)):
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310 - likewise
                return json.load(reply)
        except HTTPError as exc:
            if exc.code != HTTPStatus.INTERNAL_SERVER_ERROR or not left:
                raise
    raise AssertionError("unreachable")


def eventually(look: Callable[[], Found | None], *, within_s: float, what: str) -> Found:
    """Look until something true is found; fail with `what` after `within_s`.

    A database that does not answer counts as nothing found: tests stop it.
    """
    pause = Event()
    deadline = monotonic() + within_s
    while not (found := _looked(look)):
        assert monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        pause.wait(LOOK_S)
    return found


def _looked(look: Callable[[], Found | None]) -> Found | None:
    with suppress(DatabaseUnavailable):
        return look()
    return None
