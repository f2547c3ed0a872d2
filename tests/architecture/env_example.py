"""Renders `.env.example` from the fields of `settings.py`.

Here: the text, without I/O. Writing it: `make docs`. Guarantee: every field stands in it once,
commented out, with its range and default, so that a copy of the file changes nothing.
"""

import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from audit_platform.settings import ENV_PREFIX, ClientSettings, Settings

_HEAD: Final = """\
# Every setting of Audit Platform, with range and default. Written by `make docs` from
# audit_platform/settings.py: change that file, not this one.
# Copy to .env and remove the # of what you change. The environment wins over .env; .env wins over
# the file platform.env that a running platform writes into its data directory.
"""
_BOUNDS: Final = (
    ("ge", "at least"),
    ("gt", "more than"),
    ("le", "at most"),
    ("lt", "less than"),
    ("min_length", "at least characters:"),
    ("max_length", "at most characters:"),
    ("pattern", "form"),
)


def render() -> str:
    """Return the whole file: the producer's settings first, then the server's."""
    producer = set(ClientSettings.model_fields)
    server = [name for name in Settings.model_fields if name not in producer]
    parts = [_HEAD, "\n# --- Applications that log ---\n"]
    parts += [_entry(name) for name in ClientSettings.model_fields]
    parts += ["\n# --- The platform itself ---\n"]
    parts += [_entry(name) for name in server]
    return "".join(parts)


def _entry(name: str) -> str:
    field = Settings.model_fields[name]
    limits = "; ".join(_limits(field))
    text = f"{field.description}" + (f" ({limits})" if limits else "")
    return f"\n# {text}\n# {ENV_PREFIX}{name.upper()}={_default(field.default)}\n"


def _limits(field: FieldInfo) -> Iterator[str]:
    if choices := _choices(field.annotation):
        yield "one of " + ", ".join(choices)
    for constraint in field.metadata:
        for attribute, word in _BOUNDS:
            if (value := getattr(constraint, attribute, None)) is not None:
                yield f"{word} {value:_}" if isinstance(value, int) else f"{word} {value}"


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [str(value) for value in typing.get_args(annotation)]
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        return [choice for part in typing.get_args(annotation) for choice in _choices(part)]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    return []


def _default(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        # The defaults of secrets are public by nature: addresses of the embedded services.
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(map(str, typing.cast("tuple[object, ...]", value)))
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Enum):
        return str(value.value)
    return str(value)
