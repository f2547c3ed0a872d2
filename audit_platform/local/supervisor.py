"""The platform on one machine: starts everything, keeps it running, stops it in order.

Here: `Platform`, the order of a start and who does what in it. Not here: the parts: plan
(`platform_plan.py`), databases and queue (`prepare.py`), commands (`children.py`), restarts
(`keeper.py`), the stop order (`stopping.py`), files for other processes (`platform_state.py`).
Guarantee: at most one platform per data directory; after `stop`, and soon after kill -9 of this
process, none of its processes is left; data stays.
"""

import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from typing import Final, Self

import psutil

from audit_platform.errors import StartRefused
from audit_platform.local import children as specs
from audit_platform.local import platform_state as state_files
from audit_platform.local import postgres, redis
from audit_platform.local.dagster_home import write_home
from audit_platform.local.guardian import Guardian
from audit_platform.local.keeper import Keeper
from audit_platform.local.leftovers import clear_leftovers
from audit_platform.local.platform_plan import PlatformPlan, Service, make_plan
from audit_platform.local.platform_secrets import load_or_make_secrets
from audit_platform.local.prepare import prepare_database, prepare_partitions, prepare_queue
from audit_platform.local.processes import Child, ChildSpec
from audit_platform.local.readiness import (
    explained,
    is_dagster_ready,
    is_port_open,
    refuse_unsafe_start,
    wait_until,
)
from audit_platform.local.stopping import stop_all
from audit_platform.settings import Settings, environment_for_child, load_settings

READY_TIMEOUT_S: Final = 90.0
SERVICE_TIMEOUT_S: Final = 30.0

Say = Callable[[str], None]
Show = Callable[[str, str, bool], None]


class Platform:
    """One platform on one data directory; start it from a thread that outlives it.

    `with Platform(settings) as platform:` starts it, waits until it is ready, and stops it.
    """

    def __init__(
        self, settings: Settings, *, say: Say | None = None, show: Show | None = None
    ) -> None:
        """Settle nothing yet: a Platform that was never started leaves no trace.

        Args:
            settings: As read; port 0 means any free port below 32768.
            say: Called with each sentence for the operator, from any thread.
            show: Called with each line of a process: its name, the line, whether it is a
                warning or an error; from any thread.
        """
        self.settings = settings
        # Resolved now: the working directory may change, and the mark of a process is one text.
        self._data_dir = Path(os.path.realpath(settings.data_dir))
        self._say: Say = say or (lambda _sentence: None)
        self._show: Show = show or (lambda _name, _line, _is_trouble: None)
        self._children: dict[Service, Child] = {}
        self._keeper = Keeper(say=self._say, started=self._child_started)
        self._lock: state_files.PlatformLock | None = None
        self._guardian: Guardian | None = None
        self._plan: PlatformPlan | None = None
        self._state_access = threading.Lock()
        self._is_ready = False
        self._is_stopping = False
        self._end_asked = threading.Event()
        self._hurry = threading.Event()

    @property
    def plan(self) -> PlatformPlan:
        """Ports and URLs of this start.

        Raises:
            StartRefused: The platform was not started.
        """
        if self._plan is None:
            raise StartRefused("The platform was not started: call start() first.")
        return self._plan

    @property
    def is_ready(self) -> bool:
        """Whether everything answered once."""
        return self._is_ready

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopping

    @property
    def running_settings(self) -> Settings:
        """The settings given, with URLs, keys and directory of the running platform."""
        plan = self.plan
        given = {name: getattr(self.settings, name) for name in self.settings.model_fields_set}
        return load_settings(**{**given, **plan.values, "data_dir": plan.data_dir})

    def __enter__(self) -> Self:
        """Start and wait until ready; whatever was started is stopped on an error."""
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Start services, prepare them, start Dagster; returns before Dagster answers.

        Raises:
            StartRefused: With one line that names the setting to change; what had started
                still runs until `stop`.
        """
        data_dir = self._data_dir
        try:
            state_files.prepare_data_dir(data_dir)
            self._lock = state_files.PlatformLock(data_dir).acquire()
            clear_leftovers(data_dir, say=self._say)
            secrets = load_or_make_secrets(data_dir)
            self._plan = make_plan(self.settings, secrets, random=SystemRandom())
            self._say(f"Starting; logs are in {self._plan.log_dir}")
            self._guardian = Guardian(str(data_dir), environment=environment_for_child())
            self._write_state()
            self._start_services(self._plan)
        except OSError as exc:
            raise state_files.refused_by_disk(data_dir, exc) from exc
        except StartRefused as exc:
            raise explained(exc, self._children.values()) from exc

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until UI, daemon and code location answer; then keep the processes alive.

        Raises:
            StartRefused: A process ended, the definitions do not load, or time is over.
        """
        plan, since = self.plan, self._children[Service.DAEMON].started_at
        wait_until(
            lambda: is_dagster_ready(plan.ui_url, since=since),
            children=self._children.values(),
            timeout_s=timeout_s,
            what="the Dagster UI and daemon",
        )
        from audit_platform.db.dagster_storage import tune_dagster_storage  # noqa: PLC0415

        tune_dagster_storage(plan.values["dagster_url"])
        self._is_ready = True
        self._write_state()
        self._keeper.watch(self._children.values())

    def run_forever(self) -> None:
        """Block until `ask_to_end`, which a signal handler may call."""
        self._end_asked.wait()

    def ask_to_end(self) -> None:
        """End `run_forever`; a second call makes `stop` kill instead of wait."""
        if self._end_asked.is_set():
            self._hurry.set()
        self._end_asked.set()

    def stop(self) -> None:
        """Stop everything in order; data stays. Does nothing when nothing was started."""
        if self._lock is None:
            return
        self._is_stopping = True
        self._keeper.unwatch()
        if self._plan is not None:
            stop_all(
                self._children,
                mark=str(self._data_dir),
                maint_url=self._plan.values["maint_url"] if self._is_ready else None,
                hurry=self._hurry,
                say=self._say,
            )
        self._keeper.close()
        if self._guardian is not None:
            self._guardian.close()
        state_files.remove_state(self._data_dir)
        self._lock.release()
        self._lock = None

    def _start_services(self, plan: PlatformPlan) -> None:
        """Start all; the slow imports of the code server run beside the preparations."""
        home = write_home(
            plan.data_dir, host=plan.settings.host, code_server_port=plan.ports[Service.CODE_SERVER]
        )
        dagster = specs.dagster_children(plan, home)
        self._start_embedded(plan)
        prepare_database(plan)
        # Not before its database is there: it would log a warning for each attempt.
        self._start_child(Service.CODE_SERVER, dagster[Service.CODE_SERVER])
        prepare_partitions(plan.values["maint_url"], plan.settings, now=datetime.now(UTC))
        prepare_queue(plan)
        state_files.write_platform_env(plan.data_dir, plan.file_values)
        state_files.write_password_file(
            plan.data_dir, (plan.values["reader_url"], plan.values["maint_url"])
        )
        refuse_unsafe_start(self.running_settings)
        # UI and daemon load the code location once, at their start: it must answer by then.
        self._wait(
            lambda: is_port_open(plan.settings.host, plan.ports[Service.CODE_SERVER]),
            what="the Dagster code server",
        )
        self._start_child(Service.WEBSERVER, dagster[Service.WEBSERVER])
        self._start_child(Service.DAEMON, dagster[Service.DAEMON])

    def _start_embedded(self, plan: PlatformPlan) -> None:
        if (queue := plan.redis) is not None:
            redis.write_config(queue)
            self._start_child(Service.REDIS, specs.redis_child(plan, queue))
        if (cluster := plan.postgres) is not None:
            where = postgres.place(cluster)
            postgres.initialise(cluster, where)
            self._start_child(Service.POSTGRES, specs.postgres_child(plan, where))
            self._wait(lambda: postgres.is_ready(cluster, where), what="PostgreSQL")
        if queue is not None:
            self._wait(lambda: redis.is_ready(queue), what="Redis")

    def _start_child(self, service: Service, spec: ChildSpec) -> None:
        child = Child(spec, show=self._show_line)
        self._children[service] = child
        self._keeper.start(child)

    def _wait(self, condition: Callable[[], bool], *, what: str) -> None:
        wait_until(
            condition, children=self._children.values(), timeout_s=SERVICE_TIMEOUT_S, what=what
        )

    def _child_started(self, child: Child) -> None:
        """Tell the guardian and other commands about a new process number."""
        if self._guardian is not None and child.pid is not None:
            if child.spec.death_signal is not signal.SIGKILL:
                self._guardian.remember(child.pid, child.spec.death_signal)
            self._write_state()

    def _show_line(self, name: str, line: str, is_trouble: bool) -> None:  # noqa: FBT001 - two kinds of lines
        # While starting, troubles of one process come from another one that is not up yet, and
        # while stopping from one that is gone; the log files have them.
        self._show(name, line, is_trouble and self._is_ready and not self._is_stopping)

    def _write_state(self) -> None:
        if self._plan is None:
            return
        own = psutil.Process()
        running = {name: child for name, child in self._children.items() if child.pid is not None}
        state = state_files.PlatformState(
            pid=own.pid,
            started_at=own.create_time(),
            is_ready=self._is_ready,
            ports={str(service): port for service, port in self._plan.ports.items()},
            ui_url=self._plan.ui_url,
            pids={str(name): child.pid or 0 for name, child in running.items()},
            process_started_at={str(name): child.created_at for name, child in running.items()},
        )
        with self._state_access:
            state_files.write_state(self._plan.data_dir, state)
