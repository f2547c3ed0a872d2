"""The user that runs PostgreSQL when root starts it, and directories which that user can reach.

Here: choosing the account and the places. Not here: the server (`postgres.py`), copies of its
binaries (`binaries.py`).
"""

import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import Final

from audit_platform.errors import StartRefused
from audit_platform.local.binaries import is_reachable

_CANDIDATES: Final = ("postgres", "nobody")
_SHARED_ROOT: Final = Path("/var/tmp/audit-platform")  # noqa: S108 - outlives reboots, owned per user below


def account() -> pwd.struct_passwd:
    """Find the user that runs the server when root starts it.

    Raises:
        StartRefused: Neither of the usual users exists.
    """
    for name in _CANDIDATES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    message = (
        "PostgreSQL does not run as root, and neither user postgres nor nobody exists: "
        "run as another user"
    )
    raise StartRefused(message)


def shared_directory(account: pwd.struct_passwd) -> Path:
    """Directory of the account below /var/tmp, for what lies elsewhere out of its reach."""
    _SHARED_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    require_trustworthy(_SHARED_ROOT)
    return _own_directory(_SHARED_ROOT / f"uid-{account.pw_uid}", account)


def require_trustworthy(directory: Path) -> None:
    """Refuse a directory in which somebody else could put a link of the name that we will use.

    /var/tmp is open to everybody: what lies there may have been made to catch root.

    Raises:
        StartRefused: It is a link, belongs to another user, or others may write into it.
    """
    status = directory.lstat()
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.geteuid()
        or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        message = (
            f"{directory} is not safe to use: it belongs to another user, is open to others, or is "
            "a link. Remove it, or set AUDIT_DATA_DIR to a directory that the user of PostgreSQL "
            "can reach."
        )
        raise StartRefused(message)


def reachable_directory(wished: Path, account: pwd.struct_passwd) -> Path:
    """Make the wished directory if its user can reach it, else one below /var/tmp.

    A file `<wished>.elsewhere` keeps the path, so that the next start finds it.
    """
    if is_reachable(wished.parent, account.pw_uid):
        return _own_directory(wished, account)
    pointer = wished.with_suffix(".elsewhere")
    if pointer.exists():
        return Path(pointer.read_text().strip())
    base = shared_directory(account)
    elsewhere = Path(tempfile.mkdtemp(prefix=f"{wished.name}-", dir=base))
    os.chown(elsewhere, account.pw_uid, account.pw_gid)
    pointer.write_text(f"{elsewhere}\n")
    return elsewhere


def _own_directory(path: Path, account: pwd.struct_passwd) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.mkdir(exist_ok=True, mode=0o700)
    if path.stat().st_uid != account.pw_uid:
        os.chown(path, account.pw_uid, account.pw_gid)
    return path
