"""The embedded PostgreSQL: initialise, configure, start, stop; never as root.

Here: one cluster in one directory. Not here: roles and tables (`db/migrate.py`), restarts and logs
of the platform (`supervisor.py`).
PostgreSQL refuses to run as root; then the cluster belongs to an unprivileged user (`postgres`,
else `nobody`), and where that user cannot reach the environment or the data directory, copies
below /var/tmp are used and named.

Source of the memory and write settings: features design, section 4 (embedded server).
"""

import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from audit_platform.errors import DiskFull, StartRefused
from audit_platform.local import binaries, unprivileged

ADMIN: Final = "audit_admin"

SERVER_SETTINGS: Final = {
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "wal_buffers": "16MB",
    "checkpoint_completion_target": "0.9",
    "max_wal_size": "2GB",
    "max_connections": "100",
    "max_parallel_workers_per_gather": "2",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "password_encryption": "'scram-sha-256'",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "log_min_messages": "warning",
    # No statement text in the log: it would hold event content.
    "log_min_error_statement": "panic",
    "log_line_prefix": "'%m [%p] '",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresConfig:
    """What one embedded cluster needs."""

    data_dir: Path
    port: int
    password: str
    version: binaries.PostgresVersion = 18
    host: str = "127.0.0.1"
    is_durable: bool = True

    def url(self, database: str, *, user: str = ADMIN, password: str | None = None) -> str:
        """URL of a database on this server."""
        secret = quote(password if password is not None else self.password, safe="")
        return f"postgresql://{user}:{secret}@{self.host}:{self.port}/{database}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresPlace:
    """Where the cluster lies and who runs it, after the question of root is settled."""

    bin_dir: Path
    cluster: Path
    user: str | None
    uid: int | None
    gid: int | None


def new_password() -> str:
    """Make a random password."""
    return secrets.token_urlsafe(24)


def place(config: PostgresConfig) -> PostgresPlace:
    """Settle binaries, cluster directory and user; makes directories, starts nothing.

    Raises:
        StartRefused: Root, and no unprivileged user exists.
    """
    bin_dir = binaries.postgres_bin(config.version)
    cluster = config.data_dir.resolve() / f"postgres-{config.version}"
    config.data_dir.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        cluster.mkdir(mode=0o700, exist_ok=True)
        return PostgresPlace(bin_dir=bin_dir, cluster=cluster, user=None, uid=None, gid=None)
    account = unprivileged.account()
    cluster = unprivileged.reachable_directory(cluster, account)
    shared = unprivileged.shared_directory(account)
    return PostgresPlace(
        bin_dir=binaries.reachable_copy(bin_dir, uid=account.pw_uid, into=shared),
        cluster=cluster,
        user=account.pw_name,
        uid=account.pw_uid,
        gid=account.pw_gid,
    )


def initialise(config: PostgresConfig, where: PostgresPlace) -> bool:
    """Run `initdb` where no cluster is yet and write the settings; returns whether it was new.

    Raises:
        StartRefused: `initdb` failed, or the cluster is of another major version.
        DiskFull: There is no space for it.
    """
    is_new = not (where.cluster / "PG_VERSION").exists()
    if is_new:
        _clear(where.cluster)
        _run_initdb(config, where)
    else:
        _check_version(config, where)
    lines = [f"{name} = {value}" for name, value in SERVER_SETTINGS.items()]
    lines += [
        f"listen_addresses = '{config.host}'",
        f"port = {config.port}",
        # Connections go over TCP with a password; a socket directory would add a path length limit.
        "unix_socket_directories = ''",
    ]
    if not config.is_durable:
        # Tests: survives SIGKILL of any process, not a power loss.
        lines += ["fsync = off", "full_page_writes = off"]
    _write_as(where, where.cluster / "postgresql.auto.conf", "\n".join(lines) + "\n")
    return is_new


def command(where: PostgresPlace) -> list[str]:
    """Command line of the server in the foreground."""
    return [str(where.bin_dir / "postgres"), "-D", str(where.cluster)]


def process_options(where: PostgresPlace) -> dict[str, object]:
    """Arguments for `subprocess.Popen` that make the server's user run it; empty when not root."""
    if where.uid is None:
        return {}
    return {"user": where.uid, "group": where.gid, "extra_groups": [], "cwd": str(where.cluster)}


def is_ready(config: PostgresConfig, where: PostgresPlace) -> bool:
    """Whether the server accepts connections."""
    completed = subprocess.run(
        [
            str(where.bin_dir / "pg_isready"),
            "-q",
            "-h",
            config.host,
            "-p",
            str(config.port),
            "-t",
            "1",
        ],
        check=False,
        capture_output=True,
        cwd="/",
    )
    return completed.returncode == 0


def postmaster_pid(where: PostgresPlace) -> int | None:
    """Process number in `postmaster.pid` while such a process exists, else None."""
    try:
        pid = int((where.cluster / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, 0)
    except (OSError, ValueError, IndexError):
        return None
    return pid


class PostgresServer:
    """One server process for tests and benchmarks; the platform runs it under its supervisor."""

    def __init__(self, config: PostgresConfig) -> None:
        """Settle the place; nothing starts yet."""
        self.config = config
        self.where = place(config)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 30) -> None:
        """Initialise where needed, start, and wait until it accepts connections.

        Raises:
            StartRefused: It exits or does not accept connections in time; names the log file.
        """
        initialise(self.config, self.where)
        # After SIGKILL the old process stays visible for up to 2 s and blocks the start (measured).
        _wait_until(lambda: postmaster_pid(self.where) is None, timeout_s)
        log = self.config.data_dir / f"postgres-{self.config.version}.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # pyright: ignore[reportCallIssue]
                command(self.where),
                stdout=output,
                stderr=output,
                process_group=0,
                **process_options(self.where),  # pyright: ignore[reportArgumentType]
            )
        process = self.process
        _wait_until(
            lambda: process.poll() is not None or is_ready(self.config, self.where), timeout_s
        )
        if process.poll() is not None or not is_ready(self.config, self.where):
            message = f"PostgreSQL did not start on port {self.config.port}; see {log}"
            raise StartRefused(message)

    def kill(self) -> None:
        """SIGKILL the postmaster, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Fast shutdown (SIGINT): ends sessions, writes a checkpoint."""
        self._end(signal.SIGINT)

    def _end(self, signal_number: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal_number)
        self.process.wait(timeout=60)
        self.process = None


def remove(config: PostgresConfig) -> None:
    """Delete the cluster directory, wherever it lies; the server must be stopped."""
    shutil.rmtree(place(config).cluster, ignore_errors=True)


def _clear(cluster: Path) -> None:
    """Remove what an interrupted `initdb` left."""
    for leftover in cluster.iterdir():
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _run_initdb(config: PostgresConfig, where: PostgresPlace) -> None:
    password_file = where.cluster.with_name(f"{where.cluster.name}.pw-{os.getpid()}")
    _write_as(where, password_file, config.password + "\n")
    try:
        completed = subprocess.run(  # pyright: ignore[reportCallIssue]
            [
                str(where.bin_dir / "initdb"),
                *("-D", str(where.cluster), "-U", ADMIN, "-E", "UTF8", "--locale=C", "-N"),
                *("--auth=scram-sha-256", "--pwfile", str(password_file)),
            ],
            capture_output=True,
            check=False,
            **process_options(where),  # pyright: ignore[reportArgumentType]
        )
    finally:
        password_file.unlink(missing_ok=True)
    if completed.returncode != 0:
        (where.cluster / "PG_VERSION").unlink(missing_ok=True)
        text = completed.stderr.decode(errors="replace")
        if "No space left" in text:
            raise DiskFull
        last = text.strip().splitlines()[-1] if text.strip() else "no message"
        message = f"initdb failed: {last}; check AUDIT_DATA_DIR"
        raise StartRefused(message)


def _check_version(config: PostgresConfig, where: PostgresPlace) -> None:
    found = (where.cluster / "PG_VERSION").read_text().strip()
    if found != str(config.version):
        message = f"the cluster is of PostgreSQL {found}: set AUDIT_POSTGRES_VERSION={found}"
        raise StartRefused(message)


def _write_as(where: PostgresPlace, path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    if where.uid is not None and where.gid is not None:
        os.chown(path, where.uid, where.gid)


def _wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not condition() and time.monotonic() < deadline:
        pause.wait(0.05)
