"""`audit-platform policies` checks a file, shows its rules and the one that wins."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit_platform.cli.app import app
from audit_platform.client.policy_file import parse_policies
from audit_platform.errors import InvalidPolicy

TEXT = """
policies:
  - {source: web, action: "page.*", sample_rate: 0.05, durability: best_effort, redact: [iban]}
  - {action: health.*, drop: true}
  - {source: web, severity: 2, retention_class: pci}
  - {source: web, action: login}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(TEXT)
    return path


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["policies", *map(str, arguments)])


def test_rules_are_printed_in_order_and_a_useless_one_is_named(file: Path) -> None:
    shown = _run("check", file)

    assert shown.exit_code == 0
    text = " ".join(shown.stdout.split())
    assert "1 web page.* best_effort, 0.05 of the events are kept, without iban" in text
    assert "2 * health.* dropped, counted only" in text
    assert "3 web * severity 2, retention class pci" in text
    assert "4 web login kept as it is" in text
    assert shown.stderr == "rule 4 never applies: rule 3 takes all of its events\n"


@pytest.mark.parametrize(
    ("source", "action", "answer"),
    [
        ("web", "page.view", "rule 1 wins (source web, action page.*): best_effort"),
        ("api", "health.live", "rule 2 wins (source *, action health.*): dropped"),
        ("web", "order.create", "rule 3 wins"),
        ("api", "order.create", "no rule matches"),
        ("audit", "audit.producer.loss", "no rule matches"),
    ],
)
def test_the_rule_that_wins_is_shown(file: Path, source: str, action: str, answer: str) -> None:
    shown = _run("check", file, "--source", source, "--action", action)

    assert shown.exit_code == 0
    assert answer in shown.stdout


def test_a_wrong_file_is_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("policies: [{severity: 9}]")

    refused = _run("check", path)

    assert isinstance(refused.exception, InvalidPolicy)
    assert refused.exception.exit_code == 2
    assert isinstance(_run("check", tmp_path / "none.yaml").exception, InvalidPolicy)


def test_without_a_file_the_setting_names_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = _run("check")
    monkeypatch.setenv("AUDIT_POLICIES_FILE", str(file))

    assert without.exit_code == 2
    assert "AUDIT_POLICIES_FILE" in without.stderr
    assert "page.*" in _run("check").stdout


def test_half_of_an_event_is_refused(file: Path) -> None:
    assert _run("check", file, "--source", "web").exit_code == 2


def test_hostile_patterns_do_not_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text('policies: [{action: "a\\e[31m"}]')
    shown = _run("check", path, "--source", "\x1b[31m", "--action", "x")

    assert "\x1b" not in shown.output
    assert isinstance(shown.exception, InvalidPolicy)


def test_the_example_can_be_read_again() -> None:
    printed = _run("example").stdout

    assert parse_policies(printed.encode(), origin="example").rules == ()
    assert "AUDIT_POLICIES_FILE" in printed
