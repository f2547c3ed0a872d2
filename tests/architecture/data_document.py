"""Renders `docs/data.md` from the comments in the catalog of a migrated database.

Here: reading the catalog and the text. Writing it: `make docs`. Guarantee: equal on PostgreSQL 16
and 18; partitions are left out, since they come and go.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg.rows import class_row

MAIN_TABLE: Final = "event"
_HEAD: Final = """\
# Data

What the schema `audit` holds. Written by `make docs` from `COMMENT ON` in the catalog: change the
migrations, not this file. Names and limits of an event's fields are the contract with producers.
"""
_RELATIONS: Final = """
select
  c.relname as name,
  c.relkind::text in ('r', 'p') as is_table,
  coalesce(obj_description(c.oid, 'pg_class'), '') as meaning,
  case when c.relkind = 'p' then pg_get_partkeydef(c.oid) end as partition_key,
  (select pg_get_constraintdef(k.oid) from pg_constraint k
    where k.conrelid = c.oid and k.contype = 'p') as primary_key
from pg_class c
where c.relnamespace = 'audit'::regnamespace and c.relkind in ('r', 'p', 'v')
  and not c.relispartition
order by c.relkind = 'v', c.relname <> 'event', c.relname
"""
_COLUMNS: Final = """
select
  c.relname as relation,
  a.attname as name,
  format_type(a.atttypid, a.atttypmod) as kind,
  a.attnotnull as is_required,
  coalesce(pg_get_expr(d.adbin, d.adrelid), '') as default_value,
  coalesce(col_description(c.oid, a.attnum), '') as meaning
from pg_attribute a
join pg_class c on c.oid = a.attrelid
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relnamespace = 'audit'::regnamespace and c.relkind in ('r', 'p', 'v')
  and not c.relispartition and a.attnum > 0 and not a.attisdropped
order by c.relname, a.attnum
"""
_TYPES: Final = """
select
  t.typname as name,
  coalesce(obj_description(t.oid, 'pg_type'), '') as meaning,
  array(select e.enumlabel::text from pg_enum e
    where e.enumtypid = t.oid order by e.enumsortorder) as labels
from pg_type t
where t.typnamespace = 'audit'::regnamespace and t.typtype = 'e'
order by t.typname
"""
_FUNCTIONS: Final = """
select
  p.oid::regprocedure::text as name,
  coalesce(obj_description(p.oid, 'pg_proc'), '') as meaning
from pg_proc p
where p.pronamespace = 'audit'::regnamespace
order by 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table or a view."""

    name: str
    is_table: bool
    meaning: str
    partition_key: str | None
    primary_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column with its own comment, empty if it has none."""

    relation: str
    name: str
    kind: str
    is_required: bool
    default_value: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnumType:
    """A closed set of words."""

    name: str
    meaning: str
    labels: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function, by its signature."""

    name: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Everything in schema `audit`: tables first, then views, each in the order of its name."""

    relations: tuple[Relation, ...]
    columns: tuple[Column, ...]
    types: tuple[EnumType, ...]
    functions: tuple[Function, ...]

    def columns_of(self, relation: str) -> list[Column]:
        """Columns in the order of the table."""
        return [column for column in self.columns if column.relation == relation]

    def explains(self, column: Column) -> bool:
        """Whether a column has a comment, or is a column of `audit.event` under its own name."""
        main = {other.name for other in self.columns_of(MAIN_TABLE)}
        return bool(column.meaning) or (column.relation != MAIN_TABLE and column.name in main)


def read_catalog(url: str) -> Catalog:
    """Read the comments; any role may."""
    with psycopg.connect(url) as connection:
        return Catalog(
            relations=tuple(connection.cursor(row_factory=class_row(Relation)).execute(_RELATIONS)),
            columns=tuple(connection.cursor(row_factory=class_row(Column)).execute(_COLUMNS)),
            types=tuple(connection.cursor(row_factory=class_row(EnumType)).execute(_TYPES)),
            functions=tuple(connection.cursor(row_factory=class_row(Function)).execute(_FUNCTIONS)),
        )


def render(catalog: Catalog) -> str:
    """Return the whole file."""
    return "\n".join([_HEAD, *_sections(catalog), ""])


def _sections(catalog: Catalog) -> Iterator[str]:
    for relation in catalog.relations:
        yield from _relation(relation, catalog)
    yield "## Types\n"
    for enum in catalog.types:
        yield f"- `audit.{enum.name}`: {enum.meaning}. {', '.join(enum.labels)}."
    yield "\n## Functions\n"
    for function in catalog.functions:
        yield f"- `{function.name}`: {function.meaning}."


def _relation(relation: Relation, catalog: Catalog) -> Iterator[str]:
    yield f"## {'Table' if relation.is_table else 'View'} `audit.{relation.name}`\n"
    yield f"{relation.meaning}.\n"
    if relation.partition_key:
        yield f"Partitioned by {relation.partition_key}."
    if relation.primary_key:
        yield f"Key: {relation.primary_key.removeprefix('PRIMARY KEY ')}.\n"
    columns = catalog.columns_of(relation.name)
    own = [column for column in columns if column.meaning]
    if len(own) < len(columns):
        yield f"Columns as in `audit.{MAIN_TABLE}`{', and:' if own else '.'}\n"
    if own:
        yield "| column | type | default | meaning |\n|---|---|---|---|"
        yield from (_row(column) for column in own)
        yield ""


def _row(column: Column) -> str:
    kind = f"{column.kind} not null" if column.is_required else column.kind
    default = f"`{column.default_value}`" if column.default_value else ""
    cells = (f"`{column.name}`", kind, default, column.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
