"""The package as data: its modules, parsed once, for every check of this directory.

Here: finding and parsing files. Not here: any rule.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "audit_platform"
TESTS: Final = ROOT / "tests"

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Module:
    """One Python file; parsed when first asked."""

    path: Path

    @property
    def name(self) -> str:
        """Path below the project, with slashes, as people write it."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """Source text."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Syntax tree."""
        return ast.parse(self.text, filename=self.name)

    @property
    def docstring(self) -> str:
        """Module docstring, cleaned; empty when there is none."""
        return ast.get_docstring(self.tree) or ""

    @cached_property
    def imports(self) -> tuple[str, ...]:
        """Dotted name of everything imported, at any depth: `from a import b` gives `a.b`."""
        found: list[str] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [f"{node.module}.{alias.name}" for alias in node.names]
        return tuple(found)

    def public_definitions(self) -> Iterator[tuple[str, Definition]]:
        """Qualified name and node of public functions, classes and methods."""
        yield from _public(self.tree.body, "")

    @cached_property
    def strings(self) -> frozenset[str]:
        """Every string constant, docstrings included."""
        nodes = (node for node in ast.walk(self.tree) if isinstance(node, ast.Constant))
        return frozenset(node.value for node in nodes if isinstance(node.value, str))

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name and attribute that the code mentions."""
        nodes = list(ast.walk(self.tree))
        return frozenset(
            [node.id for node in nodes if isinstance(node, ast.Name)]
            + [node.attr for node in nodes if isinstance(node, ast.Attribute)]
        )


def modules(directory: Path) -> list[Module]:
    """List the Python files below a directory, in order of their paths."""
    return [Module(path) for path in sorted(directory.rglob("*.py"))]


def dotted(node: ast.expr) -> str:
    """Spell `a.b.c`; empty for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
        return f"{head}.{node.attr}"
    return ""


def _public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Definition]]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _public(node.body, f"{prefix}{node.name}.")


PACKAGE_MODULES: Final = modules(PACKAGE)
TEST_MODULES: Final = modules(TESTS)
