"""Input that is small and costs much: refused, and nobody else waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from devkit_api import jsonio
from devkit_api.modules import contracts
from devkit_api.modules.bounded_schema import TooCostly
from devkit_api.modules.contracts import check_parameters, contract_problem, find_violations
from tests.support.modules import manifest
from tests.support.waiting import PATIENCE


def strings(**schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"s": {"type": "string", **schema}}}


@pytest.mark.parametrize("pattern", [r"^(a|aa)+$", r"(x+x+)+y", r"^(\w+\s?)*$", r".*.*.*.*="])
def test_catastrophic_patterns_are_matched_in_linear_time(pattern: str) -> None:
    assert contract_problem(strings(pattern=pattern)) is None
    [finding] = find_violations(strings(pattern=pattern), {"s": "a" * 50_000 + "!"}, seconds=60)
    assert "does not match" in finding["message"]


@pytest.mark.parametrize("pattern", [r"^(?=.*a)b$", r"(a)\1", r"(?<!x)y", "a{1000}{1000}", "x" * 5000])
def test_patterns_without_linear_time_are_refused_at_registration(pattern: str) -> None:
    for schema in (strings(pattern=pattern), {"type": "object", "patternProperties": {pattern: {}}}):
        problem = contract_problem(schema)
        assert problem is not None
        assert "pattern" in problem


def test_patterns_mean_what_json_schema_says() -> None:
    for pattern, good, bad in (
        (r"^HLA-[ABC]\*\d{2}:\d{2}$", "HLA-A*02:01", "HLA-A*2:01"),
        (r"^[\u0041-\u005a]+$", "ABC", "abc"),
        (r"^\\u0041$", r"\u0041", "A"),
        ("b", "abc", "ac"),
        (r"^a(?![\s\S])", "a", "a\n"),
    ):
        schema = strings(pattern=pattern)
        assert contract_problem(schema) is None
        assert find_violations(schema, {"s": good}) == []
        assert len(find_violations(schema, {"s": bad})) == 1


def test_additional_properties_know_pattern_properties() -> None:
    schema = {"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}
    assert find_violations(schema, {"x-a": 1}) == []
    assert "y" in find_violations(schema, {"x-a": 1, "y": 1})[0]["message"]
    typed = {**schema, "additionalProperties": {"type": "string"}}
    assert [f["path"] for f in find_violations(typed, {"x-a": "no", "y": 1})] == ["/x-a", "/y"]


async def test_a_schema_that_doubles_its_work_is_given_up() -> None:
    definitions: dict[str, Any] = {"d0": {"type": "integer"}}
    for n in range(1, 40):
        definitions[f"d{n}"] = {"allOf": [{"$ref": f"#/definitions/d{n - 1}"}] * 2}
    schema = {"type": "object", "definitions": definitions, "properties": {"n": {"$ref": "#/definitions/d39"}}}
    assert contract_problem(schema) is None
    with pytest.raises(TooCostly):
        find_violations(schema, {"n": 1}, seconds=0.1)
    [finding] = await check_parameters(schema, {"n": 1})
    assert "too long" in finding["message"]


async def test_a_costly_but_honest_input_is_still_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracts, "THREAD_SECONDS", PATIENCE)
    schema = strings() | {"additionalProperties": {"type": "integer"}}
    many = {f"k{n}": n for n in range(20_000)}
    assert await check_parameters(schema, many) == []
    assert len(await check_parameters(schema, {**many, "last": "text"})) == 1


def test_a_huge_schema_is_refused() -> None:
    assert contract_problem({"type": "object", "enum": list(range(30_000))}) is not None


@pytest.mark.parametrize(
    "data",
    [b"[" + b",".join([b"[]"] * 300_000) + b"]", b"[" + b"1," * 1_100_000 + b"1]", b"[" * 300_000,
     b'{"a":' * 300_000],
)  # fmt: skip
def test_many_values_are_refused_before_they_are_built(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonio.json, "loads", lambda *_args, **_kw: pytest.fail("it was parsed"))
    with pytest.raises(jsonio.JsonRefused, match="more than"):
        jsonio.loads_strict(data)


def test_brackets_within_texts_do_not_count() -> None:
    text = '"[{,' * 300_000
    assert jsonio.loads_strict(jsonio.dumps({"t": text})) == {"t": text}
    with pytest.raises(jsonio.JsonRefused):
        jsonio.loads_strict(b'"' + b'\\"[' * 400_000)  # open to the end: linear, and refused


async def test_a_manifest_with_such_a_pattern_is_refused_in_words(make_client: Any) -> None:
    client = await make_client()
    bad = manifest("elsewhere", inputs=strings(pattern="(?=a)b"))
    answer = await client.post("/v1/devkit/modules", json={"manifest": bad})
    assert answer.status == 422
    assert "linear time" in (await answer.text())
