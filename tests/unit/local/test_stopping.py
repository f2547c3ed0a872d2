"""The stop order, with small processes in place of the services."""

import signal
import sys
import threading
from pathlib import Path

from audit_platform.local.log_lines import LineFormat
from audit_platform.local.platform_plan import Service
from audit_platform.local.processes import MARK, Child, ChildSpec, marked_processes
from audit_platform.local.stopping import STOP_ORDER, stop_all
from audit_platform.settings import environment_for_child

WILLING = (
    "import signal, sys, time\n"
    "def end(*_): print('asked', flush=True); sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, end); signal.signal(signal.SIGINT, end)\n"
    "print('up', flush=True)\n"
    "while True: time.sleep(60)"
)
STUBBORN = WILLING.replace("sys.exit(0)", "None")


def started(tmp_path: Path, events: list[str], *, code: str = WILLING) -> dict[Service, Child]:
    up = threading.Semaphore(0)

    def show(name: str, line: str, is_trouble: bool) -> None:
        del is_trouble
        if line == "up":
            up.release()
        else:
            events.append(name)

    children = {
        service: Child(
            ChildSpec(
                name=service,
                argv=(sys.executable, "-c", code),
                environment=environment_for_child(**{MARK: str(tmp_path)}),
                cwd=tmp_path,
                log_path=tmp_path / f"{service}.log",
                line_format=LineFormat.DAGSTER,
            ),
            show=show,
        )
        for service in reversed(STOP_ORDER)
    }
    for child in children.values():
        child.start()
    assert all(up.acquire(timeout=20) for _ in children)
    return children


def stop(children: dict[Service, Child], tmp_path: Path, hurry: threading.Event) -> list[str]:
    said: list[str] = []
    stop_all(children, mark=str(tmp_path), maint_url=None, hurry=hurry, say=said.append)
    for child in children.values():
        child.finish_log()
    return said


def test_launchers_stop_first_and_storage_last(tmp_path: Path) -> None:
    asked: list[str] = []
    children = started(tmp_path, asked)
    # Services do not carry the mark in life: they overwrite their environment.
    said = stop(children, tmp_path, threading.Event())

    assert asked[0] == Service.DAEMON
    assert set(asked[1:3]) <= {Service.CODE_SERVER, Service.WEBSERVER}
    assert said == []
    assert not marked_processes(str(tmp_path))


def test_order_ends_with_redis_and_then_postgres() -> None:
    assert STOP_ORDER[-2:] == (Service.REDIS, Service.POSTGRES)
    assert STOP_ORDER[:2] == (Service.DAEMON, Service.CODE_SERVER)
    assert set(STOP_ORDER) == set(Service)


def test_hurry_kills_what_does_not_listen(tmp_path: Path) -> None:
    hurry = threading.Event()
    hurry.set()
    children = started(tmp_path, [], code=STUBBORN)

    stop(children, tmp_path, hurry)

    assert {child.exit_code for child in children.values()} == {-signal.SIGKILL}
    assert not marked_processes(str(tmp_path))


def test_stopping_twice_does_nothing_more(tmp_path: Path) -> None:
    children = started(tmp_path, [])
    stop(children, tmp_path, threading.Event())

    assert stop(children, tmp_path, threading.Event()) == []
