import datetime as dt
import re
import socket
import subprocess
import sys
import time
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

pytest.importorskip("starlette")
pytest.importorskip("sqlalchemy")
pytest.importorskip("httpx")

import sqlalchemy as sa
from starlette.testclient import TestClient

import corrigible
from corrigible.library import Author, Page, Record
from corrigible.library._database import Database
from corrigible.library._papers import add_page
from corrigible.library._schema import notes, runs, votes
from corrigible.papers import index, results
from corrigible.web import create_app
from corrigible.web._text import with_math

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)> {{ 7*7 }} $\\href{javascript:alert(3)}{x}$'


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    database = Database(str(tmp_path_factory.mktemp("web") / "papers.db"))
    foreign = Record(
        key="2611.00001", title=f"Foreign {HOSTILE}", abstract=HOSTILE, authors=(Author(HOSTILE, HOSTILE),), door="atom",
        categories=(HOSTILE,), doi=HOSTILE, journal=HOSTILE, comment=HOSTILE, organisation=HOSTILE, keywords=(HOSTILE,),
        counts={"upvotes": 40},
    )  # fmt: skip
    old = Record(key="math/0611800", title="Old", abstract="An old paper.", door="atom")
    with database.write() as connection:
        add_page(connection, Page(records=(foreign, old)), door="atom", raw=b"")
    with TestClient(create_app(database), base_url="http://127.0.0.1:8321") as found:
        found.database = database
        yield found


def token(client, path):
    return re.search(r'name="token" value="(\w+)"', client.get(path).text)[1]


class Tags(HTMLParser):
    """Names of the tags of a page, its inline scripts, styles and handlers, and the addresses it names."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.inline, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inline += [n for n, _ in attrs if n.startswith("on") or n == "style"]
        self.inline += [tag] if tag == "style" or (tag == "script" and "src" not in dict(attrs)) else []
        self.links += [v for n, v in attrs if n in ("href", "src", "action")]


SLUG = next(
    slug
    for slug, paper in index().items()
    if paper.methods and any(slug in r["papers"] for r in results().values())
)
PAGES = ["/", "/trending", "/claims", "/claims?status=reproduced", "/methods", "/methods/capa", "/search",
         "/search?q=foreign",
         "/search?q=foreign&since=2020-01-01", "/search?room=data&stage=find&status=reproduced", f"/papers/index:{SLUG}",
         "/papers/2611.00001", "/papers/math/0611800", "/week/2026-W48", "/month/2026-11", "/day/2026-11-22",
         "/month/9999-12", "/settings", "/subscribe", "/subscriptions", "/search?needs=labels",
         "/search?error=wrong+labels&data=tables"]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_pages(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    found = Tags(answer.text)
    assert found.inline == []
    assert found.tags.count("h1") == 1
    assert "img" not in found.tags  # nothing of the hostile text became a tag
    assert not any(link.lower().startswith(("javascript:", "data:", "//")) for link in found.links)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def test_hostile_text_is_shown_as_it_is(client):
    text = client.get("/papers/2611.00001").text
    assert "{{ 7*7 }}" in text
    assert "&lt;script&gt;alert(1)" in text


def test_every_link_of_the_main_pages_leads_somewhere(client):
    seen = {link for path in PAGES for link in Tags(client.get(path).text).links if link.startswith("/")}
    reading = sorted(link for link in seen if not link.endswith(("/vote", "/note", "/run")))
    assert len(reading) > 100
    broken = [link for link in reading[:: max(len(reading) // 80, 1)] if client.get(link).status_code != 200]
    assert broken == []


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [("/nothing", 404, "There is no page"), ("/papers/nothing", 404, "no paper"), ("/methods/capaa", 404, "Did you mean"),
     ("/day/today", 400, "2026-11-22"), ("/week/2026-W99", 400, "2026-W47"), ("/month/2026-13", 400, "2026-11"),
     ("/week/9999-W52", 400, "2026-W47"),
     ("/runs/999", 404, "no run 999"), ("/api/papers/nothing", 404, "no paper"),
     ("/api/daily_papers?limit=0", 400, "between"),
     ("/api/daily_papers?week=x", 400, "2026-W47"), ("/static/../../_app.py", 404, ""),
     ("/static/%2e%2e/_app.py", 404, "")],
)  # fmt: skip
def test_what_is_not_there(client, path, code, says):
    answer = client.get(path)
    assert answer.status_code == code
    assert says in answer.text
    assert "Traceback" not in answer.text


def test_forms_of_an_identifier_lead_to_the_paper(client):
    for written in ("2611.00001v2", "arXiv:2611.00001", SLUG):
        assert client.get(f"/papers/{written}", follow_redirects=False).status_code == 301
    assert (
        client.get("/search?q=math.CA/0611800v2", follow_redirects=False).headers["location"]
        == "/papers/math/0611800"
    )


def test_vote(client):
    path = "/papers/2611.00001"
    form = {"token": token(client, path), "vote": "up"}
    for _ in range(2):  # one vote a user
        assert client.post(f"{path}/vote", data=form, follow_redirects=False).status_code == 303
    with client.database.read() as connection:
        assert connection.execute(sa.select(sa.func.sum(votes.c.value))).scalar() == 1
    fragment = client.post(f"{path}/vote", data={**form, "vote": "down"}, headers={"hx-request": "true"}).text
    assert "-1 votes" in fragment
    assert "<html" not in fragment
    client.post(f"{path}/vote", data={**form, "vote": "none"})
    with client.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(votes)).scalar() == 0
    assert client.post(f"{path}/vote", data={**form, "vote": "many"}).status_code == 400


def test_note(client):
    path = "/papers/math/0611800"
    form = {"token": token(client, path), "note": f"Mine\r\n{HOSTILE}"}
    assert "Mine" in client.post(f"{path}/note", data=form).text
    assert "<script>alert" not in client.get(path).text
    assert client.post(f"{path}/note", data={**form, "note": "x" * 20_001}).status_code == 400
    client.post(f"{path}/note", data={**form, "note": "  "})
    with client.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(notes)).scalar() == 0


def test_forms_of_other_sites_are_refused(client):
    path = "/papers/2611.00001/vote"
    good = {"token": token(client, "/papers/2611.00001"), "vote": "up"}
    assert client.post(path, data={"vote": "up"}).status_code == 403
    assert client.post(path, data={**good, "token": "0" * 64}).status_code == 403
    assert client.post(path, data=good, headers={"origin": "https://evil.example"}).status_code == 403
    assert client.post(path, data=good, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert client.post(path, content=b"x" * 300_000).status_code == 413
    with client.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(votes)).scalar() == 0


def wait(client, path, seconds=120):
    for _ in range(seconds * 10):
        text = client.get(path, headers={"hx-request": "true"}).text
        if "hx-trigger" not in text:
            return text
        time.sleep(0.1)
    raise AssertionError(text)


def test_run_an_example(client):
    slug = corrigible.card("capa").papers[0]
    path = client.get(f"/papers/{slug}").url.path
    form = {"token": token(client, path), "kind": "example", "name": "capa"}
    started = client.post(f"{path}/run", data=form, follow_redirects=False).headers["location"]
    assert (
        client.post(f"{path}/run", data=form, follow_redirects=False).headers["location"] == started
    )  # it waits already
    shown = wait(client, started)
    assert "<strong>capa</strong>: done" in shown
    assert "capa(first, first, y).value" in shown.replace("&gt;", ">")
    with client.database.read() as connection:
        row = connection.execute(sa.select(runs).where(runs.c.name == "capa")).one()
    assert (row.exit, row.version, row.result["failed"]) == (0, corrigible.__version__, 0)
    assert row.result["lines"] > 3
    assert "1 methods run" in client.get("/trending").text
    for wrong in ({"name": "os.system"}, {"kind": "shell"}, {"name": "capa; rm -rf /"}):
        assert client.post(f"{path}/run", data={**form, **wrong}).status_code == 400


def test_feeds_and_exports(client):
    atom = ElementTree.fromstring(client.get("/feed.atom").content)
    names = [e.text for e in atom.iter("{http://www.w3.org/2005/Atom}title")]
    assert any(HOSTILE in name for name in names)
    feed = client.get("/feed.json").json()
    assert feed["version"].endswith("1.1")
    assert [len(feed["items"]), feed["items"][0]["title"]] == [
        2,
        "Old",
    ]  # the papers of our own index stand under no day
    assert client.get("/papers/2611.00001.bib").text.startswith("@article{")
    (item,) = client.get("/papers/math/0611800.csl.json").json()
    assert item["title"] == "Old"
    day = client.get("/api/daily_papers?limit=100").json()
    assert {"title", "publishedAt", "paper"} <= set(day[0])
    one = client.get("/api/papers/2611.00001").json()
    assert (one["id"], one["upvotes"]) == ("2611.00001", 0)
    assert client.get(f"/api/papers/{SLUG}").json()["corrigible"]["methods"]
    found = client.get("/api/papers/search?q=old+paper").json()
    assert found["papers"][0]["title"] == "Old"
    assert client.get("/health").json()["status"] == "ok"
    assert "formula" in client.get("/api/trending").json()


def test_daily_papers_read_back(client):
    from corrigible.library import parse_daily

    raw = client.get("/api/daily_papers?limit=100").content
    keys = {r.key for r in parse_daily(raw).records}
    assert {"2611.00001", "math/0611800"} <= keys


def test_mathematics_and_prices():
    assert "<msub>" in with_math("where $x_1$ is")
    assert with_math("costs $5 and $6") == "costs $5 and $6"
    assert with_math("$" + "{" * 290 + "$").startswith("${")
    assert "href" not in with_math("$\\href{javascript:alert(1)}{x}$")
    assert "<b>" not in with_math("<b> $a<b$")


def test_settings(client):
    shown = client.get("/settings").text
    assert "Password" not in shown  # there are no accounts
    assert client.get("/login").status_code == 404
    form = {"token": token(client, "/settings"), "theme": "dark", "length": "25"}
    assert client.post("/settings", data=form | {"token": "x"}).status_code == 403
    for wrong in ({"theme": '"><script>'}, {"length": "1000000"}, {"length": ""}):
        assert client.post("/settings", data=form | wrong).status_code == 400
    assert '<html lang="en">' in shown
    assert '<html lang="en" data-theme="dark">' in client.post("/settings", data=form).text
    assert '<html lang="en" data-theme="dark">' in client.get("/").text
    assert re.search(r"<option selected>25</option>", client.get("/settings").text)
    many = tuple(Record(key=f"2405.{i:05}", title=f"M{i}", door="atom") for i in range(10, 40))
    with client.database.write() as connection:
        add_page(
            connection, Page(records=many), door="atom", raw=b"many", now=dt.datetime(2024, 5, 5, tzinfo=dt.UTC)
        )
    assert client.get("/day/2024-05-05").text.count("<article") == 25
    client.post("/settings", data=form | {"theme": "system", "length": "50"})
    assert client.get("/day/2024-05-05").text.count("<article") == 30


def test_an_answer_does_not_wait_for_a_receipt(tmp_path):
    """Head and body of an answer go out in two parts: the second once waited 40 ms for the receipt of the first."""
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("uvicorn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "corrigible",
        "serve",
        "--port",
        str(port),
        "--database",
        str(tmp_path / "p.db"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().startswith("Serving")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            took = []
            for _ in range(20):
                start = time.perf_counter()
                assert client.get("/static/pages.css").status_code == 200
                took.append(time.perf_counter() - start)
        assert min(took[2:]) < 0.03
    finally:
        process.terminate()
        process.communicate(timeout=30)
