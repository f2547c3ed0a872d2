"""Patterns of secrets inside text: cards, tokens, keys, headers, URLs with passwords (pure).

Here: the patterns, the cheap scan before them, and the replacement. Not here: key names and the
walk over nested values (`privacy/redact.py`).
Guarantee: `is_suspicious` is true for every text that `redact_text` would change; it may be true
for others. What is left after a replacement is not replaced again.

Source of the prefixes: the token formats that providers publish. Of the card ranges: ISO/IEC 7812
issuer numbers with the lengths their networks use, so that a long number is mistaken for a card
only if it begins like one and satisfies Luhn (one in ten).
"""

import base64
import binascii
import re
from typing import Final

REDACTED: Final = "[redacted]"
SHORTEST_SECRET: Final = 8
"""Shorter texts are never searched: `pwd=1234` has eight characters."""

_CARD: Final = re.compile(r"(?<![0-9A-Za-z._-])[0-9](?:[ -]?[0-9]){11,18}(?![0-9A-Za-z_-])")
_CARD_RANGES: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa: 13, 16, 19 digits
    r"|(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d{2})\d{12,15}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|(?:30[0-5]|36\d|38\d|39\d)\d{11,16}"  # Diners Club
    r"|62\d{14,17}"  # UnionPay
    r"|(?:50|5[6-9]|6\d)\d{10,17}",  # Maestro
    re.ASCII,
)

# Every alternative has at least _TOKEN_RUN characters of [A-Za-z0-9_.-], which the scan looks for.
_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"eyJ[A-Za-z0-9_-]{12,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*"  # JSON Web Token
    r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{12,}|whsec_[A-Za-z0-9]{14,}"
    r"|gh[oprsu]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{15,}|xapp-[A-Za-z0-9-]{15,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16,}|AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{16,}"
    r"|sk-[A-Za-z0-9_-]{20,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|hvs\.[A-Za-z0-9_-]{16,}"
    r"|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|hf_[A-Za-z0-9]{30,}|dop_v1_[a-f0-9]{32,}"
    r"|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{16,}|AGE-SECRET-KEY-[A-Z0-9]{16,}"
    r"|aud_[a-z0-9]+_[A-Za-z0-9]+_[A-Za-z0-9_]{24,}"
    r")"
)
_TOKEN_PREFIXES: Final = (
    *(b"eyJ", b"k_live_", b"k_test_", b"whsec_", b"gho_", b"ghp_", b"ghr_", b"ghs_", b"ghu_"),
    *(b"github_pat_", b"glpat-", b"xox", b"xapp-", b"AKIA", b"ASIA", b"AIza", b"ya29.", b"sk-"),
    *(b"SG.", b"hvs.", b"npm_", b"pypi-", b"hf_", b"dop_v1_", b"shp", b"AGE-SECRET-KEY-", b"aud_"),
)
_TOKEN_RUN: Final = 20
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?"
    r"(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
# Password part of user:password@host, also without a user.
_URL_PASSWORD: Final = re.compile(r"(://[^\s/:@]*:)([^\s/@]+)(?=@)")
_BEARER: Final = re.compile(
    r"(bearer +)((?=[^\s,;\"']*[0-9])[\w.~+/=-]{8,}|[\w.~+/=-]{24,})", re.ASCII | re.IGNORECASE
)
_BASIC: Final = re.compile(r"(basic +)([A-Za-z0-9+/_-]{6,}={0,2})", re.ASCII | re.IGNORECASE)
_HEADER: Final = re.compile(
    r"(authorization[\"']?\s*[:=]\s*[\"']?"
    r"(?:(?:apikey|aws4-hmac-sha256|basic|bearer|digest|negotiate|token)\s+)?)([^\s\"',;]+)",
    re.ASCII | re.IGNORECASE,
)
_COOKIE: Final = re.compile(r"(cookie\s*:\s*)([^\r\n\"]+)", re.ASCII | re.IGNORECASE)
_NAMES_IN_TEXT: Final = (
    r"passwords?|passwd|passphrase|pwd|secret|secret[_-]?key|token|api[_-]?key|access[_-]?key"
)
# `password=x`, `password: x`, and JSON inside a text. A bare colon counts after a password only:
# resource names such as arn:…:secret:name are no secrets.
_ASSIGNMENT: Final = re.compile(
    rf"((?:{_NAMES_IN_TEXT})(?:[\"']\s*[:=]|\s*=|\s*:(?=\s))\s*|(?:passwords?|passwd|pwd)\s*:)"
    r"(\[redacted\]|\"[^\"]*\"?|'[^']*'?|[^\s&;,\"'}\])]+)",
    re.ASCII | re.IGNORECASE,
)

# UUIDs and trace ids are frequent, long and no secrets.
_IDENTIFIER: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SCAN_WORDS: Final = (b"bearer ", b"basic ", b"-----begin", b"authorization", b"cookie")
_CARD_RUN: Final = b"0" * 12
_TO_DIGIT_CLASS: Final = bytes(
    ord("0") if chr(byte) in "0123456789" else byte for byte in range(256)
)
_WORD_RUN: Final = b"a" * _TOKEN_RUN
_TO_WORD_CLASS: Final = bytes(
    ord("a") if byte < 128 and (chr(byte).isalnum() or chr(byte) in "_.-") else ord(" ")  # noqa: PLR2004 - ASCII
    for byte in range(256)
)


def is_suspicious(text: str) -> bool:
    """Scan a text for what might be a secret; cheap and generous.

    Searches for substrings and byte translations run at memory speed and come first; a pattern
    runs only after one of its substrings was found (36 characters: 1.5 microseconds, 2026-11).
    """
    if _IDENTIFIER.fullmatch(text) is not None:
        return False
    data = text.encode("utf-8", "surrogatepass")
    if _CARD_RUN in data.translate(_TO_DIGIT_CLASS, b" -"):
        return True
    if len(data) >= _TOKEN_RUN and _has_token_prefix(data):
        return True
    lower = data.lower()
    for word in _SCAN_WORDS:
        if word in lower:
            return True
    if b":" not in lower and b"=" not in lower:
        return False
    return _ASSIGNMENT.search(text) is not None or _URL_PASSWORD.search(text) is not None


def _has_token_prefix(data: bytes) -> bool:
    if _WORD_RUN not in data.translate(_TO_WORD_CLASS):
        return False
    for prefix in _TOKEN_PREFIXES:  # noqa: SIM110 - any() with a generator takes twice as long
        if prefix in data:
            return True
    return False


def redact_text(text: str) -> str:
    """Replace secrets inside one text, leaving the rest of it readable."""
    if len(text) < SHORTEST_SECRET:
        return text
    text = _PEM.sub(REDACTED, text)
    text = _TOKEN.sub(REDACTED, text)
    for pattern in (_HEADER, _COOKIE, _BEARER, _ASSIGNMENT, _URL_PASSWORD):
        text = pattern.sub(_keep_name, text)
    text = _BASIC.sub(_redact_basic, text)
    return _CARD.sub(_redact_card, text)


def has_card_shape(text: str) -> bool:
    """Whether a text of digits, blanks and dashes is a card number of a known issuer, by Luhn."""
    digits = text.replace(" ", "").replace("-", "")
    return _CARD_RANGES.fullmatch(digits) is not None and _has_luhn_sum(digits)


def _has_luhn_sum(digits: str) -> bool:
    odd = sum(int(digit) for digit in digits[-1::-2])
    even = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (odd + even) % 10 == 0


def _keep_name(match: re.Match[str]) -> str:
    return match[1] + REDACTED


def _redact_card(match: re.Match[str]) -> str:
    return REDACTED if has_card_shape(match[0]) else match[0]


def _redact_basic(match: re.Match[str]) -> str:
    """Replace what follows `Basic` if it is user:password in base64, as in the header."""
    bare = match[2].rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(bare + "=" * (-len(bare) % 4))
    except (binascii.Error, ValueError):
        return match[0]
    return match[1] + REDACTED if b":" in decoded else match[0]
