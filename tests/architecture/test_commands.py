"""Commands that the documents name exist: make targets, and `audit-platform` with its options."""

import re
import subprocess

import pytest
import typer

from tests.architecture.source_tree import ROOT

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
DOCUMENTS += [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?:sh|bash|console|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:make|audit-platform) [^`\n]+)`")
TARGET = re.compile(r"^([a-z][a-z0-9-]*):", re.MULTILINE)


def _commands(document: str) -> list[str]:
    """Commands of a document, comments and prompts removed, continued lines joined."""
    text = (ROOT / document).read_text(encoding="utf-8")
    lines = [
        line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").split("\n")
    ]
    stripped = (re.sub(r"\s+#.*$", "", line.strip().removeprefix("$ ")) for line in lines)
    return [line for line in [*stripped, *INLINE.findall(text)] if line]


def _cases(program: str) -> list[tuple[str, str]]:
    """Calls of one program, with or without the environment's path in front."""
    pattern = re.compile(rf"^(?:\w+=\S+ )*(?:\S*/)?{program}\b(.*)")
    return [
        (document, match[1].strip())
        for document in DOCUMENTS
        for command in _commands(document)
        if (match := pattern.match(command))
    ]


@pytest.mark.parametrize(("document", "arguments"), _cases("make"))
def test_make_target_in_document_exists(document: str, arguments: str) -> None:
    del document
    targets = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    variables = set(re.findall(r"^#\? (\w+)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    words = [word for word in arguments.split() if not word.startswith("-")]

    assert {word for word in words if "=" not in word} <= targets
    assert {word.partition("=")[0] for word in words if "=" in word} <= variables


@pytest.mark.parametrize(("document", "arguments"), _cases("audit-platform"))
def test_command_in_document_exists(document: str, arguments: str) -> None:
    del document
    from audit_platform.cli.app import app

    command = typer.main.get_command(app)
    words = arguments.split()
    while (group := getattr(command, "commands", None)) is not None and words:
        command = group[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}

    assert used <= options | {"--help"}


def test_every_target_is_explained() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    silent = [
        name
        for name in re.findall(r"^\.PHONY: (\S+)", text, re.MULTILINE)
        if not re.search(rf"^{name}:.*## \S", text, re.MULTILINE)
    ]

    assert not silent


def test_help_names_every_target_and_variable() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout

    for name in re.findall(r"^\.PHONY: (\S+)", text, re.MULTILINE):
        assert f"make {name} " in shown
    for name in re.findall(r"^#\? (\w+)", text, re.MULTILINE):
        assert name in shown
