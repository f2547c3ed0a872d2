"""The form of a policies file, and its validation.

Here: YAML to rules, and a clear error for everything else. Not here: what a rule means
(`events/policy_rules.py`), following a file that changes (`client/policies.py`). The commented file
`client/policies.example.yaml` shows every field.
Guarantee: an error names the rule by number and line, the field, the problem and the remedy.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, cast

from audit_platform.errors import InvalidPolicy
from audit_platform.events.policy import Durability
from audit_platform.events.policy_rules import InvalidRule, PolicyRule, PolicyRules

VERSION: Final = 1
MAX_FILE_BYTES: Final = 1 << 20
MAX_RULES: Final = 1_000
_LARGEST_NUMBER: Final = 1_000_000
_TOP_KEYS: Final = ("version", "policies")
_RULE_KEYS: Final = (
    *("source", "action", "durability", "sample_rate", "retention_class", "severity"),
    *("redact", "drop"),
)


def example_text() -> str:
    """The shipped file: every field explained, no rule in force."""
    folder = resources.files("audit_platform.client")
    return folder.joinpath("policies.example.yaml").read_text(encoding="utf-8")


def read_policies(path: Path) -> PolicyRules:
    """Read and check a policies file.

    Raises:
        InvalidPolicy: It is missing, no YAML or breaks a rule; names rule, field and remedy.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise InvalidPolicy(
            f"{path}: cannot be read ({exc.strerror}); check AUDIT_POLICIES_FILE and the file's "
            "rights, or unset the variable",
            file=str(path),
        ) from exc
    return parse_policies(data, origin=path.name)


def parse_policies(data: bytes, *, origin: str) -> PolicyRules:
    """Read and check the text of a policies file.

    Args:
        data: YAML.
        origin: Name for messages.

    Raises:
        InvalidPolicy: Names the file, the rule by its number and line, the field and the remedy.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidPolicy(f"{origin}: is larger than {MAX_FILE_BYTES} bytes; use patterns")
    content, lines = _load_yaml(data, origin)
    rules: list[PolicyRule] = []
    for number, given in enumerate(_rule_list(content, origin), 1):
        line = lines[number - 1] if number <= len(lines) else 0
        place = f"{origin}: rule {number} (line {line})"
        try:
            rules.append(_rule(given))
        except InvalidRule as exc:
            raise InvalidPolicy(f"{place}: {exc}", rule=number, field=exc.field) from exc
    return PolicyRules(rules)


def _load_yaml(data: bytes, origin: str) -> tuple[Any, Sequence[int]]:
    """Content, and the line on which each rule starts."""
    # Needed only where a policies file is set, and slow to import.
    import yaml  # noqa: PLC0415

    try:
        loader: Any = yaml.SafeLoader(data)
        node = loader.get_single_node()
        _refuse_repeated_keys(node, origin)
        content = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise InvalidPolicy(f"{origin}: is no YAML{place}; correct the syntax") from exc
    return content, _rule_lines(node)


def _refuse_repeated_keys(root: Any, origin: str) -> None:
    """YAML takes the last of two equal keys silently: half of a rule would be ignored."""
    waiting = [] if root is None else [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or isinstance(node.value, str):
            continue
        seen.add(id(node))
        if node.id == "sequence":
            waiting += node.value
            continue
        names = [key.value for key, _ in node.value if isinstance(key.value, str)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidPolicy(
                f"{origin}: line {node.start_mark.line + 1}: {twice[:40]!r} stands twice in one "
                "rule; remove one, or begin a new rule with -"
            )
        waiting += [value for _, value in node.value]


def _rule_lines(root: Any) -> list[int]:
    if root is None or root.id != "mapping":
        return []
    for key, value in root.value:
        if key.value == "policies" and value.id == "sequence":
            return [item.start_mark.line + 1 for item in value.value]
    return []


def _rule_list(content: Any, origin: str) -> Sequence[object]:
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise InvalidPolicy(f"{origin}: is no mapping; begin with `policies:` and list rules below")
    top = cast("dict[object, object]", content)
    unknown = next((key for key in top if key not in _TOP_KEYS), None)
    if unknown is not None:
        raise InvalidPolicy(
            f"{origin}: the key {_shown(unknown)} is unknown; use {' and '.join(_TOP_KEYS)}"
        )
    if top.get("version", VERSION) != VERSION:
        raise InvalidPolicy(
            f"{origin}: version is {_shown(top['version'])}; this program reads {VERSION}"
        )
    rules = top.get("policies")
    if rules is None:
        return ()
    if not isinstance(rules, list):
        raise InvalidPolicy(f"{origin}: policies is no list; begin each rule with -")
    found = cast("list[object]", rules)
    if len(found) > MAX_RULES:
        raise InvalidPolicy(
            f"{origin}: has {len(found)} rules; at most {MAX_RULES} are read, use patterns"
        )
    return found


def _rule(given: object) -> PolicyRule:
    if not isinstance(given, dict):
        raise InvalidRule("rule", "is no mapping", "write fields such as action: 'user.*'")
    fields = cast("dict[object, object]", given)
    unknown = next((key for key in fields if key not in _RULE_KEYS), None)
    if unknown is not None:
        raise InvalidRule(_shown(unknown), "is unknown", f"use one of {', '.join(_RULE_KEYS)}")
    named = {str(key): value for key, value in fields.items() if value is not None}
    return PolicyRule(**dict(_values(named)))


def _values(fields: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if name in {"source", "action", "retention_class"}:
            yield name, _text(name, value)
        elif name == "durability":
            yield name, _durability(value)
        elif name == "redact":
            yield name, tuple(_names(value))
        elif name == "drop":
            if not isinstance(value, bool):
                raise InvalidRule("drop", f"is {_shown(value)}", "write true or false")
            yield name, value
        else:
            yield name, _number(name, value)


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise InvalidRule(name, f"is {_shown(value)}, no text", "put it in quotes")


def _number(name: str, value: object) -> int | float:
    is_number = isinstance(value, float if name == "sample_rate" else int)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if (is_whole or is_number) and abs(cast("float", value)) <= _LARGEST_NUMBER:
        return cast("int | float", value)
    remedy = "write a number such as 0.1" if name == "sample_rate" else "write 0 to 5"
    raise InvalidRule(name, f"is {_shown(value)}", remedy)


def _durability(value: object) -> Durability:
    try:
        return Durability(cast("str", value))
    except ValueError:
        remedy = f"write one of {', '.join(Durability)}"
        raise InvalidRule("durability", f"is {_shown(value)}", remedy) from None


def _names(value: object) -> Iterator[str]:
    if not isinstance(value, list):
        raise InvalidRule("redact", f"is {_shown(value)}", "write a list: [iban, user_label]")
    for name in cast("list[object]", value):
        yield _text("redact", name)


def _shown(value: object) -> str:
    # Python refuses to write very large numbers, and a list may hold one.
    is_plain = isinstance(value, str | bool | float | None)
    text = ascii(value) if is_plain else f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 - a line stays a line
