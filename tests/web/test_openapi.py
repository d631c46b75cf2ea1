"""Every address of the API is described, and gives for any request what the description says."""

import datetime as dt
import json
import re

import pytest

pytest.importorskip("starlette")
pytest.importorskip("sqlalchemy")
pytest.importorskip("httpx")
pytest.importorskip("jsonschema")

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import corrigible
from corrigible.library import Author, Page, Record
from corrigible.library._database import Database
from corrigible.library._papers import add_page
from corrigible.web import create_app
from corrigible.web._cards import NEEDS, needs
from corrigible.web._kinds import DATA, ERRORS, data_of, errors_of

PROBE = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    database = Database(str(tmp_path_factory.mktemp("api") / "papers.db"))
    full = Record(
        key="2611.00001", title="One", abstract="Label noise.", authors=(Author("Ada"),), door="atom", withdrawn=True,
        links=(("code", "https://example.org/x"),), counts={"comments": 2, "upvotes": 4}, keywords=("noise",),
    )  # fmt: skip
    with database.write() as connection:
        bare = Record(key="math/0611800", title="Old", door="bibtex")
        add_page(connection, Page(records=(full, bare)), door="atom", raw=b"")
    with TestClient(create_app(database), base_url="http://127.0.0.1:8321") as found:
        found.described = found.get("/api/openapi.json").json()
        yield found


def judge(client, path, **request):
    """Ask, and hold the answer to the description of its address and code; return it."""
    operation = client.described["paths"][path]["get"]
    answer = client.get(request.pop("at", path), **request)
    said = operation["responses"].get(str(answer.status_code))
    assert said, f"{path} answers {answer.status_code}, which is not described"
    assert answer.headers["content-type"] == "application/json"
    schema = said["content"]["application/json"]["schema"] | {"components": client.described["components"]}
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(answer.json())
    return answer


def test_every_address_is_described_and_there(client):
    there = {re.sub(r":\w+}", "}", r.path) for r in client.app.routes if r.path.startswith("/api/")}
    assert there == set(client.described["paths"])
    for path in there:
        route = next(r for r in client.app.routes if re.sub(r":\w+}", "}", r.path) == path)
        assert route.methods == {"GET", "HEAD"}
        assert set(client.described["paths"][path]) == {"get"}
        named = {p["name"] for p in client.described["paths"][path]["get"]["parameters"] if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))
    names = [o["get"]["operationId"] for o in client.described["paths"].values()]
    assert len(set(names)) == len(names)
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(client.described)))
    assert references == set(client.described["components"]["schemas"])
    for schema in client.described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_all_that_a_paper_can_say_is_described(client):
    paper = judge(client, "/api/papers/{key}", at="/api/papers/2611.00001").json()
    assert {"withdrawnAt", "githubRepo"} <= set(paper)
    for key in ("math/0611800", "arXiv:2611.00001v3", next(iter(corrigible.papers.index()))):
        assert judge(client, "/api/papers/{key}", at=f"/api/papers/{key}").status_code == 200
    assert judge(client, "/api/daily_papers").json()[0]["numComments"] in (0, 2)
    assert (
        judge(client, "/api/papers/search", params={"q": "label noise"}).json()["papers"][0]["id"] == "2611.00001"
    )
    assert judge(client, "/api/trending").json()["papers"]


def fits(schema):
    """Values as a query holds them that a schema of a parameter allows."""
    if "anyOf" in schema:
        return st.one_of(fits(schema["anyOf"][0]), st.just(schema["anyOf"][1]["const"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "integer":
        return st.integers(schema["minimum"], schema["maximum"]).map(str)
    if schema.get("format") == "date":
        return st.dates().map(str)
    if "pattern" in schema:
        days = st.dates(dt.date(1000, 1, 4), dt.date(9999, 11, 30))
        return days.map(lambda d: f"{d:%G-W%V}" if "W" in schema["pattern"] else f"{d:%Y-%m}")
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def odd(schema):
    """Values that it does not allow."""
    schema = schema.get("anyOf", [schema])[0]
    wrong = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
    if "enum" in schema:
        return wrong.filter(lambda t: t not in schema["enum"])
    if schema["type"] == "integer":
        return st.one_of(st.integers(max_value=schema["minimum"] - 1), st.integers(min_value=schema["maximum"] + 1),
                         st.sampled_from(["1e3", "０", "+5", " 5", "5.0", "nan", "١"])).map(str)  # fmt: skip
    return st.sampled_from(
        ["today", "2026-13-01", "2026-W99", "2026-1", "0000-00", "2026-02-30", "-1-01-01", "2026-W00"]
    )


@pytest.mark.parametrize("path", ["/api/daily_papers", "/api/papers/search"])
@PROBE
@given(data=st.data())
def test_what_is_allowed_is_answered(client, path, data):
    parameters = client.described["paths"][path]["get"]["parameters"]
    chosen = data.draw(st.lists(st.sampled_from(parameters), unique_by=lambda p: p["name"], max_size=4))
    asked = {p["name"]: data.draw(fits(p["schema"])) for p in chosen}
    assert judge(client, path, params=asked).status_code == 200


@pytest.mark.parametrize("path", ["/api/daily_papers", "/api/papers/search"])
@PROBE
@given(data=st.data())
def test_what_is_not_allowed_is_refused(client, path, data):
    bounded = [p for p in client.described["paths"][path]["get"]["parameters"] if p["name"] != "q"]
    parameter = data.draw(st.sampled_from(bounded))
    asked = {parameter["name"]: data.draw(odd(parameter["schema"]))}
    assert judge(client, path, params=asked).status_code == 400


@PROBE
@given(key=st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_key(client, key):
    from urllib.parse import quote

    if key.strip("/.") and key not in ("search", "openapi.json"):
        answer = judge(client, "/api/papers/{key}", at=f"/api/papers/{quote(key, safe='')}")
        assert answer.status_code in (200, 400, 404)


def test_with_accounts_a_token_is_asked_for(tmp_path):
    pytest.importorskip("argon2")
    with TestClient(create_app(str(tmp_path / "papers.db"), accounts=True), base_url="http://127.0.0.1") as client:
        answer = client.get("/api/trending")
        assert answer.status_code == 401
        assert list(answer.json()) == ["error"]


def test_needs():
    assert needs("labels, pred_proba") == {"labels", "probabilities"}
    assert needs("X_source, X_target") == {"no labels"}
    assert needs("estimator a, estimator b, X, y") == {"labels", "the model"}
    assert needs("tensors, base") == {"its weights", "no labels"}
    every = [needs(corrigible.card(name).inputs) for name in corrigible.list_methods()]
    for need in NEEDS:  # each is a choice that finds something and leaves something out
        assert 0 < sum(need in found for found in every) < len(every)


def test_kinds_of_error_and_of_data(client):
    """Each is a choice that finds something and leaves something out; what is sure is where it belongs."""
    for kinds, of in ((ERRORS, errors_of), (DATA, data_of)):
        every = [of(slug) for slug in corrigible.papers.index()]
        assert all(0 < sum(kind in found for found in every) < len(every) / 2 for kind in kinds)
    assert "wrong labels" in errors_of("num_errors")
    assert "unfairness" in errors_of("unprocessing")
    assert errors_of("kaplan") == frozenset()
    assert "images" in data_of("imagenetv2")
    assert {"weights of models"} <= data_of("soups")
    asked = {"q": "labels", "error": "wrong labels", "data": "tables", "limit": 120}
    found = [p["corrigible"]["slug"] for p in judge(client, "/api/papers/search", params=asked).json()["papers"]]
    assert found
    assert all("wrong labels" in errors_of(slug) and "tables" in data_of(slug) for slug in found)


def test_papers_by_need(client):
    found = judge(
        client, "/api/papers/search", params={"needs": "its weights", "limit": 120, "q": "weights merging"}
    )
    methods = [m for p in found.json()["papers"] for m in p["corrigible"]["methods"]]
    assert methods
    for paper in found.json()["papers"]:
        assert any("its weights" in needs(corrigible.card(m).inputs) for m in paper["corrigible"]["methods"])
