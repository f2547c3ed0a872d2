"""The tests keep their own rules: no sleeping, no patching of our modules, sentences as names."""

import ast
import re

import pytest

from tests.architecture.source_tree import TEST_MODULES, TESTS, Module, dotted

# Directories whose tests need more than this process; the marker has the directory's name.
TIERS = {"integration", "contract", "dagster", "acceptance", "chaos"}
SLEEPS = {"time.sleep", "asyncio.sleep", "sleep"}
MIN_WORDS = 3

FILES_WITH_TESTS = [module for module in TEST_MODULES if module.path.name.startswith("test_")]

every_test_module = pytest.mark.parametrize("module", TEST_MODULES, ids=lambda module: module.name)


def _tier(module: Module) -> str:
    return module.path.relative_to(TESTS).parts[0]


def _calls(module: Module) -> list[ast.Call]:
    return [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]


@every_test_module
def test_tests_poll_instead_of_sleeping(module: Module) -> None:
    sleeping = [
        call.lineno
        for call in _calls(module)
        # asyncio.sleep(0) waits for nothing: it lets the other tasks run.
        if dotted(call.func) in SLEEPS
        and [ast.unparse(argument) for argument in call.args] != ["0"]
    ]

    assert not sleeping, "poll with a deadline, or inject the clock"


@every_test_module
def test_tests_do_not_patch_our_modules(module: Module) -> None:
    patching = [call.lineno for call in _calls(module) if _patches_our_module(call, module)]

    assert not patching, "hand the replacement in as a parameter"


def _patches_our_module(call: ast.Call, module: Module) -> bool:
    function = dotted(call.func)
    if function.startswith(("mock.", "mocker.", "unittest.mock.")) or function == "patch":
        return True
    if not function.endswith("monkeypatch.setattr") or not call.args:
        return False
    target = call.args[0]
    if isinstance(target, ast.Constant):
        return str(target.value).startswith("audit_platform")
    ours = {name.rsplit(".", 1)[-1] for name in module.imports if name.startswith("audit_platform")}
    return dotted(target).split(".")[0] in ours | {"audit_platform"}


@every_test_module
def test_unittest_mock_is_not_used(module: Module) -> None:
    mocks = [name for name in module.imports if name.startswith(("unittest.mock", "mock."))]

    assert not mocks, "PostgreSQL and Redis are the real ones; our own parts take plain objects"


@pytest.mark.parametrize("module", FILES_WITH_TESTS, ids=lambda module: module.name)
def test_test_name_is_a_sentence(module: Module) -> None:
    short = [
        name
        for name, node in module.public_definitions()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and re.search(r"(^|\.)test_", name)
        and len(node.name.split("_")) <= MIN_WORDS
    ]

    assert not short, "say the behaviour: test_replayed_batch_inserts_nothing"


@pytest.mark.parametrize(
    "module",
    [module for module in FILES_WITH_TESTS if _tier(module) in TIERS],
    ids=lambda module: module.name,
)
def test_tier_of_a_test_is_its_directory(module: Module) -> None:
    tier = _tier(module)
    marks = {dotted(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}

    assert f"pytest.mark.{tier}" in marks, f"add `pytestmark = pytest.mark.{tier}`"
