"""`docs/data.md` equals the catalog, and the catalog explains everything."""

import pytest

from tests.architecture import data_document
from tests.architecture.data_document import Catalog
from tests.architecture.source_tree import ROOT
from tests.conftest import Database

pytestmark = pytest.mark.integration


@pytest.fixture
def catalog(database: Database) -> Catalog:
    """The catalog of a migrated database."""
    return data_document.read_catalog(database.admin_url)


def test_document_equals_the_catalog(catalog: Catalog) -> None:
    written = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")

    assert written == data_document.render(catalog), "run `make docs`"


def test_everything_in_the_schema_has_a_comment(catalog: Catalog) -> None:
    named = [*catalog.relations, *catalog.types, *catalog.functions]
    silent = [item.name for item in named if not item.meaning]
    silent += [f"{c.relation}.{c.name}" for c in catalog.columns if not catalog.explains(c)]

    assert not silent
