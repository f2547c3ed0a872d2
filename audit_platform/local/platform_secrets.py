"""Passwords and keys that a platform makes once and keeps in its data directory.

Here: making, keeping, reading. Not here: giving them to servers (`prepare.py`, `redis.py`).
Guarantee: a secret, once given out, stays: the keys open dead letters that were written with them.
The file is readable by its owner only.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

from audit_platform.errors import StartRefused
from audit_platform.local.platform_state import write_atomically
from audit_platform.local.redis import RedisUser, new_passwords

SECRETS_FILE: Final = "secrets.json"
DATABASE_LOGINS: Final = ("admin", "writer", "reader", "maint", "app", "dagster")
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSecrets:
    """Everything secret of one data directory.

    Attributes:
        database: Password by `DATABASE_LOGINS`; admin is used by the embedded server only.
        redis: Password by user of the embedded Redis.
        dead_letter_key: 32 bytes, base64.
        cursor_key: 32 bytes, base64.
    """

    database: Mapping[str, str]
    redis: Mapping[RedisUser, str]
    dead_letter_key: str
    cursor_key: str


def load_or_make_secrets(data_dir: Path) -> PlatformSecrets:
    """Read the secrets of a data directory; the first call makes them.

    Raises:
        StartRefused: The file cannot be read as one of ours.
    """
    path = data_dir / SECRETS_FILE
    if not path.exists():
        made = _new_secrets()
        write_atomically(path, json.dumps(asdict(made), indent=2) + "\n")
        return made
    try:
        values: Any = json.loads(path.read_text())
        return PlatformSecrets(**cast("dict[str, Any]", values))
    except (OSError, ValueError, TypeError) as exc:
        message = (
            f"{path} is damaged: restore it from a backup, "
            "or set AUDIT_DATA_DIR to a new directory."
        )
        raise StartRefused(message, setting="AUDIT_DATA_DIR") from exc


def _new_secrets() -> PlatformSecrets:
    return PlatformSecrets(
        database={login: secrets.token_urlsafe(24) for login in DATABASE_LOGINS},
        redis=new_passwords(),
        dead_letter_key=_new_key(),
        cursor_key=_new_key(),
    )


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
