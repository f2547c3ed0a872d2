"""The map in `audit_platform/__init__.py` equals the tree; the documents' paths exist."""

import re
from pathlib import Path

import pytest

import audit_platform
from tests.architecture.source_tree import PACKAGE, PACKAGE_MODULES, ROOT

LINE = re.compile(r"^(?P<indent> *)(?P<name>[\w.-]+/?)  +\S.*$")
# A path in prose: between backticks, or the target of a link.
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.*-]*|[\w-]+\.(?:py|md|toml|yaml|sql))`|\]\(([^)#:]+)\)")
GENERATED_PLACES = ("benchmarks/results/", "dist/", ".venv/", ".uv/", ".audit-platform/")


def _mapped() -> list[str]:
    """Paths of the map; a directory ends with a slash; indentation by two is nesting."""
    paths: list[str] = []
    parents: list[str] = []
    for line in (audit_platform.__doc__ or "").splitlines():
        if match := LINE.match(line):
            depth = len(match["indent"]) // 2
            parents[depth:] = [match["name"]]
            paths.append("".join(parents))
    return paths


def _existing() -> set[str]:
    modules = {module.path.relative_to(PACKAGE).as_posix() for module in PACKAGE_MODULES}
    packages = {
        f"{path.parent.relative_to(PACKAGE).as_posix()}/"
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.parent != PACKAGE and "__pycache__" not in path.parts
    }
    # The files of a directory of data or revisions are not listed one by one.
    listed = {name for name in modules if not name.endswith("__init__.py")}
    return {name for name in listed if "/versions/" not in name} | packages


def test_map_names_each_path_once() -> None:
    mapped = _mapped()

    assert len(mapped) == len(set(mapped))


def test_map_equals_the_tree() -> None:
    mapped, existing = set(_mapped()), _existing()

    assert {"missing in the map": existing - mapped, "missing in the tree": mapped - existing} == {
        "missing in the map": set(),
        "missing in the tree": set(),
    }


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
    + [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))],
)
def test_paths_in_documents_exist(document: str) -> None:
    file = ROOT / document
    missing = [
        path
        for match in PATH.finditer(file.read_text(encoding="utf-8"))
        if not _exists(path := match[1] or match[2], near=file)
    ]

    assert not missing


def _exists(path: str, *, near: Path) -> bool:
    if path.startswith(GENERATED_PLACES) or "NNNN" in path:
        return True
    places = (near.parent, ROOT, PACKAGE)
    return any(any(place.glob(path.rstrip("/"))) for place in places)
