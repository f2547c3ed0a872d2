"""`audit-platform demo --exit` from nothing to its balance, as a user runs it."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

DEMO_S = 240
PROGRAM = Path(sys.executable).with_name("audit-platform")


def run_demo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (str(PROGRAM), "demo", "--exit", *arguments),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEMO_S,
    )


def test_a_small_demo_accounts_for_every_id_and_leaves_no_process(tmp_path: Path) -> None:
    completed = run_demo("--events", "5000", "--producers", "2", cwd=tmp_path)

    output = " ".join(completed.stdout.split())
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "5,000 accepted = stored + late + dead letters" in output
    assert "0 missing, 0 unexpected, 0 twice" in output
    assert "timestamp_in_future" in output
    assert completed.stderr == ""
    assert [process.pid for process in psutil.process_iter() if _belongs(process, tmp_path)] == []


def test_a_demo_that_is_asked_for_too_little_says_so(tmp_path: Path) -> None:
    completed = run_demo("--events", "3", cwd=tmp_path)

    assert completed.returncode == 2
    assert "--events" in completed.stderr


def _belongs(process: psutil.Process, directory: Path) -> bool:
    try:
        return any(str(directory) in argument for argument in process.cmdline())
    except psutil.Error:
        return False
