"""`audit-platform up` on the real stack: ready, refused, stopped, killed, restarted.

Each test that ends its platform starts one of its own; the others share one.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

import psutil
import pytest

from audit_platform.db.pool import connected
from audit_platform.local import platform_state
from audit_platform.settings import environment_for_child, load_settings

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

PROGRAM = Path(sysconfig.get_path("scripts")) / "audit-platform"
READY_S = 90.0
STOP_S = 60.0
# PostgreSQL may write a checkpoint first; the guardian kills it after 10 s.
GONE_S = 20.0


class RunningPlatform:
    """`audit-platform up` in a process of its own, as a user starts it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}.txt")
        self._began_at = time.monotonic()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                (PROGRAM, "up", "--free-ports", "--data-dir", data_dir),
                stdout=output,
                stderr=output,
                env=environment_for_child(),
            )

    def wait_ready(self) -> float:
        """Wait for the ready line; return the seconds since the start."""
        ready = eventually(
            lambda: self.process.poll() is not None or "Ready after" in self.output(), READY_S
        )
        assert ready, self.output()
        assert self.process.poll() is None, self.output()
        return time.monotonic() - self._began_at

    def output(self) -> str:
        return self.log.read_text()

    def state(self) -> platform_state.PlatformState:
        state = platform_state.read_state(self.data_dir)
        assert state is not None
        return state

    def end(self, signal_number: signal.Signals) -> int:
        """Send a signal and wait for the end; return the exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(STOP_S)


def eventually(condition: Callable[[], bool], within_s: float) -> bool:
    """Poll until true; False when time is over."""
    deadline = time.monotonic() + within_s
    pause = Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause.wait(0.1)
    return True


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Every process that works in the directory, names it or carries its mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            told = [process.cwd(), *process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and any(str(data_dir) in text for text in told):
                found.append(process)
    return found


def run_cli(*arguments: str, data_dir: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (PROGRAM, *arguments, "--data-dir", data_dir),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment_for_child(**variables),
    )


@pytest.fixture(scope="module")
def parent_dir() -> Iterator[Path]:
    """A directory that PostgreSQL's user can reach, also when root tests."""
    path = Path(tempfile.mkdtemp(prefix="audit-supervisor-"))
    path.chmod(0o711)
    yield path
    for process in processes_of(path):
        with suppress(psutil.Error):
            process.kill()
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def shared(parent_dir: Path) -> Iterator[RunningPlatform]:
    """One platform for the tests that leave it running."""
    platform = RunningPlatform(parent_dir / "shared")
    platform.wait_ready()
    yield platform
    platform.end(signal.SIGTERM)


def test_up_says_where_everything_is(shared: RunningPlatform) -> None:
    output = shared.output()

    print(re.search(r"Ready after [\d.]+ s", output))  # noqa: T201 - the figure is wanted, not a limit
    state = shared.state()
    assert state.is_ready
    assert state.ui_url in output
    assert str(state.ports["postgres"]) in output
    assert str(state.ports["redis"]) in output
    secrets = load_settings(data_dir=shared.data_dir)
    assert secrets.reader_url is not None
    password = secrets.reader_url.get_secret_value().split(":")[2].split("@")[0]
    assert password not in output


def test_second_up_on_the_same_directory_names_the_first(shared: RunningPlatform) -> None:
    second = run_cli("up", "--free-ports", data_dir=shared.data_dir)

    assert second.returncode == 1
    assert second.stdout == ""
    assert second.stderr.count("\n") == 1
    assert f"pid {shared.process.pid}" in second.stderr
    assert shared.state().ui_url in second.stderr


def test_status_shows_every_process_as_running(shared: RunningPlatform) -> None:
    eventually(lambda: run_cli("status", data_dir=shared.data_dir).returncode == 0, READY_S)

    status = run_cli("status", data_dir=shared.data_dir)

    assert status.returncode == 0, status.stdout
    for name in ("supervisor", "postgres", "redis", "code-server", "daemon", "webserver"):
        assert re.search(rf"^{name} +running", status.stdout, re.MULTILINE)


def test_doctor_finds_nothing_to_mend(shared: RunningPlatform) -> None:
    eventually(lambda: run_cli("doctor", data_dir=shared.data_dir).returncode == 0, READY_S)

    report = run_cli("doctor", data_dir=shared.data_dir)

    assert report.returncode == 0, report.stdout
    assert "FAIL" not in report.stdout


def test_reset_refuses_while_the_platform_runs(shared: RunningPlatform) -> None:
    reset = run_cli("reset", "--yes", data_dir=shared.data_dir)

    assert reset.returncode == 1
    assert "already runs" in reset.stderr
    assert shared.state().is_ready


@pytest.mark.parametrize("name", ["redis", "postgres", "daemon", "code-server", "webserver"])
def test_killed_process_is_started_again(shared: RunningPlatform, name: str) -> None:
    victim = shared.state().pids[name]

    os.kill(victim, signal.SIGKILL)

    assert eventually(lambda: shared.state().pids[name] != victim, READY_S), shared.output()
    assert f"{name} was ended by signal 9; starting it again" in shared.output()
    assert eventually(
        lambda: run_cli("status", data_dir=shared.data_dir).returncode == 0, READY_S
    ), run_cli("status", data_dir=shared.data_dir).stdout


def test_sigterm_stops_everything_and_keeps_the_data(parent_dir: Path) -> None:
    platform = RunningPlatform(parent_dir / "stopped")
    platform.wait_ready()
    before = processes_of(platform.data_dir)

    code = platform.end(signal.SIGTERM)

    assert code == 0, platform.output()
    assert len(before) > 5
    assert processes_of(platform.data_dir) == []
    assert "Stopped; the data is kept." in platform.output()
    assert platform_state.read_state(platform.data_dir) is None
    assert run_cli("status", data_dir=platform.data_dir).returncode == 1
    assert run_cli("reset", "--yes", data_dir=platform.data_dir).returncode == 0
    assert not platform.data_dir.exists()


def test_interrupt_while_starting_stops_what_had_started(parent_dir: Path) -> None:
    platform = RunningPlatform(parent_dir / "interrupted")
    assert eventually(
        lambda: len(getattr(platform_state.read_state(platform.data_dir), "pids", ())) >= 2, READY_S
    )

    code = platform.end(signal.SIGINT)

    assert code == 0, platform.output()
    assert "Ready after" not in platform.output()
    assert "Traceback" not in platform.output()
    assert processes_of(platform.data_dir) == []


def test_nothing_survives_a_killed_supervisor_and_the_next_start_recovers(
    parent_dir: Path,
) -> None:
    platform = RunningPlatform(parent_dir / "killed")
    platform.wait_ready()
    url = load_settings(data_dir=platform.data_dir).database_url_of("maint")
    with connected(url, application="tests", role="audit_owner") as connection:
        connection.execute("create table audit.kept as select 42 as answer")

    platform.end(signal.SIGKILL)

    gone = eventually(lambda: not processes_of(platform.data_dir), GONE_S)
    assert gone, processes_of(platform.data_dir)
    again = RunningPlatform(platform.data_dir)
    again.wait_ready()
    url = load_settings(data_dir=platform.data_dir).database_url_of("maint")
    with connected(url, application="tests", role="audit_owner") as connection:
        assert connection.execute("select answer from audit.kept").fetchone() == (42,)
    assert run_cli("down", data_dir=platform.data_dir).returncode == 0
    assert again.process.wait(STOP_S) == 0
    assert processes_of(platform.data_dir) == []


@pytest.mark.parametrize(
    "setting", ["AUDIT_POSTGRES_PORT", "AUDIT_REDIS_PORT", "AUDIT_WEBSERVER_PORT"]
)
def test_taken_port_is_one_line_that_names_the_setting(parent_dir: Path, setting: str) -> None:
    ports = ("AUDIT_POSTGRES_PORT", "AUDIT_REDIS_PORT", "AUDIT_WEBSERVER_PORT")
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        variables = dict.fromkeys(ports, "0") | {setting: taken}

        refused = run_cli("up", data_dir=parent_dir / "port", **variables)

    assert_one_line(refused, setting, taken)


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("AUDIT_DATABASE_URL", "postgresql://somebody:secret@127.0.0.1:1/audit"),
        ("AUDIT_REDIS_URL", "redis://127.0.0.1:1/0"),
    ],
)
def test_unreachable_url_is_one_line_that_names_the_setting(
    parent_dir: Path, setting: str, url: str
) -> None:
    refused = run_cli("up", "--free-ports", data_dir=parent_dir / setting.lower(), **{setting: url})

    assert_one_line(refused, setting, "127.0.0.1:1")
    assert "secret" not in refused.stderr
    assert processes_of(parent_dir / setting.lower()) == []


def assert_one_line(refused: subprocess.CompletedProcess[str], *names: str) -> None:
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1, refused.stderr
    assert "Traceback" not in refused.stderr
    for name in names:
        assert name in refused.stderr
