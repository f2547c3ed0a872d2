"""Waiting for services, and the line when they do not come."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from audit_platform.errors import DiskFull, StartRefused
from audit_platform.local.dagster_home import read_health
from audit_platform.local.log_lines import LineFormat
from audit_platform.local.processes import Child, ChildSpec
from audit_platform.local.readiness import (
    cause_among,
    explained,
    is_port_open,
    wait_until,
)
from audit_platform.settings import environment_for_child

LOADED = {"name": "x", "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "Location"}}
BROKEN = {
    "name": "x",
    "loadStatus": "LOADED",
    "locationOrLoadError": {"__typename": "PythonError", "message": "ImportError: no frame\nmore"},
}


def a_child(tmp_path: Path, code: str) -> Child:
    spec = ChildSpec(
        name="sample",
        argv=(sys.executable, "-c", code),
        environment=environment_for_child(),
        cwd=tmp_path,
        log_path=tmp_path / "sample.log",
        line_format=LineFormat.DAGSTER,
    )
    child = Child(spec, show=lambda _name, _line, _is_trouble: None)
    child.start()
    return child


def wait_for_never(child: Child, timeout_s: float) -> None:
    wait_until(lambda: False, children=[child], timeout_s=timeout_s, what="the sample")


def test_early_end_tells_exit_code_cause_and_log(tmp_path: Path) -> None:
    child = a_child(tmp_path, "raise ValueError('port 7 is mine')")

    with pytest.raises(StartRefused) as refused:
        wait_for_never(child, 20)

    assert refused.value.message == (
        f"sample ended with exit code 1: ValueError: port 7 is mine (log: {tmp_path}/sample.log)"
    )


def test_full_disk_of_a_child_names_the_setting(tmp_path: Path) -> None:
    child = a_child(tmp_path, "raise OSError(28, 'No space left on device')")

    with pytest.raises(DiskFull, match="AUDIT_DATA_DIR"):
        wait_for_never(child, 20)


def test_refusal_is_explained_by_the_child_that_ended(tmp_path: Path) -> None:
    gone = a_child(tmp_path, "raise ValueError('no shared memory')")
    gone.wait(20)

    refused = explained(StartRefused("PostgreSQL does not answer."), [gone])

    assert "no shared memory" in refused.message


def test_refusal_stands_while_every_child_is_well(tmp_path: Path) -> None:
    child = a_child(tmp_path, "import time; time.sleep(600)")
    refused = StartRefused("Redis is too old.")

    assert explained(refused, [child]) is refused

    child.kill()


def test_silent_service_is_given_up_with_a_line(tmp_path: Path) -> None:
    child = a_child(tmp_path, "import time; time.sleep(600)")

    with pytest.raises(StartRefused, match="the sample did not answer"):
        wait_for_never(child, 0.1)

    child.kill()


def test_first_error_is_the_cause() -> None:
    lines = [
        "Traceback (most recent call last):",
        "SyntaxError: expected '('",
        "During handling of the above exception, another exception occurred:",
        "dagster.DagsterUserCodeLoadError: Error occurred during the loading",
    ]

    assert cause_among(lines) == "SyntaxError: expected '('"


def test_last_line_is_told_when_there_is_no_error() -> None:
    assert cause_among(["one", "bye"]) == "bye"
    assert cause_among([]) == "no message"


def test_closed_port_is_not_open() -> None:
    assert not is_port_open("127.0.0.1", 1)


def reply(entries: list[Mapping[str, Any]], *beats: float | None) -> dict[str, Any]:
    daemons = [{"required": True, "lastHeartbeatTime": beat} for beat in beats]
    daemons.append({"required": False, "lastHeartbeatTime": None})
    return {
        "data": {
            "instance": {"daemonHealth": {"allDaemonStatuses": daemons}},
            "workspaceOrError": {"__typename": "Workspace", "locationEntries": entries},
        }
    }


def test_health_takes_the_oldest_heartbeat_of_the_required_daemons() -> None:
    assert read_health(reply([LOADED], 30.0, 20.0)).oldest_heartbeat_s == 20.0
    assert read_health(reply([LOADED], 30.0, None)).oldest_heartbeat_s == 0.0


def test_health_knows_whether_the_definitions_load() -> None:
    assert read_health(reply([LOADED])).is_loaded
    assert not read_health(reply([])).is_loaded
    broken = read_health(reply([BROKEN]))
    assert not broken.is_loaded
    assert broken.location_error == "ImportError: no frame"


def test_health_of_an_error_answer_is_not_ready() -> None:
    health = read_health({"errors": [{"message": "no"}], "data": None})

    assert health.is_answering
    assert not health.is_loaded
