"""What a user's statement may be, told before it is run: errors that teach, and a second door behind the privileges.

PostgreSQL itself keeps users' SQL in: its role may read the three tiers and nothing else, in a read-only transaction,
through a cursor that takes one query. This check parses the statement (sqlglot, never a regular expression) and refuses
what those would refuse anyway, and the few things open to every role: catalogs of the server, and functions that
change the session or reach beyond the tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from devkit_api.catalogs.writer import TABLES
from devkit_api.errors import SqlInvalid, SqlRefused

MAX_BOUND = 4_000_000
RELATIONS = frozenset({*TABLES, "sample_peptide_binders"})
_TIERS = frozenset(TABLES.values())
_REFUSED_FUNCTIONS = frozenset(
    {
        "set_config", "current_setting", "query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema",
        "cursor_to_xml", "cursor_to_xmlschema", "table_to_xml", "table_to_xmlschema", "table_to_xml_and_xmlschema",
        "schema_to_xml", "schema_to_xmlschema", "schema_to_xml_and_xmlschema", "database_to_xml",
        "database_to_xmlschema", "database_to_xml_and_xmlschema", "ts_stat", "version", "inet_server_addr",
        "inet_client_addr", "nextval", "setval", "currval", "lastval", "txid_current", "to_regclass", "to_regproc",
        "to_regrole", "has_table_privilege", "has_database_privilege", "obj_description", "col_description",
        "current_user", "session_user", "current_database", "current_schema", "current_schemas", "current_catalog",
        "current_role", "user", "current_version", "system_user", "getpgusername", "setseed", "icu_unicode_version",
        "unicode_version",
    }
)  # fmt: skip
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_REFUSED_PREFIXES = ("pg_", "lo_", "dblink", "binary_upgrade_", "postgres_fdw", "has_", "inet_", "amvalidate")
_REFUSED_TYPES = ("regclass", "regproc", "regrole", "regnamespace", "regtype", "regprocedure", "regconfig")


def check(sql: str) -> None:
    """Refuse what is not one query over the catalog's tables. Raises `SqlInvalid` or `SqlRefused`."""
    if len(sql) > MAX_BOUND:
        raise SqlInvalid(reason=f"it is longer than {MAX_BOUND} characters with its parameters")
    statement = _parse(sql)
    if not isinstance(statement, (exp.Select, exp.SetOperation, exp.Subquery, exp.Values, exp.Table)):
        raise SqlRefused(reason="only a query (SELECT) can be run")
    for node in statement.walk():
        reason = next(_objections(node), None)
        if reason is not None:
            raise SqlRefused(reason=reason)
    _check_relations(statement)


def _refuse_unicode_escapes(sql: str) -> None:
    """`U&"\\0070g_sleep"` is one name to PostgreSQL and an expression to the parser, which would not see the name."""
    tokens = sqlglot.tokenize(sql, read="postgres")
    for first, second, third in zip(tokens, tokens[1:], tokens[2:], strict=False):
        touching = first.end + 1 == second.start and second.end + 1 == third.start
        if touching and first.text.lower() == "u" and second.text == "&" and sql[third.start] in "\"'":
            raise SqlRefused(reason="names and texts with Unicode escapes (U&) are not for queries; write them plainly")


def _parse(sql: str) -> Any:
    try:
        _refuse_unicode_escapes(sql)
        statements = [statement for statement in sqlglot.parse(sql, read="postgres") if statement is not None]
    except SqlglotError as exc:
        raise _unreadable(exc) from None
    except RecursionError:
        raise SqlInvalid(reason="it is nested too deeply") from None
    if not statements:
        raise SqlInvalid(reason="it is empty")
    if len(statements) > 1:
        raise SqlRefused(reason="it holds several statements")
    return statements[0]


def _unreadable(exc: SqlglotError) -> SqlInvalid:
    """The parser's own text quotes the statement in terminal colours; the place is what helps."""
    known = (getattr(exc, "errors", None) or [{}])[0]
    details = {name: known[name] for name in ("line", "col") if isinstance(known.get(name), int)}
    near = str(known.get("highlight") or "")[:60]
    reason = (
        f"it is not SQL as PostgreSQL writes it (near {near!r})" if near else "it is not SQL as PostgreSQL writes it"
    )
    return SqlInvalid(reason=reason, details=details)


def _objections(node: Any) -> Iterator[str]:
    if isinstance(node, (exp.DML, exp.DDL, exp.Command, exp.Set, exp.Transaction, exp.Commit, exp.Rollback)):
        if not isinstance(node, (exp.Query, exp.Table)):
            yield "only a query (SELECT) can be run"
    elif isinstance(node, exp.Into):
        yield "SELECT INTO writes a table"
    elif isinstance(node, exp.Lock):
        yield "FOR UPDATE and FOR SHARE lock rows"
    elif isinstance(node, exp.Func):
        yield from _function(node)
    elif isinstance(node, exp.Column) and node.name.lower() == "system_user" and not (node.table or node.this.quoted):
        yield "the function system_user is not for queries"
    elif isinstance(node, exp.DataType) and any(t in node.sql("postgres").lower() for t in _REFUSED_TYPES):
        yield "types of the server's own catalog are not for queries"


def _function(node: exp.Func) -> Iterator[str]:
    name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
    if isinstance(node.parent, exp.Dot) and node.parent.expression is node:
        yield "functions are called without a schema"
    if name in _REFUSED_FUNCTIONS or name.startswith(_REFUSED_PREFIXES) or not _PLAIN_NAME.fullmatch(name):
        yield f"the function {name[:60]} is not for queries"


def _check_relations(statement: Any) -> None:
    """Every table is one of the catalog's, or named by a WITH of the statement."""
    common = {cte.alias_or_name for cte in statement.find_all(exp.CTE)}
    for table in statement.find_all(exp.Table):
        if isinstance(table.this, exp.Func) and (table.db or table.catalog):
            raise SqlRefused(reason="functions are called without a schema")
        if isinstance(table.this, exp.Func) or not isinstance(table.this, exp.Identifier):
            continue  # a function in FROM: looked at as a function
        schema, name = table.db.lower(), table.name
        known = name if table.this.quoted else name.lower()
        if table.catalog or (schema and schema not in _TIERS):
            raise SqlRefused(
                reason=f"{table.sql('postgres')[:100]} is not of the catalog; name tables without a schema"
            )
        if known not in RELATIONS and name not in common:
            raise SqlRefused(
                reason=f"there is no table {name[:60]!r} in the catalog", details={"tables": sorted(RELATIONS)}
            )
