"""Dagster's part of the platform: its home directory, its processes, whether they are well.

Here: DAGSTER_HOME with our `dagster.yaml`, the workspace file that names our code server, the
command lines, readiness over HTTP and GraphQL. Not here: definitions (`definitions.py`), starting
and stopping (`supervisor.py`). Dagster itself is never imported: that takes over a second.
"""

import json
import sys
import sysconfig
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, cast

from audit_platform.local.platform_state import write_atomically

DEFINITIONS_MODULE: Final = "audit_platform.definitions"
HOME_DIR: Final = "dagster"
WORKSPACE_FILE: Final = "workspace.yaml"
# One thread per waiting sensor tick, the rest for calls of daemon and UI; the default is cores + 4.
CODE_SERVER_THREADS: Final = 16
PROBE_TIMEOUT_S: Final = 2.0

_HEALTH_QUERY = """
query PlatformHealth {
  instance { daemonHealth { allDaemonStatuses {
    daemonType required healthy lastHeartbeatTime } } }
  workspaceOrError { __typename ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } }
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DagsterHealth:
    """What the webserver says about itself, the daemon and the code location.

    Attributes:
        is_answering: Whether the webserver answered.
        oldest_heartbeat_s: Seconds since 1970 of the oldest last heartbeat among the required
            daemons; 0 when one of them never gave one.
        location_error: First line of the error of a code location that does not load.
        is_loaded: Whether every code location is loaded.
    """

    is_answering: bool
    oldest_heartbeat_s: float = 0.0
    location_error: str | None = None
    is_loaded: bool = False


def write_home(data_dir: Path, *, host: str, code_server_port: int) -> Path:
    """Write `dagster.yaml` and the workspace file; return the home directory."""
    home = data_dir / HOME_DIR
    home.mkdir(exist_ok=True)
    profile = resources.files("audit_platform.local").joinpath("dagster.yaml").read_text()
    write_atomically(home / "dagster.yaml", profile, mode=0o644)
    server = {"host": host, "port": code_server_port, "location_name": DEFINITIONS_MODULE}
    # JSON is YAML; so no library is needed to write three values.
    workspace = json.dumps({"load_from": [{"grpc_server": server}]})
    write_atomically(home / WORKSPACE_FILE, f"{workspace}\n", mode=0o644)
    return home


def dagster_environment(home: Path, dagster_url: str) -> dict[str, str | None]:
    """Changes to the environment of every Dagster process; None removes a variable."""
    rest = dagster_url.partition("://")[2]
    return {
        "DAGSTER_HOME": str(home),
        # The driver is named: SQLAlchemy 2.1 would choose psycopg 3, which dagster-postgres'
        # NOTIFY cannot use.
        "DAGSTER_POSTGRES_URL": f"postgresql+psycopg2://{rest}",
        # Without bytecode every run starts 1.6 s late (measured).
        "PYTHONDONTWRITEBYTECODE": None,
        "PYTHONUNBUFFERED": "1",
    }


def code_server_command(host: str, port: int, *, log_level: str) -> tuple[str, ...]:
    """Command of the process that evaluates sensors and spawns runs."""
    return (
        *(sys.executable, "-m", "dagster", "api", "grpc", "-m", DEFINITIONS_MODULE),
        *("-h", host, "-p", str(port), "-n", str(CODE_SERVER_THREADS)),
        *("--empty-working-directory", "--use-python-environment-entry-point"),
        *("--log-level", log_level.lower()),
    )


def daemon_command(home: Path, *, log_level: str) -> tuple[str, ...]:
    """Command of the one process that ticks sensors and schedules and launches runs."""
    program = Path(sysconfig.get_path("scripts")) / "dagster-daemon"
    workspace = str(home / WORKSPACE_FILE)
    return (str(program), "run", "-w", workspace, "--log-level", log_level.lower())


def webserver_command(home: Path, host: str, port: int, *, log_level: str) -> tuple[str, ...]:
    """Command of the UI; it has no login, so `host` must be a loopback address."""
    return (
        *(sys.executable, "-m", "dagster_webserver", "-h", host, "-p", str(port)),
        *("-w", str(home / WORKSPACE_FILE), "--suppress-warnings"),
        *("--dagster-log-level", log_level.lower()),
    )


def dagster_health(ui_url: str) -> DagsterHealth:
    """Ask the webserver; no answer is an answer too."""
    request = urllib.request.Request(  # noqa: S310 - the address is our own
        f"{ui_url}/graphql",
        data=json.dumps({"query": _HEALTH_QUERY}).encode(),
        headers={"Content-Type": "application/json"},
    )
    # The webserver is on this machine: a proxy of the environment would not reach it.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=PROBE_TIMEOUT_S) as reply:
            return read_health(json.load(reply))
    except (OSError, ValueError):
        return DagsterHealth(is_answering=False)


def read_health(reply: Mapping[str, Any]) -> DagsterHealth:
    """Read the answer to the health query (pure)."""
    data = cast("dict[str, Any]", reply.get("data") or {})
    daemons = data.get("instance", {}).get("daemonHealth", {}).get("allDaemonStatuses", [])
    beats = [float(daemon["lastHeartbeatTime"] or 0) for daemon in daemons if daemon["required"]]
    entries = data.get("workspaceOrError", {}).get("locationEntries", [])
    errors = [
        entry["locationOrLoadError"]["message"].strip().splitlines()[0]
        for entry in entries
        if (entry["locationOrLoadError"] or {}).get("__typename") == "PythonError"
    ]
    return DagsterHealth(
        is_answering=True,
        oldest_heartbeat_s=min(beats, default=0.0),
        location_error=errors[0] if errors else None,
        is_loaded=bool(entries)
        and not errors
        and all(e["loadStatus"] == "LOADED" for e in entries),
    )
