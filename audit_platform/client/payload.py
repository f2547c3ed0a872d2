"""JSON of an event as the ingest job accepts it, or the reason why not (pure).

Here: encoding, and the limits that only the whole text shows: NUL, lone surrogates, number of
keys, size. Not here: depth and size of single values, which the redactor bounds before anything
is encoded.
"""

import json
import json.encoder
from collections.abc import Callable, Mapping
from typing import Final, cast

from pydantic_core import to_json

from audit_platform.client import fields
from audit_platform.errors import InvalidEvent
from audit_platform.events.event import JSON_FIELDS

# Of changes, metadata and context together, at every level: the default of the ingest job.
MAX_JSON_KEYS: Final = 256

_Chunks = Callable[[object, int], tuple[str, ...]]


def _make_encoder() -> Callable[[object], str]:
    """Build the encoder once; `JSONEncoder.encode` builds its C part anew in every call.

    That is a tenth of the whole `log()` (measured 2026-11, benchmarks/log_call.py). Without the C
    part, the public encoder does the same, more slowly.
    """
    public = json.JSONEncoder(
        ensure_ascii=False,
        allow_nan=False,
        # The redactor bounds the depth before, so that a cycle never gets here.
        check_circular=False,
        separators=(",", ":"),
        default=fields.plain,
    )
    make: Callable[..., _Chunks] | None = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return public.encode
    no_indent = no_markers = None
    sort_keys = skip_keys = allow_nan = False
    separators = (":", ",")
    flags = (sort_keys, skip_keys, allow_nan)
    text = json.encoder.encode_basestring
    chunks = make(no_markers, fields.plain, text, no_indent, *separators, *flags)
    return lambda value: "".join(chunks(value, 0))


_encode: Final = _make_encoder()
_NUL: Final = b"\\u0000"


def field_json(name: str, value: object) -> str:
    """Write the value of one field as compact JSON.

    Raises:
        InvalidEvent: JSON does not know something in it.
    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError, RuntimeError) as exc:
        raise _no_json(name, exc) from exc


def to_payload(
    record: Mapping[str, object], context_json: str, *, max_bytes: int, is_plain: bool = False
) -> bytes:
    """Write a whole event.

    Args:
        record: Every field but the context, in wire form.
        context_json: JSON text of the context.
        max_bytes: Largest event.
        is_plain: Whether the record holds exact built-in types alone, which a faster encoder
            writes alike (finite numbers alone); `1e-7` stands for `1e-07` then.

    Raises:
        InvalidEvent: Something in it cannot be stored; names the field.
    """
    payload = (_plain_json(record) if is_plain else None) or _encoded(_record_json(record))
    if context_json != "{}":
        payload = b'%b,"context":%b}' % (payload[:-1], _encoded(context_json))
    if payload.count(b'":') > MAX_JSON_KEYS:
        _refuse_many_keys(payload)
    if _NUL in payload and _holds_nul(json.loads(payload)):
        raise InvalidEvent(
            field="event",
            problem="holds a NUL character",
            remedy="remove it; PostgreSQL stores none",
        )
    if len(payload) > max_bytes:
        raise InvalidEvent(
            field="event",
            problem=f"has {len(payload)} bytes",
            remedy=f"keep it below {max_bytes}: store large values elsewhere",
        )
    return payload


def _plain_json(record: Mapping[str, object]) -> bytes | None:
    """Write it four times as fast, in Rust; None where that encoder refuses, as a surrogate."""
    try:
        return to_json(record)
    except ValueError:
        return None


def _record_json(record: Mapping[str, object]) -> str:
    try:
        return _encode(record)
    except (TypeError, ValueError, RecursionError, RuntimeError):
        for name in JSON_FIELDS:
            field_json(name, record.get(name))
        raise


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidEvent(
            field="event", problem="holds a lone surrogate", remedy="decode the text correctly"
        ) from None


def _no_json(name: str, exc: Exception) -> InvalidEvent:
    if isinstance(exc, RuntimeError) and not isinstance(exc, RecursionError):
        return InvalidEvent(
            field=name, problem="was changed by another thread meanwhile", remedy="pass a copy"
        )
    return InvalidEvent(
        field=name, problem=str(exc)[:200], remedy="pass values that JSON knows, or str(value)"
    )


def _refuse_many_keys(payload: bytes) -> None:
    """Count the keys of all JSON fields together, as the ingest job does."""
    event = cast("dict[str, object]", json.loads(payload))
    keys = sum(_key_count(event.get(name)) for name in JSON_FIELDS)
    if keys > MAX_JSON_KEYS:
        raise InvalidEvent(
            field="event",
            problem=f"has {keys} keys in changes, metadata and context",
            remedy=f"log at most {MAX_JSON_KEYS} keys, or lists of values",
        )


def _key_count(value: object) -> int:
    if isinstance(value, dict):
        mapping = cast("dict[str, object]", value)
        return len(mapping) + sum(map(_key_count, mapping.values()))
    return sum(map(_key_count, cast("list[object]", value))) if isinstance(value, list) else 0


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        mapping = cast("dict[str, object]", value)
        return any("\x00" in key or _holds_nul(item) for key, item in mapping.items())
    return isinstance(value, list) and any(map(_holds_nul, cast("list[object]", value)))
