"""A stranger reads the description of the API, and asks for what it allows and for what it does not."""

import pytest

pytest.importorskip("starlette")
pytest.importorskip("sqlalchemy")
pytest.importorskip("httpx")
pytest.importorskip("schemathesis")

import schemathesis
from hypothesis import HealthCheck, given, settings
from starlette.testclient import TestClient

from corrigible.library import Author, Page, Record
from corrigible.library._database import Database
from corrigible.library._papers import add_page
from corrigible.web import create_app


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    database = Database(str(tmp_path_factory.mktemp("api") / "papers.db"))
    record = Record(key="2611.00001", title="One", abstract="Label noise.", authors=(Author("Ada"),), door="atom")
    with database.write() as connection:
        add_page(connection, Page(records=(record,)), door="atom", raw=b"")
    with TestClient(create_app(database), base_url="http://127.0.0.1:8321") as client:
        schema = schemathesis.openapi.from_dict(client.get("/api/openapi.json").json())
        schema.config.update(base_url="http://127.0.0.1:8321")
        yield schema, client


_PARTS = ("method", "url", "headers", "params", "cookies")
OPERATIONS = ("daily_papers", "openapi", "paper", "search", "trending")


def test_every_operation_is_asked(described):
    schema, _ = described
    found = [result.ok().definition.raw["operationId"] for result in schema.get_all_operations()]
    assert tuple(sorted(found)) == OPERATIONS


POSITIVE, NEGATIVE = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
# Nothing can be asked wrongly of an address without parameters, or with any text for one.
ASKED = [(name, POSITIVE) for name in OPERATIONS] + [("daily_papers", NEGATIVE), ("search", NEGATIVE)]


@pytest.mark.parametrize(("name", "mode"), ASKED)
def test_answers_are_as_described(described, name, mode):
    """All of schemathesis's checks: no server error, described codes, types and schemas, nothing wrong accepted."""
    schema, client = described
    operation = schema.find_operation_by_id(name)

    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def asked(case):
        wanted = {k: v for k, v in case.as_transport_kwargs().items() if k in _PARTS and v}
        case.validate_response(client.request(**wanted))

    asked()
