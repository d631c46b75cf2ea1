import http.server
import json
import threading
import urllib.parse

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("defusedxml")
pytest.importorskip("httpx")

import answers_of_sources as sample
import sqlalchemy as sa

from corrigible.errors import DataError, InvalidParameterError
from corrigible.library._client import PoliteClient
from corrigible.library._database import Database
from corrigible.library._ingest import (
    harvest,
    ingest_announcements,
    ingest_daily,
    ingest_file,
    ingest_ids,
    ingest_query,
)
from corrigible.library._papers import Added
from corrigible.library._schema import harvests, papers


@pytest.fixture
def database(tmp_path):
    found = Database(str(tmp_path / "papers.db"))
    yield found
    found.close()


class Site:
    """A site on loopback: answers in turn, and what it was asked."""

    def __init__(self):
        self.asked, self.agents, self.answers = [], [], []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                parts = urllib.parse.urlsplit(self.path)
                site.asked.append((parts.path, dict(urllib.parse.parse_qsl(parts.query))))
                site.agents.append(self.headers["user-agent"])
                code, headers, body = site.answers.pop(0)
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def says(self, *bodies, code=200, **headers):
        headers = {"content-type": "text/xml"} | {k.replace("_", "-"): v for k, v in headers.items()}
        self.answers += [(code, headers, body) for body in bodies]


@pytest.fixture
def site():
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def slept():
    return []


@pytest.fixture
def client(tmp_path, slept):
    return PoliteClient("me@example.org", folder=tmp_path / "turns", sleep=slept.append)


def keys(database):
    with database.read() as connection:
        return sorted(connection.execute(sa.select(papers.c.key)).scalars())


FILES = {"a.xml": sample.atom(sample.ENTRY), "b.xml": sample.oai(sample.OAI_RECORD), "c.xml": sample.rss(sample.rss_item()),
         "d.json": json.dumps([sample.DAILY]).encode(), "e.bib": b"@misc{x, title={T}, eprint={2611.00001}}"}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_tell_what_they_are(database, tmp_path, name):
    if name.endswith("bib"):
        pytest.importorskip("bibtexparser")
    (tmp_path / name).write_bytes(FILES[name])
    assert ingest_file(database, tmp_path / name) == Added(new=1)
    assert keys(database) == ["2611.00001"]


def test_files_that_are_none(database, tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(DataError, match="neither Atom"):
        ingest_file(database, tmp_path / "x.txt")
    with pytest.raises(DataError, match="no file"):
        ingest_file(database, tmp_path / "absent")
    assert keys(database) == []


def test_ids(database, client, site):
    site.says(sample.atom(sample.ENTRY, sample.OLD_ENTRY))
    assert ingest_ids(database, client, ["arXiv:2611.00001v2", "math.CA/0611800"], api=site.url).new == 2
    assert site.asked == [("/", {"id_list": "2611.00001v2,math/0611800", "max_results": "2"})]
    assert "me@example.org" in site.agents[0]
    with pytest.raises(DataError, match="must look like"):
        ingest_ids(database, client, ["nonsense"], api=site.url)


def test_query_goes_on_past_an_empty_page_and_ends(database, client, site):
    later = sample.atom(sample.OLD_ENTRY).replace(b"startIndex>0", b"startIndex>2")
    site.says(sample.atom(sample.ENTRY, sample.ENTRY.replace("00001", "00002")), sample.atom(), later)
    assert ingest_query(database, client, "cat:cs.LG", api=site.url).new == 3
    assert [int(q["start"]) for _, q in site.asked] == [0, 2, 2]
    site.says(*[sample.atom()] * 3)
    assert ingest_query(database, client, "cat:cs.LG", api=site.url) == Added()


def test_announcements_and_daily(database, client, site):
    site.says(sample.rss(sample.rss_item()), FILES["d.json"])
    assert ingest_announcements(database, client, ["cs.LG", "stat.ML"], rss=site.url).new == 1
    assert site.asked[0][0] == "/cs.LG+stat.ML"
    assert ingest_daily(database, client, daily=site.url).changed == 1


def record(n):
    return sample.OAI_RECORD.replace("2611.00001", f"2611.{n:05}")


def test_harvest_goes_on_where_it_was_interrupted_and_begins_where_it_ended(database, client, site):
    token = "<resumptionToken>page|2</resumptionToken>"
    site.says(sample.oai(record(1), token))
    pages = harvest(database, client, "cs", since="2026-11-01", oai=site.url)
    assert next(pages).new == 1
    pages.close()  # interrupted
    site.says(sample.oai(record(2), "<resumptionToken/>"))
    assert [a.new for a in harvest(database, client, "cs", oai=site.url)] == [1]
    assert [q.get("from", q.get("resumptionToken")) for _, q in site.asked] == ["2026-11-01", "page|2"]
    site.says(sample.oai('<error code="noRecordsMatch"/>'))
    assert list(harvest(database, client, "cs", oai=site.url)) == [Added()]
    assert site.asked[-1][1]["from"] == "2026-11-22"  # the first answer's own date
    assert keys(database) == ["2611.00001", "2611.00002"]


def test_harvest_with_an_expired_token_begins_again_once(database, client, site):
    bad = sample.oai('<error code="badResumptionToken"/>')
    site.says(sample.oai(record(1), "<resumptionToken>old</resumptionToken>"))
    next(harvest(database, client, "cs", since="2026-11-01", oai=site.url))
    site.says(bad, sample.oai(record(1), record(2)))
    assert sum((a for a in harvest(database, client, "cs", oai=site.url)), Added()) == Added(new=1, same=1)
    assert site.asked[-1][1]["from"] == "2026-11-01"
    with database.read() as connection:
        assert connection.execute(sa.select(harvests.c.token)).scalar() is None


def test_client_waits_as_it_is_told(site, client, slept):
    site.says(b"", code=503, retry_after="7")
    site.says(b"<ok/>")
    assert client.get(site.url) == b"<ok/>"
    assert 7.0 in slept
    assert any(2 < s <= 3 for s in slept)  # the pause between any two requests
    site.says(b"", code=429, retry_after="86400")
    with pytest.raises(DataError, match="asks to wait 86400 s"):
        client.get(site.url)
    site.says(*[b""] * 4, code=500)
    with pytest.raises(DataError, match="status 500"):
        client.get(site.url)
    site.says(b"no", code=404, content_type="text/plain")
    with pytest.raises(DataError, match="status 404"):
        client.get(site.url)


def test_client_without_a_site_or_a_contact(client):
    with pytest.raises(DataError, match=r"127\.0\.0\.1 did not give"):
        client.get("http://127.0.0.1:9/")
    with pytest.raises(InvalidParameterError, match="--contact"):
        PoliteClient("")
