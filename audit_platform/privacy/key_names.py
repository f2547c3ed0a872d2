"""Key names whose values are secret (pure).

Here: the names and how spellings are compared. Not here: what happens to the values
(`privacy/redact.py`).

Source: security design, S20; names of the common web frameworks and identity providers.
"""

import re
from enum import IntEnum
from typing import Final

# Names are compared in lower case, without separators and trailing digits.
_SECRET_NAMES: Final = frozenset(
    {
        "accesskeyid",
        "accountkey",
        "auth",
        "authcode",
        "authheader",
        "authkey",
        "bearer",
        "cardnumber",
        "ccnumber",
        "connectionstring",
        "cookie",
        "cookies",
        "creditcard",
        "creditcardnumber",
        "cvc",
        "cvn",
        "cvv",
        "dsn",
        "hmackey",
        "jwt",
        "masterkey",
        "mfacode",
        "onetimepassword",
        "otp",
        "otpcode",
        "pan",
        "passcode",
        "passwordhash",
        "passwords",
        "passwordsalt",
        "pin",
        "pincode",
        "proxyauthorization",
        "pw",
        "pwd",
        "recoverycode",
        "recoverycodes",
        "secrets",
        "securitycode",
        "setcookie",
        "sharedaccesssignature",
        "ssn",
        "totp",
    }
)
_SECRET_SUFFIXES: Final = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "tokenhash",
    "passwordconfirmation",
    "apikey",
    "accesskey",
    "encryptionkey",
    "privatekey",
    "secretkey",
    "signingkey",
    "credential",
    "credentials",
    "authorization",
)
_SESSION_NAMES: Final = frozenset(
    {
        "connectsid",
        "jsessionid",
        "phpsessid",
        "sessid",
        "session",
        "sessionid",
        "sessionkey",
        "sid",
        "usersessionid",
    }
)
_NO_KEY_CHARACTERS: Final = re.compile(r"[\W_]+")


class KeyVerdict(IntEnum):
    """What becomes of the value below a key."""

    KEEP = 0
    MASK = 1
    FINGERPRINT = 2


def judge_key(key: str, own_names: frozenset[str]) -> KeyVerdict:
    """Say what becomes of the value below a key.

    Args:
        key: As the application wrote it.
        own_names: Further secret names, normalised.
    """
    name = normalise_key(key)
    if name in _SECRET_NAMES or name in own_names or name.endswith(_SECRET_SUFFIXES):
        return KeyVerdict.MASK
    return KeyVerdict.FINGERPRINT if name in _SESSION_NAMES else KeyVerdict.KEEP


def normalise_key(key: str) -> str:
    """Bring a key name into the form that is compared: `API-Key_2` → `apikey`."""
    return _NO_KEY_CHARACTERS.sub("", key).lower().rstrip("0123456789")
