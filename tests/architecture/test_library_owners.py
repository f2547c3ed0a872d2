"""A library with one owner is imported by that owner only.

ruff's TID251 says the same while typing, but can be lifted for a whole file only; this table
holds the exact pairs.
"""

import ast

import pytest

from tests.architecture.source_tree import PACKAGE_MODULES, Module, dotted

# Library, or part of it, to the files or directories that may import it.
OWNERS: dict[str, tuple[str, ...]] = {
    "alembic": ("db/migrate.py", "db/migrations/"),
    "polars": (
        "archive/compare.py",
        "archive/read.py",
        "archive/row_check.py",
        "events/control_rows.py",
        "events/frame.py",
        "events/ready_frame.py",
        "events/row_numbers.py",
        "events/screen.py",
        "events/copy_rows.py",
        "events/copy_text.py",
        "events/merge_rows.py",
        "events/split_rows.py",
        "imports/tables.py",
        "integrity/leaf.py",
        "search/cold",
    ),
    "psycopg": ("db/",),
    "psycopg.sql": (
        "db/",
        "archive/export.py",
        "archive/compare.py",
        "events/merge_rows.py",
        "retention/cold_indexes.py",
        "retention/detach.py",
        "retention/digest.py",
        "retention/drop.py",
        "retention/late_table.py",
        "retention/lifecycle.py",
        "retention/reattach.py",
        "retention/removed_table.py",
        "retention/restored_table.py",
        "retention/seal.py",
    ),
    "psycopg2": (),
    "psycopg_pool": (),
    "redis": ("events/redis_edge.py", "events/stream.py"),
    "sqlalchemy": ("db/migrations/",),
    "typer": ("cli/",),
}
ENVIRONMENT = {"os.environ", "os.getenv", "os.putenv", "os.environb"}


@pytest.mark.parametrize("module", PACKAGE_MODULES, ids=lambda module: module.name)
def test_library_is_imported_by_its_owner(module: Module) -> None:
    place = module.name.removeprefix("audit_platform/")
    strangers = [
        imported for imported in module.imports if not _may_import(place, imported=imported)
    ]

    assert not strangers, "ask the owner of the library instead; see OWNERS"


@pytest.mark.parametrize(
    ("library", "place"),
    [(library, place) for library, places in OWNERS.items() for place in places],
)
def test_owner_uses_its_library(library: str, place: str) -> None:
    """A right that nobody uses any more is taken back."""
    names = [
        name
        for module in PACKAGE_MODULES
        if module.name.startswith(f"audit_platform/{place}")
        for name in module.imports
    ]

    assert any(name == library or name.startswith(f"{library}.") for name in names)


def _may_import(place: str, *, imported: str) -> bool:
    if not imported.startswith("audit_platform."):
        rules = [lib for lib in OWNERS if imported == lib or imported.startswith(f"{lib}.")]
        # The longest match is the most exact rule: psycopg.sql before psycopg.
        if rules:
            return place.startswith(OWNERS[max(rules, key=len)])
    return True


@pytest.mark.parametrize(
    "module",
    [module for module in PACKAGE_MODULES if module.name != "audit_platform/settings.py"],
    ids=lambda module: module.name,
)
def test_settings_alone_reads_the_environment(module: Module) -> None:
    used = {dotted(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}

    assert not (used | set(module.imports)) & ENVIRONMENT


@pytest.mark.parametrize("module", PACKAGE_MODULES, ids=lambda module: module.name)
def test_private_parts_of_dagster_stay_private(module: Module) -> None:
    private = [name for name in module.imports if name.startswith("dagster._")]

    assert not private
