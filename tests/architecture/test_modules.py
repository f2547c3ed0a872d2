"""Every module says what it is; every public definition is documented and annotated."""

import ast
import re
import tomllib

import pytest

from tests.architecture.source_tree import PACKAGE_MODULES, ROOT, TEST_MODULES, Module

MAX_LINES = 300
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "common", "constants", "manager", "base"}
# The public face of the producer SDK: the one package whose names are imported from its top.
PUBLIC_FACES = {"audit_platform/client/__init__.py"}
DOCUMENTED_ELSEWHERE = re.compile(r"#\s*noqa:[^#]*\bD10[0-9]\b")

STRICT = tuple(
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["basedpyright"][
        "strict"
    ]
)

every_module = pytest.mark.parametrize("module", PACKAGE_MODULES, ids=lambda module: module.name)


@every_module
def test_module_says_what_it_is(module: Module) -> None:
    assert module.docstring, "add a docstring: what this is, what is not here, what it guarantees"


@every_module
def test_public_definitions_are_documented(module: Module) -> None:
    lines = module.text.splitlines()
    missing = [
        name
        for name, node in module.public_definitions()
        if not ast.get_docstring(node) and not DOCUMENTED_ELSEWHERE.search(lines[node.lineno - 1])
    ]

    assert not missing


@every_module
def test_public_functions_are_annotated(module: Module) -> None:
    missing = [
        f"{name}: {gap}"
        for name, node in module.public_definitions()
        if not isinstance(node, ast.ClassDef)
        for gap in _annotation_gaps(node)
    ]

    assert not missing


def _annotation_gaps(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = node.args
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    given += [star for star in (arguments.vararg, arguments.kwarg) if star is not None]
    gaps = [a.arg for a in given if a.annotation is None and a.arg not in {"self", "cls"}]
    return gaps if node.returns is not None else [*gaps, "return"]


@pytest.mark.parametrize("module", PACKAGE_MODULES + TEST_MODULES, ids=lambda module: module.name)
def test_long_module_states_its_reason(module: Module) -> None:
    lines = len(module.text.splitlines())
    states_reason = re.search(r"^Length: \S", module.docstring, re.MULTILINE) is not None

    assert lines <= MAX_LINES or states_reason, (
        f"{lines} lines: split it, or say why in a docstring paragraph that begins with 'Length: '"
    )


@pytest.mark.parametrize(
    "module",
    [m for m in PACKAGE_MODULES if m.path.name == "__init__.py" and m.name not in PUBLIC_FACES],
    ids=lambda module: module.name,
)
def test_package_file_holds_its_docstring_only(module: Module) -> None:
    assert len(module.tree.body) == 1, "each name has one import path; import it from its module"


@every_module
def test_module_name_says_what_is_inside(module: Module) -> None:
    parts = {part.removesuffix(".py") for part in module.path.parts}

    assert not parts & NAMES_THAT_SAY_NOTHING


@every_module
def test_annotations_stay_readable_at_run_time(module: Module) -> None:
    """Dagster and pydantic read annotations; postponed ones reach them as text."""
    reads_annotations = any(
        name.split(".")[0] in {"dagster", "pydantic", "pydantic_settings", "typer"}
        for name in module.imports
    )

    assert not (reads_annotations and "__future__.annotations" in module.imports)


@pytest.mark.parametrize(
    "module",
    [m for m in PACKAGE_MODULES if "(pure" in m.docstring.split("\n\n")[0]],
    ids=lambda module: module.name,
)
def test_pure_module_is_checked_strictly(module: Module) -> None:
    """Frames are the exception: Polars types its arguments so widely that strict says nothing."""
    assert module.name.startswith(STRICT) or "polars" in module.imports, (
        "add it to [tool.basedpyright] strict"
    )
