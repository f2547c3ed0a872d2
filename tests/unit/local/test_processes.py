"""Children: signals, logs, groups, marks; with small real processes."""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import psutil

from audit_platform.local.guardian import Guardian
from audit_platform.local.keeper import Keeper
from audit_platform.local.log_lines import LineFormat
from audit_platform.local.processes import MARK, Child, ChildSpec, kill_marked, marked_processes
from audit_platform.settings import environment_for_child

DEADLINE_S = 20.0
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(600)"
)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline, pause = time.monotonic() + DEADLINE_S, Event()
    while not condition() and time.monotonic() < deadline:
        pause.wait(0.02)
    return condition()


def python_child(tmp_path: Path, code: str, shown: list[tuple[str, bool]]) -> Child:
    spec = ChildSpec(
        name="sample",
        argv=(sys.executable, "-c", code),
        environment=environment_for_child(**{MARK: str(tmp_path)}),
        cwd=tmp_path,
        log_path=tmp_path / "logs" / "sample.log",
        line_format=LineFormat.DAGSTER,
    )
    return Child(spec, show=lambda _, line, is_trouble: shown.append((line, is_trouble)))


def test_lines_are_shown_logged_and_kept(tmp_path: Path) -> None:
    shown: list[tuple[str, bool]] = []
    child = python_child(tmp_path, "print('t - x - ERROR - no'); print('\\x1b[31mred')", shown)

    child.start()

    assert child.wait(DEADLINE_S)
    child.finish_log()
    assert shown == [("t - x - ERROR - no", True), ("red", True)]
    assert list(child.last_lines) == ["t - x - ERROR - no", "red"]
    assert child.spec.log_path.read_text() == "t - x - ERROR - no\nred\n"
    assert child.exit_code == 0


def test_log_is_cut_at_its_limit(tmp_path: Path) -> None:
    child = python_child(tmp_path, "[print('x' * 99) for _ in range(35)]", [])
    child = Child(
        replace(child.spec, log_limit_bytes=1_000), show=lambda _name, _line, _is_trouble: None
    )

    child.start()
    child.wait(DEADLINE_S)
    child.finish_log()

    previous = child.spec.log_path.with_suffix(".log.1")
    assert previous.stat().st_size <= 1_100
    assert child.spec.log_path.stat().st_size <= 1_100


def test_unwritable_log_does_not_stop_the_child(tmp_path: Path) -> None:
    shown: list[tuple[str, bool]] = []
    child = python_child(tmp_path, "print('x' * 200_000); print('end')", shown)
    child.spec.log_path.mkdir(parents=True)

    child.start()

    assert child.wait(DEADLINE_S)
    child.finish_log()
    assert shown[-1] == ("end", False)


def test_ignored_interrupt_is_not_inherited(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    shown: list[tuple[str, bool]] = []
    try:
        child = python_child(
            tmp_path, "import signal; print(signal.getsignal(signal.SIGINT).__name__)", shown
        )
        child.start()
    finally:
        signal.signal(signal.SIGINT, before)

    child.wait(DEADLINE_S)
    child.finish_log()
    assert shown == [("default_int_handler", False)]


def test_kill_takes_the_whole_group(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; "
        "time.sleep(600)']); print('up', flush=True); time.sleep(600)"
    )
    child = python_child(tmp_path, code, [])
    child.start()
    assert eventually(lambda: len(marked_processes(str(tmp_path))) == 2)

    child.kill()

    assert child.exit_code == -signal.SIGKILL
    assert eventually(lambda: not marked_processes(str(tmp_path)))


def test_marked_processes_are_found_and_killed_and_others_are_not(tmp_path: Path) -> None:
    ours = python_child(tmp_path, STUBBORN, [])
    other_dir = tmp_path / "other"
    other_dir.mkdir()
    other = python_child(other_dir, STUBBORN, [])
    ours.start()
    other.start()
    assert eventually(lambda: len(marked_processes(str(tmp_path))) == 1)

    killed = kill_marked(str(tmp_path), timeout_s=DEADLINE_S)

    assert killed == 1
    assert ours.wait(DEADLINE_S)
    assert other.is_running
    other.kill()


def test_guardian_ends_services_gently_and_kills_the_rest(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
        "print('up', flush=True); time.sleep(600)"
    )
    service_dir = tmp_path / "service"
    service_dir.mkdir()
    lines: list[tuple[str, bool]] = []
    service = python_child(service_dir, code, lines)
    rest = python_child(tmp_path, STUBBORN, lines)
    guardian = Guardian(str(tmp_path), environment=environment_for_child())
    for child in (service, rest):
        child.start()
    assert eventually(lambda: len(lines) == 2)
    guardian.remember(service.pid or 0, signal.SIGTERM)

    guardian.close()

    assert service.wait(DEADLINE_S)
    assert rest.wait(DEADLINE_S)
    assert service.exit_code == 7
    assert rest.exit_code == -signal.SIGKILL


def test_keeper_starts_a_dead_child_again_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    starts: list[int] = []
    keeper = Keeper(say=said.append, started=lambda child: starts.append(child.pid or 0))
    child = python_child(tmp_path, "import time; time.sleep(600)", [])
    keeper.start(child)
    keeper.watch([child])

    psutil.Process(child.pid).kill()

    assert eventually(lambda: len(starts) == 2)
    assert said == [
        f"sample was ended by signal 9; starting it again in 0.5 s. Log: {child.spec.log_path}"
    ]
    keeper.unwatch()
    child.kill()
    keeper.close()


def test_keeper_leaves_children_alone_once_told(tmp_path: Path) -> None:
    said: list[str] = []
    keeper = Keeper(say=said.append, started=lambda _: None)
    child = python_child(tmp_path, "import time; time.sleep(600)", [])
    keeper.start(child)
    keeper.watch([child])
    keeper.unwatch()

    child.kill()

    keeper.close()
    assert said == []
    assert not child.is_running
