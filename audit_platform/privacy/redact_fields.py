"""Named fields taken out of an event, beside what looks like a secret everywhere (pure).

Here: names and paths a policy lists, and taking their values out. Not here: built-in names and
patterns (`privacy/redact.py`), which rule applies to an event (`events/policy_rules.py`).
Guarantee: total on values whose depth is bounded already, which `privacy/redact.py` sees to before;
the values given are never changed, and redacting twice changes nothing.

A name is a column (`user_label`), or a key at any depth of `changes`, `metadata` and `context`
(`iban`). A path starts with one of these three (`metadata.customer.phone`); lists on its way are
passed through, so that it reaches the objects inside them. Containers keep their shape.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from audit_platform.privacy.key_names import normalise_key
from audit_platform.privacy.patterns import REDACTED

Path: TypeAlias = tuple[str, ...]

JSON_COLUMNS: Final = ("changes", "metadata", "context")
TEXT_COLUMNS: Final = frozenset(
    {
        "entity_id",
        "entity_label",
        "user_id",
        "user_label",
        "impersonator_id",
        "description",
        "correlation_id",
    }
)
"""Text that can be taken out; the others say which events these are, or who may read them."""
_FIXED_COLUMNS: Final = frozenset(
    {
        *("id", "timestamp", "tenant_id", "source", "action", "status", "entity_type"),
        *("actor_type", "trace_id", "bulk_action_id", "bulk_item_no", "severity"),
        *("sampled_rate", "schema_version"),
    }
)
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRedaction:
    """What is taken out of one event."""

    columns: frozenset[str]
    keys: frozenset[str]
    """In the form of `normalise_key`."""
    paths: tuple[Path, ...]
    """Each starts with one of `JSON_COLUMNS`."""

    def touches(self, column: str) -> bool:
        """Whether a JSON column has to be looked at."""
        return bool(self.keys) or any(path[0] == column for path in self.paths)

    def apply(self, record: dict[str, object]) -> None:
        """Take values out of the columns of an event; nested values are replaced, not changed."""
        for name in self.columns:
            if record.get(name):
                record[name] = REDACTED
        for name in JSON_COLUMNS:
            value = record.get(name)
            if value is not None and self.touches(name):
                record[name] = self.without(name, value)

    def without(self, column: str, value: object) -> object:
        """Value of a JSON column without what has to go."""
        for path in self.paths:
            if path[0] == column:
                value = _masked_at(value, path[1:])
        return _masked_keys(value, self.keys) if self.keys else value


def parse_fields(names: Iterable[str]) -> FieldRedaction:
    """Read the names and paths of a policy.

    Raises:
        ValueError: One of them cannot be taken out; the message says which and why.
    """
    columns: set[str] = set()
    keys: set[str] = set()
    paths: list[Path] = []
    for name in names:
        first, *rest = path = tuple(name.split("."))
        if not all(path) or len(name) > _LONGEST or not name.isprintable():
            raise ValueError(f"{name[:40]!a} is neither a key name nor a path")
        if first in JSON_COLUMNS:
            paths.append(path)
        elif rest:
            raise ValueError(
                f"{name!r} does not start with one of {', '.join(JSON_COLUMNS)}; "
                "name the key alone to match it everywhere"
            )
        elif name in _FIXED_COLUMNS:
            raise ValueError(f"{name!r} says which event this is and cannot be taken out")
        elif name in TEXT_COLUMNS:
            columns.add(name)
        else:
            keys.add(_key_of(name))
    return FieldRedaction(
        columns=frozenset(columns), keys=frozenset(keys), paths=tuple(dict.fromkeys(paths))
    )


def _key_of(name: str) -> str:
    key = normalise_key(name)
    if not key:
        raise ValueError(f"{name!r} has no letter to compare key names by")
    return key


def _masked_at(value: object, path: Path) -> object:
    """Mask what a path leads to, through lists."""
    if not path:
        return _mask(value)
    if isinstance(value, Mapping):
        mapping = cast("Mapping[object, object]", value)
        return {
            key: _masked_at(item, path[1:]) if key == path[0] else item
            for key, item in mapping.items()
        }
    if isinstance(value, list | tuple):
        return [_masked_at(item, path) for item in cast("Sequence[object]", value)]
    return value


def _masked_keys(value: object, keys: frozenset[str]) -> object:
    if isinstance(value, Mapping):
        mapping = cast("Mapping[object, object]", value)
        return {
            key: _mask(item)
            if isinstance(key, str) and normalise_key(key) in keys
            else _masked_keys(item, keys)
            for key, item in mapping.items()
        }
    if isinstance(value, list | tuple):
        return [_masked_keys(item, keys) for item in cast("Sequence[object]", value)]
    return value


def _mask(value: object) -> object:
    """Mask a value but keep the shape of containers, so that old and new stay side by side."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {key: _mask(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_mask(item) for item in cast("Sequence[object]", value)]
    return REDACTED
