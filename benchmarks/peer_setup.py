"""Installs what the peers need, outside the repository, once.

Here: a virtual environment with Django and a folder with BullMQ and TypeORM below the user's cache
directory, from the pinned lists in `peer_programs/`; made anew when a list changes. Not here:
running them (`peers.py`).
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PROGRAMS: Final = Path(__file__).parent / "peer_programs"
CACHE: Final = Path.home() / ".cache" / "audit-platform-peers"
OLDEST_NODE: Final = (20, 19)
INSTALL_TIMEOUT_S: Final = 600


class SetupFailed(Exception):
    """A peer cannot run here; the message says why and what would help."""


def node_program() -> Path:
    """Return `processor.js` beside its installed packages.

    Raises:
        SetupFailed: Node or npm is missing or too old, or the registry cannot be reached.
    """
    if not (shutil.which("node") and shutil.which("npm")):
        raise SetupFailed("node or npm is not installed: install Node.js 20.19 or later")
    answer = _run(("node", "--version"), CACHE.parent)
    if tuple(int(part) for part in answer.strip("v\n").split("."))[:2] < OLDEST_NODE:
        raise SetupFailed(f"node {answer.strip()} is too old: install Node.js 20.19 or later")

    def install(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(PROGRAMS / name, folder / name)
        # Not `npm ci`: it refuses a lock without the binaries of other systems.
        _run(("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"), folder)

    folder = _installed("node", [PROGRAMS / "package-lock.json"], install)
    # Node looks for packages beside the program.
    return Path(shutil.copyfile(PROGRAMS / "processor.js", folder / "processor.js"))


def django_python() -> Path:
    """Return the interpreter of an environment with Django and psycopg.

    Raises:
        SetupFailed: The registry cannot be reached.
    """
    requirements = PROGRAMS / "requirements.txt"

    def install(folder: Path) -> None:
        _run((sys.executable, "-m", "venv", str(folder / "venv")), folder)
        pip = (str(folder / "venv" / "bin" / "python"), "-m", "pip")
        _run((*pip, "install", "-q", "-r", str(requirements)), folder)

    return _installed("django", [requirements], install) / "venv" / "bin" / "python"


def _installed(name: str, lists: Sequence[Path], install: Callable[[Path], None]) -> Path:
    """Return the folder of these lists, installed; an unfinished one is made anew."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in lists)).hexdigest()
    folder = CACHE / f"{name}-{digest[:12]}"
    finished = folder / "finished"
    if not finished.exists():
        print(f"installing {name} in {folder} …", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install(folder)
        finished.touch()
    return folder


def _run(command: Sequence[str], folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        completed = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SetupFailed(f"{' '.join(command)}: {exc}") from exc
    if completed.returncode != 0:
        said = " ".join(completed.stderr.split())[-600:] or "no message"
        raise SetupFailed(f"{' '.join(command)} failed; is the registry reachable? {said}")
    return completed.stdout
