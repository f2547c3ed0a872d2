"""The form of a mapping file, and its validation.

Here: what a mapping may say, and a clear error for everything else. Not here: applying it
(`imports/mapping.py`). Shipped mappings are `imports/mappings/*.yaml`; a further log format needs a
file of this form and no code.
Guarantee: a mapping that loads addresses existing columns only, and its `move` rules can be
inverted: each has one source, and no two touch the same value.
"""

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from importlib import resources
from pathlib import Path as FilePath
from typing import Any, Final

import msgspec
import yaml

from audit_platform.errors import InvalidMapping
from audit_platform.events.event import EVENT_FIELDS, JSON_FIELDS, ActorType, EventStatus, FieldSpec
from audit_platform.events.json_path import parse_path

FIELD_SPECS: Final = {spec.name: spec for spec in EVENT_FIELDS}
ENUM_VALUES: Final[dict[str, frozenset[str]]] = {
    "status": frozenset(EventStatus),
    "actor_type": frozenset(ActorType),
}
# Set by their own sections of a mapping.
_SECTION_COLUMNS: Final = frozenset({"id", "timestamp", "metadata", "context"})


class TimeForm(StrEnum):
    """How a record writes its time; what fits is moved, anything else is copied."""

    SECONDS = "seconds"
    MILLIS = "millis"
    MICROS = "micros"
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value read from YAML; a key that is not declared is an error."""


class Condition(_Form, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """True if the value at `path` is there, not null, and matches one of the shell patterns."""

    path: str
    matches: tuple[str, ...] = ("*",)


class Case(_Form, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The value of a field when a condition holds; the first case that does wins."""

    when: Condition
    value: str


class Rule(_Form, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where one column, or one key of `context`, comes from; tried in this order.

    Attributes:
        move: One path. The value is removed from the remainder when the stored one gives it back.
        take: The first path that is there; removed from the remainder, its name is not kept.
        copy: The first path that is there and not null; the original stays in the remainder.
        cases: Values by condition.
        table: Translates what `copy` or `take` found; what it does not name takes `default`.
        default: Constant when nothing above gave a value.
        when: The whole rule applies only then.
        truncate: A text that is too long is cut; otherwise the column stays empty.
    """

    move: str | None = None
    take: tuple[str, ...] = ()
    copy: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    table: dict[str, str] | None = None
    default: str | None = None
    when: Condition | None = None
    truncate: bool = False


class TimeRule(_Form, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where `timestamp` comes from; `form` says how numbers are read and what can be moved."""

    move: str | None = None
    take: tuple[str, ...] = ()
    form: TimeForm | None = None
    naive_utc: bool = False


class Mapping(_Form, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A foreign record as an event, declared.

    Attributes:
        identity: Paths whose texts together name the record, where `context.external_id` alone does
            not: one request may be logged in several stages.
        native_id: Paths that may hold a UUIDv7 of the event's own time; another value there
            becomes the external id.
        merge_metadata: Paths whose object is the metadata itself; unknown columns join it.
        merge_context: The same for `context`.
        records: Formats of files that take this mapping when none is named.
    """

    name: str
    version: int
    description: str
    records: tuple[str, ...] = ()
    timestamp: TimeRule
    identity: tuple[str, ...] = ()
    native_id: tuple[str, ...] = ()
    fields: dict[str, Rule]
    context: dict[str, Rule] = {}
    merge_metadata: tuple[str, ...] = ()
    merge_context: tuple[str, ...] = ()
    digest: str = ""

    @property
    def key(self) -> str:
        """Identity of the mapping in `audit.import_file`: shipped `name/1`, own `name/1:digest`."""
        return f"{self.name}/{self.version}" + (f":{self.digest}" if self.digest else "")

    @property
    def can_rebuild(self) -> bool:
        """Whether a row gives back its record; not when names were taken or objects merged."""
        rules = (*self.fields.values(), *self.context.values())
        merges = self.native_id or self.merge_metadata or self.merge_context
        return not merges and not self.timestamp.take and not any(rule.take for rule in rules)


def shipped_mappings() -> dict[str, Mapping]:
    """Load every mapping that comes with the platform, by name."""
    folder = resources.files("audit_platform.imports").joinpath("mappings")
    files = sorted(item.name for item in folder.iterdir() if item.name.endswith(".yaml"))
    loaded = [parse_mapping(folder.joinpath(name).read_bytes(), origin=name) for name in files]
    return {mapping.name: mapping for mapping in loaded}


def load_mapping(name_or_file: str) -> Mapping:
    """Find a shipped mapping by name, or read one from a file.

    Raises:
        InvalidMapping: Neither exists, or the file breaks a rule; names the place.
    """
    shipped = shipped_mappings()
    if name_or_file in shipped:
        return shipped[name_or_file]
    path = FilePath(name_or_file)
    if not path.is_file():
        known = ", ".join(sorted(shipped))
        raise InvalidMapping(f"mapping {name_or_file!r} is neither a file nor one of: {known}")
    data = path.read_bytes()
    mapping = parse_mapping(data, origin=path.name)
    return msgspec.structs.replace(mapping, digest=hashlib.sha256(data).hexdigest()[:12])


def parse_mapping(data: bytes, *, origin: str) -> Mapping:
    """Read and check one mapping.

    Args:
        data: YAML.
        origin: Name for messages.

    Raises:
        InvalidMapping: Names the file, the rule and what is accepted there.
    """
    try:
        content: Any = yaml.safe_load(data)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise InvalidMapping(f"{origin}: is no YAML{place}; correct the syntax") from exc
    try:
        mapping = msgspec.convert(content, Mapping)
    except msgspec.ValidationError as exc:
        raise InvalidMapping(f"{origin}: {exc}") from exc
    problem = next(_problems(mapping), None)
    if problem is not None:
        raise InvalidMapping(f"{origin}: {problem}")
    return mapping


def _problems(mapping: Mapping) -> Iterator[str]:
    if not mapping.name or "/" in mapping.name or ":" in mapping.name:
        yield "name must not be empty nor hold / or :"
    if not (mapping.timestamp.move or mapping.timestamp.take):
        yield "timestamp needs move or take"
    for name, rule in mapping.fields.items():
        yield from _field_problems(name, rule)
    for name, rule in mapping.context.items():
        yield from _rule_problems(f"context.{name}", rule, None)
    yield from _path_problems(mapping)
    yield from _required_problems(mapping)


def _field_problems(name: str, rule: Rule) -> Iterator[str]:
    spec = FIELD_SPECS.get(name)
    if spec is None or name in _SECTION_COLUMNS:
        settable = ", ".join(sorted(FIELD_SPECS.keys() - _SECTION_COLUMNS))
        yield f"fields.{name}: is no column a mapping can set; use one of: {settable}"
        return
    yield from _rule_problems(f"fields.{name}", rule, spec)


def _rule_problems(place: str, rule: Rule, spec: FieldSpec | None) -> Iterator[str]:
    sources = [rule.move is not None, bool(rule.take), bool(rule.copy)]
    if sum(sources) > 1:
        yield f"{place}: use one of move, take and copy"
    if not any(sources) and not rule.cases and rule.default is None:
        yield f"{place}: needs move, take, copy, cases or default"
    if rule.move is not None and (rule.cases or rule.table or rule.when):
        yield f"{place}: a moved value cannot be inverted with cases, table or when; use copy"
    if spec is not None and rule.move is not None and spec.kind in ("enum", "uuid", "int", "float"):
        yield f"{place}: a column of kind {spec.kind} cannot give the value back exactly; use copy"
    constants = [case.value for case in rule.cases] + list((rule.table or {}).values())
    constants += [] if rule.default is None else [rule.default]
    accepted = ENUM_VALUES.get(spec.name) if spec else None
    for constant in constants:
        if accepted is not None and constant not in accepted:
            yield f"{place}: {constant!r} is not one of: {', '.join(sorted(accepted))}"
        if spec and spec.max_length and len(constant) > spec.max_length:
            yield f"{place}: {constant[:20]!r}… is longer than {spec.max_length} characters"


def _path_problems(mapping: Mapping) -> Iterator[str]:
    moved: list[tuple[str | int, ...]] = []
    for place, text in _paths(mapping):
        try:
            path = parse_path(text)
        except ValueError as exc:
            yield f"{place}: {exc}"
            continue
        if place.endswith((".move", ".take")):
            if any(isinstance(step, int) for step in path):
                yield f"{place}: an array element cannot be removed; use copy"
            if place.endswith(".move") and any(_overlap(path, other) for other in moved):
                yield f"{place}: {text} overlaps another moved path"
            moved += [path] if place.endswith(".move") else []


def _paths(mapping: Mapping) -> Iterator[tuple[str, str]]:
    sections = [("timestamp", mapping.timestamp)]
    sections += [(f"fields.{name}", rule) for name, rule in mapping.fields.items()]
    sections += [(f"context.{name}", rule) for name, rule in mapping.context.items()]
    for place, rule in sections:
        yield from ((f"{place}.move", rule.move),) if rule.move is not None else ()
        yield from ((f"{place}.take", path) for path in rule.take)
        if isinstance(rule, Rule):
            yield from ((f"{place}.copy", path) for path in rule.copy)
            conditions = [case.when for case in rule.cases] + ([rule.when] if rule.when else [])
            yield from ((f"{place}.when", condition.path) for condition in conditions)
    merges = (*mapping.native_id, *mapping.merge_metadata, *mapping.merge_context)
    yield from (("merge.take", path) for path in merges)
    yield from (("identity", path) for path in mapping.identity)


def _overlap(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _required_problems(mapping: Mapping) -> Iterator[str]:
    for name in ("source", "action"):
        if name not in mapping.fields:
            yield f"fields.{name}: is required"
    for name in JSON_FIELDS:
        rule = mapping.fields.get(name)
        if rule is not None and (rule.table or rule.cases or rule.default or rule.truncate):
            yield f"fields.{name}: a JSON column takes move, take or copy only"
