"""`audit-platform demo --exit` from nothing to its balance, as a user runs it."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from audit_platform.local.traffic.history import History, Taken
from audit_platform.local.traffic.plan import plan_traffic
from audit_platform.local.traffic.run import TrafficRun
from tests import factories
from tests.acceptance.conftest import Stack
from tests.acceptance.dagster_api import eventually

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(300),
]

DEMO_S = 240
PROGRAM = Path(sys.executable).with_name("audit-platform")


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that the user of PostgreSQL can reach when root tests; `tmp_path` is closed.

    In a closed one the cluster would lie in /var/tmp and stay there after the test.
    """
    path = Path(tempfile.mkdtemp(prefix="audit-demo-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def run_demo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (str(PROGRAM), "demo", "--exit", *arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEMO_S,
    )


def test_a_small_demo_accounts_for_every_id_and_leaves_no_process(open_dir: Path) -> None:
    completed = run_demo("--events", "5000", "--producers", "2", cwd=open_dir)

    output = " ".join(completed.stdout.split())
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "5,000 accepted = stored + late + dead letters" in output
    assert "0 missing, 0 unexpected, 0 twice" in output
    assert "timestamp_in_future" in output
    assert completed.stderr == ""
    assert [process.pid for process in psutil.process_iter() if _belongs(process, open_dir)] == []


def test_a_demo_that_is_asked_for_too_little_says_so(tmp_path: Path) -> None:
    completed = run_demo("--events", "3", cwd=tmp_path)

    assert completed.returncode == 2
    assert "--events" in completed.stderr


def test_the_balance_names_a_lost_event_and_one_that_nobody_accepted(
    stack: Stack, tmp_path: Path
) -> None:
    foreign_id = stack.send(action="acceptance.foreign")
    lost_id = factories.event()["id"]
    plan = plan_traffic(event_count=300, application_count=1, now=datetime.now(UTC), seed=1)
    with History(tmp_path, "liar") as history:
        history.note(Taken.GOOD, lost_id)

    with TrafficRun(plan, stack.settings, tmp_path) as run:
        run.start()
        eventually(lambda: run.position().is_done, within_s=90, what="the end of the traffic")
        balance = run.report(frozenset()).balance

    assert not balance.is_even
    assert balance.missing == {lost_id}
    assert foreign_id in balance.unexpected
    assert balance.repeated == frozenset()


def _belongs(process: psutil.Process, directory: Path) -> bool:
    try:
        return any(str(directory) in argument for argument in process.cmdline())
    except psutil.Error:
        return False
