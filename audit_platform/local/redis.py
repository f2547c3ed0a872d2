"""The embedded Redis: configure, start, stop.

Here: one server process with append-only file, `noeviction` and one user per role. Not here:
restarts and logs of the platform (`supervisor.py`), commands on streams (`events/stream.py`).

Source of every option and of the access rules: delivery design, section 6.
"""

import os
import secrets
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from audit_platform.errors import StartRefused
from audit_platform.local import binaries

RedisUser = Literal["producer", "consumer", "sensor", "janitor", "admin"]
_MEBIBYTE: Final = 1 << 20

ACCESS_RULES: Final[Mapping[RedisUser, str]] = {
    "producer": "-@all +xadd +hget +hmget +ping +wait",
    "consumer": (
        "-@all +xreadgroup +xautoclaim +xclaim +xpending +xack +xdel +xlen +xinfo"
        " +multi +exec +hset +hkeys +ping"
    ),
    "sensor": "-@all +xread +xlen +xinfo +xpending +ping",
    "janitor": (
        "-@all +xgroup|create +xinfo +xlen +xpending +xtrim +hset +hdel +hscan +info +config|get"
        " +acl|getuser +ping"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisConfig:
    """What one embedded server needs; passwords are made once and kept by the caller."""

    data_dir: Path
    port: int
    passwords: Mapping[RedisUser, str]
    host: str = "127.0.0.1"
    key_pattern: str = "audit:*"
    maxmemory_bytes: int = 512 * _MEBIBYTE
    extra: tuple[str, ...] = field(default=())

    def url(self, user: RedisUser) -> str:
        """URL of one user on this server."""
        return f"redis://{user}:{self.passwords[user]}@{self.host}:{self.port}/0"


def new_passwords() -> dict[RedisUser, str]:
    """Make a random password for every user, admin included."""
    return {user: secrets.token_urlsafe(24) for user in (*ACCESS_RULES, "admin")}


def write_config(config: RedisConfig) -> Path:
    """Write `redis.conf` (0600) into the data directory, which is created; returns its path."""
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = config.data_dir / "redis.conf"
    lines = [
        f"bind {config.host}",
        f"port {config.port}",
        f'dir "{config.data_dir.resolve()}"',
        "daemonize no",
        "appendonly yes",
        "appendfsync everysec",
        "no-appendfsync-on-rewrite no",
        "aof-load-truncated yes",
        'save ""',
        f"maxmemory {config.maxmemory_bytes}",
        "maxmemory-policy noeviction",
        "tcp-backlog 128",
        "user default off",
        f"user admin on >{config.passwords['admin']} ~* &* +@all",
    ]
    lines += [
        f"user {user} on >{config.passwords[user]} ~{config.key_pattern} {rules}"
        for user, rules in ACCESS_RULES.items()
    ]
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join([*lines, *config.extra]) + "\n")
    return path


def command(config: RedisConfig) -> list[str]:
    """Command line of the server in the foreground; the configuration must be written."""
    return [str(binaries.redis_server()), str(config.data_dir.resolve() / "redis.conf")]


def is_ready(config: RedisConfig) -> bool:
    """Whether the server answers PING as admin."""
    return run_cli(config, "admin", "ping").strip() == "PONG"


def run_cli(
    config: RedisConfig, user: RedisUser, *arguments: str, stdin: bytes | None = None
) -> str:
    """Run `redis-cli` as a user; returns what it printed, also when it failed."""
    # The password goes by the environment of the child, not by its command line.
    completed = subprocess.run(
        [
            str(binaries.redis_cli()),
            "-h",
            config.host,
            "-p",
            str(config.port),
            "--user",
            user,
            *arguments,
        ],
        input=stdin,
        capture_output=True,
        check=False,
        env={"REDISCLI_AUTH": config.passwords[user], "PATH": ""},
    )
    return completed.stdout.decode(errors="replace")


class RedisServer:
    """One server process for tests and benchmarks; the platform runs it under its supervisor."""

    def __init__(self, config: RedisConfig) -> None:
        """Keep the configuration; nothing starts yet."""
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 10) -> None:
        """Start and wait until it answers.

        Raises:
            StartRefused: It exits or does not answer in time; names the log file.
        """
        write_config(self.config)
        log = self.config.data_dir / "redis.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command(self.config), stdout=output, stderr=output, process_group=0
            )
        deadline, pause = time.monotonic() + timeout_s, threading.Event()
        while not is_ready(self.config):
            if self.process.poll() is not None or time.monotonic() > deadline:
                message = f"Redis did not start ({shlex.join(command(self.config))}); see {log}"
                raise StartRefused(message)
            pause.wait(0.02)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM and wait; writes what is left to the append-only file."""
        self._end(signal.SIGTERM)

    def _end(self, signal_number: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal_number)
        self.process.wait(timeout=20)
        self.process = None
