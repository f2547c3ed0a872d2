"""Dead letters: encrypt, keep, count and list events that could not be stored.

Here: the vault that turns raw bytes into what may lie in a table, and reading it back. Not here:
why an event is bad (`events/frame.py`) and the transaction that inserts it (`events/copy_rows.py`).
Guarantee: the table holds no readable payload, and equal bytes have equal digests under one key.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit_platform.db.pool import Connection
from audit_platform.db.queries import load_queries
from audit_platform.errors import InvalidSetting
from audit_platform.settings import Settings

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
# One secret, two uses: a derived key for the digest keeps AES-GCM and HMAC apart.
_DIGEST_LABEL: Final = b"audit-platform dead letter digest v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Raw bytes as the table keeps them."""

    digest: bytes
    ciphertext: bytes
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One event that could not be stored; `raw` is None when another key encrypted it."""

    dead_id: int
    reason: str
    detail: str | None
    shard: int | None
    entry_id: str | None
    line_no: int | None
    raw: bytes | None
    key_id: str
    first_seen: datetime
    resolved_at: datetime | None


class DeadLetterVault:
    """Encrypts raw bytes with AES-256-GCM and names them by a keyed digest."""

    def __init__(self, key: bytes) -> None:
        """Take the key.

        Args:
            key: 32 bytes, `Settings.dead_letter_key` decoded.

        Raises:
            ValueError: The key has another length.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"the dead-letter key has {len(key)} bytes; {KEY_BYTES} are needed")
        self._cipher = AESGCM(key)
        self._digest_key = hmac.digest(key, _DIGEST_LABEL, "sha256")
        self.key_id = hashlib.sha256(key).hexdigest()[:8]

    @classmethod
    def of_base64(cls, text: str) -> Self:
        """Make a vault from the setting's text.

        Raises:
            ValueError: The text is no base64 of 32 bytes.
        """
        return cls(base64.b64decode(text, validate=True))

    @classmethod
    def of_settings(cls, settings: Settings) -> Self:
        """Make a vault with the platform's key.

        Raises:
            InvalidSetting: There is none.
        """
        if settings.dead_letter_key is None:
            raise InvalidSetting(
                "AUDIT_DEAD_LETTER_KEY is not set and no platform has run here: start one with "
                "`audit-platform up`, or set 32 bytes in base64",
                field="dead_letter_key",
            )
        return cls.of_base64(settings.dead_letter_key.get_secret_value())

    def seal(self, raw: bytes) -> Sealed:
        """Encrypt one event's bytes; the digest is the same each time, the ciphertext never."""
        digest = hmac.digest(self._digest_key, raw, "sha256")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        ciphertext = nonce + self._cipher.encrypt(nonce, raw, None)
        return Sealed(digest=digest, ciphertext=ciphertext, key_id=self.key_id)

    def open(self, ciphertext: bytes) -> bytes:
        """Decrypt what `seal` made.

        Raises:
            ValueError: Another key made it, or it was changed.
        """
        nonce, body = ciphertext[:_NONCE_BYTES], ciphertext[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, body, None)
        except InvalidTag as exc:
            raise ValueError("this dead letter was made with another key, or was changed") from exc


def list_dead_letters(
    connection: Connection,
    vault: DeadLetterVault,
    *,
    limit: int,
    reason: str | None = None,
    before_id: int | None = None,
) -> list[DeadLetter]:
    """Page through the dead letters, newest first.

    Args:
        connection: Of a role that may read them: the owner, never the writer.
        vault: Holds the key they were made with.
        limit: Rows of one page.
        reason: Only this reason.
        before_id: Only older ones than this `dead_id`: the last one of the page before.
    """
    rows = connection.execute(
        load_queries("events")["list_dead_letters"],
        {"limit": limit, "reason": reason, "before_id": before_id},
    ).fetchall()
    return [_dead_letter(row, vault) for row in rows]


def _dead_letter(row: tuple[Any, ...], vault: DeadLetterVault) -> DeadLetter:
    dead_id, reason, detail, shard, entry_id, line_no, ciphertext, key_id, first_seen, resolved = (
        row
    )
    return DeadLetter(
        dead_id=dead_id,
        reason=reason,
        detail=detail,
        shard=shard,
        entry_id=entry_id,
        line_no=line_no,
        raw=vault.open(bytes(ciphertext)) if key_id == vault.key_id else None,
        key_id=key_id,
        first_seen=first_seen,
        resolved_at=resolved,
    )
