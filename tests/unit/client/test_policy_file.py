"""A policies file is read as written, or refused by rule, line and field."""

from pathlib import Path

import pytest

from audit_platform.client.policy_file import example_text, parse_policies, read_policies
from audit_platform.errors import InvalidPolicy
from audit_platform.events.policy import Durability
from audit_platform.events.policy_rules import PolicyRule


def _refusal(text: str) -> str:
    with pytest.raises(InvalidPolicy) as caught:
        parse_policies(text.encode(), origin="p.yaml")
    assert caught.value.exit_code == 2
    return caught.value.message


def test_every_field_of_a_rule_is_read() -> None:
    text = """
version: 1
policies:
  - source: billing
    action: "*.charge"
    durability: durable
    sample_rate: 0.25
    retention_class: pci
    severity: 4
    redact: [iban, metadata.customer.phone]
  - {action: health.*, drop: true}
"""
    rules = parse_policies(text.encode(), origin="p.yaml").rules

    assert rules == (
        PolicyRule(
            source="billing",
            action="*.charge",
            durability=Durability.DURABLE,
            sample_rate=0.25,
            retention_class="pci",
            severity=4,
            redact=("iban", "metadata.customer.phone"),
        ),
        PolicyRule(action="health.*", drop=True),
    )


def test_the_shipped_file_keeps_everything_as_it_is() -> None:
    assert parse_policies(example_text().encode(), origin="example").rules == ()


def test_the_example_in_the_shipped_file_is_valid() -> None:
    _, _, example = example_text().partition("the # below.\n#\n")
    text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in example.splitlines())

    rules = parse_policies(text.encode(), origin="example").rules

    assert [rule.sample_rate for rule in rules] == [1, 1, 0.05, 1]
    assert rules[3].drop


@pytest.mark.parametrize("text", ["", "# nothing\n", "policies:\n", "version: 1\n", "policies: []"])
def test_a_file_without_rules_is_fine(text: str) -> None:
    assert parse_policies(text.encode(), origin="p.yaml").rules == ()


@pytest.mark.parametrize(
    ("rule", "field", "remedy"),
    [
        ("sample_rate: 0", "sample_rate", "drop: true"),
        ("sample_rate: half", "sample_rate", "number such as 0.1"),
        ("sample_rate: .nan", "sample_rate", "number such as 0.1"),
        ("sample_rate: true", "sample_rate", "number such as 0.1"),
        ("severity: 9", "severity", "0 (debug) to 5 (critical)"),
        ("severity: 1.5", "severity", "write 0 to 5"),
        (f"severity: 0x{'f' * 9_999}", "severity", "write 0 to 5"),
        ("durability: always", "durability", "best_effort, standard, durable"),
        ("durability: [durable]", "durability", "best_effort, standard, durable"),
        ("redact: iban", "redact", "write a list"),
        ("redact: [7]", "redact", "put it in quotes"),
        ("redact: [action]", "redact", "name a key"),
        ("drop: 1", "drop", "true or false"),
        ("drop: true, severity: 1", "drop", "alone"),
        ("source: 7", "source", "put it in quotes"),
        ("retention_class: no", "retention_class", "put it in quotes"),
        ("sampling: 0.1", "sampling", "use one of source, action"),
    ],
)
def test_a_wrong_field_is_named_with_rule_line_and_remedy(
    rule: str, field: str, remedy: str
) -> None:
    message = _refusal(f"policies:\n  - {{action: fine}}\n  - {{{rule}}}\n")

    assert message.startswith("p.yaml: rule 2 (line 3): ")
    assert field in message
    assert remedy in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("policies: [", "is no YAML at line 1"),
        ("\x00", "is no YAML"),
        ("- action: x", "begin with `policies:`"),
        ("policies: {action: x}", "begin each rule with -"),
        ("policies: false", "begin each rule with -"),
        ("rules: []", "'rules' is unknown"),
        ("version: 2", "reads 1"),
        ("policies:\n  - action.x", "rule 1 (line 2): rule: is no mapping"),
        ("policies:\n  - action: a\n    drop: true\n    action: b\n", "'action' stands twice"),
        ("policies: []\npolicies: []\n", "'policies' stands twice"),
        ("policies: !!python/object:os.system []", "is no YAML"),
        ("policies: [" + "{}," * 1_001 + "]", "at most 1000"),
        ("#" * (1 << 20) + "#", "is larger than"),
        ("[" * 100_000, "is no YAML"),
    ],
)
def test_a_file_of_another_form_is_refused(text: str, part: str) -> None:
    assert part in _refusal(text)


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match="AUDIT_POLICIES_FILE"):
        read_policies(tmp_path / "none.yaml")
