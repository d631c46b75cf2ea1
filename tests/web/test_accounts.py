import datetime as dt
import re

import pytest

pytest.importorskip("starlette")
pytest.importorskip("sqlalchemy")
pytest.importorskip("httpx")
pytest.importorskip("argon2")

import argon2
import sqlalchemy as sa
from starlette.testclient import TestClient
from typer.testing import CliRunner

from corrigible.cli import app
from corrigible.errors import DataError, InvalidParameterError
from corrigible.library import Page, Record
from corrigible.library import _accounts as accounts
from corrigible.library._database import Database
from corrigible.library._papers import add_page
from corrigible.library._schema import (
    api_tokens,
    login_attempts,
    notes,
    papers,
    runs,
    sessions,
    subscriptions,
    users,
    votes,
)
from corrigible.papers import index
from corrigible.web import create_app
from corrigible.web._serve import _check, serve

SITE, PAPER = "https://papers.example.org", "/papers/2611.00001"
PASSWORDS = {"ada": "correct horse battery", "bob": "staple of the union", "eve": "listening at doors"}
ROLES = {"ada": "admin", "bob": "reader", "eve": "editor"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Hashes that cost little: what they cost by default is tested by itself."""
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(accounts, "_hasher", lambda: hasher)
    accounts._nobody.cache_clear()
    yield
    accounts._nobody.cache_clear()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    database = Database(str(tmp_path_factory.mktemp("accounts") / "papers.db"))
    record = Record(key="2611.00001", title="One", abstract="A paper of label noise.", door="atom")
    with database.write() as connection:
        add_page(connection, Page(records=(record,)), door="atom", raw=b"")
    with TestClient(
        create_app(database, hosts=("papers.example.org",), accounts=True, secure=True), base_url=SITE
    ) as client:
        client.database = database
        yield client


@pytest.fixture
def site(made):
    """The pages with three users, and nothing done by them yet."""
    made.cookies.clear()
    with made.database.write() as connection:
        for table in (users, login_attempts, subscriptions, runs):
            connection.execute(sa.delete(table))
        for name, password in PASSWORDS.items():
            accounts.add_user(connection, name, password, role=ROLES[name])
    return made


def browser(site):
    """Another browser: no cookies yet."""
    client = TestClient(site.app, base_url=SITE, follow_redirects=False)
    client.database = site.database
    return client


def token(client, path):
    return re.search(r'name="token" value="(\w+)"', client.get(path).text)[1]


def log_in(client, name, password=None, **more):
    form = {"token": token(client, "/login"), "name": name, "password": password or PASSWORDS[name], **more}
    return client.post("/login", data=form, follow_redirects=False)


def inside(site, name):
    client = browser(site)
    assert log_in(client, name).status_code == 303
    return client


def count(site, table):
    with site.database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()


def test_nothing_is_shown_to_a_stranger(site):
    client = browser(site)
    answer = client.get("/search?q=label noise")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/search%3Fq%3Dlabel%2520noise"
    for path in (PAPER, "/", "/settings", "/subscriptions", "/runs/1", "/claims", "/nothing"):
        assert client.get(path).headers["location"].startswith("/login"), path
    for path in ("/api/daily_papers", "/feed.atom", "/feed.json", f"{PAPER}.bib", "/api/papers/2611.00001"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert "label noise" not in answer.text
    good = token(client, "/login")
    assert client.post(f"{PAPER}/vote", data={"token": good, "vote": "up"}).status_code == 401
    assert count(site, votes) == 0
    assert client.get("/health").status_code == 200
    assert client.get("/static/pages.css").status_code == 200


def test_log_in_and_out(site):
    client = browser(site)
    answer = log_in(client, "Ada ", PASSWORDS["ada"], next=PAPER)
    assert (answer.status_code, answer.headers["location"]) == (303, PAPER)
    (cookie,) = [c for c in answer.headers.get_list("set-cookie") if "session" in c]
    assert cookie.startswith("__Host-corrigible-session=")
    for part in ("Secure", "HttpOnly", "SameSite=lax", "Path=/"):
        assert part in cookie
    assert "Domain" not in cookie
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert "ada</span>" in client.get(PAPER).text
    assert client.get("/login?next=/claims").headers["location"] == "/claims"
    kept = dict(client.cookies)
    form = {"token": token(client, PAPER)}
    assert client.post("/logout", data={"token": "0" * 64}).status_code == 403
    assert client.post("/logout", data=form).status_code == 303
    assert client.get(PAPER).status_code == 303
    client.cookies.update(kept)  # a replayed cookie of a session that ended
    assert client.get(PAPER).status_code == 303
    assert count(site, sessions) == 0


def test_wrong_passwords(site):
    client = browser(site)
    said = set()
    for name, password in (
        ("ada", "wrong"),
        ("nobody", "wrong"),
        ("ada", ""),
        ("ada", "x" * 5000),
        ("\x00", "\udcff"),
    ):
        form = {"token": token(client, "/login"), "name": name, "password": password.encode("utf-8", "replace")}
        answer = client.post("/login", data=form)
        assert answer.status_code == 403
        said.add(re.search(r'role="alert">([^<]+)', answer.text)[1])
        assert not [c for c in answer.headers.get_list("set-cookie") if "session" in c]
    assert len(said) == 1  # a name that is none is not told from a password that is wrong
    assert count(site, sessions) == 0


def test_the_form_of_another_visitor_logs_nobody_in(site):
    mine, theirs = browser(site), browser(site)
    form = {"token": token(mine, "/login"), "name": "ada", "password": PASSWORDS["ada"]}
    theirs.get("/login")
    assert theirs.post("/login", data=form).status_code == 403
    assert theirs.post("/login", data={**form, "token": ""}).status_code == 403


def test_a_session_cannot_be_fixed_beforehand(site):
    planted = "A" * 43
    client = browser(site)
    client.cookies.set("__Host-corrigible-session", planted)
    client.cookies.set("corrigible", planted)
    answer = log_in(client, "ada")
    (given,) = [c for c in answer.headers.get_list("set-cookie") if "session" in c]
    assert planted not in given
    thief = browser(site)
    thief.cookies.set("__Host-corrigible-session", planted)
    thief.cookies.set("corrigible", planted)
    assert thief.get("/settings").status_code == 303
    first = token(thief, "/login")  # the token of the visitor's form is worth nothing inside
    client.cookies.clear()
    client.cookies.set("__Host-corrigible-session", given.split("=", 1)[1].split(";")[0])
    assert client.post(f"{PAPER}/vote", data={"token": first, "vote": "up"}).status_code == 403


def test_logging_in_again_ends_the_session_before(site):
    client = inside(site, "ada")
    before = client.cookies["__Host-corrigible-session"]
    other = browser(site)
    good = {"token": token(other, "/login"), "name": "bob", "password": PASSWORDS["bob"]}
    form = {**good, "token": token(client, "/settings")}  # the same browser, another user
    assert client.post("/login", data=form).status_code == 303
    assert "bob</span>" in client.get(PAPER).text
    client.cookies.clear()
    client.cookies.set("__Host-corrigible-session", before)
    assert client.get(PAPER).status_code == 303


@pytest.mark.parametrize(
    "where", ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil", "/login?next=/login", "javascript:x",
              "/\t/evil.example", "/a\r\nSet-Cookie: x=y"],
)  # fmt: skip
def test_a_login_leads_nowhere_else(site, where):
    assert log_in(browser(site), "ada", next=where).headers["location"] == "/"


def test_guessing_ends(site):
    client = browser(site)
    form = {"token": token(client, "/login"), "name": "ada"}
    codes = [client.post("/login", data={**form, "password": f"guess {i}"}).status_code for i in range(7)]
    assert codes == [403] * 5 + [429] * 2
    answer = client.post("/login", data={**form, "password": PASSWORDS["ada"]})  # also the right one, for a while
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) == 900
    assert log_in(client, "bob").status_code == 303  # others go on from the same address
    with site.database.write() as connection:
        connection.execute(sa.update(login_attempts).values(at=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=16)))
    assert log_in(browser(site), "ada").status_code == 303
    assert count(site, login_attempts) == 0


def test_roles(site):
    with site.database.read() as connection:
        slug = next(s for s, p in index().items() if "capa" in p.methods)
        key = connection.execute(sa.select(papers.c.key).where(papers.c.slug == slug)).scalar()
    path, codes = f"/papers/{key}", {}
    for name in ("bob", "eve"):
        client = inside(site, name)
        form = {"token": token(client, path), "kind": "example", "name": "capa"}
        answer = client.post(f"{path}/run", data=form)
        codes[name] = answer.status_code
        where = answer.headers.get("location", "/runs/1")
        assert client.post(f"{where}/stop", data=form).status_code == answer.status_code
    assert codes == {"bob": 403, "eve": 303}
    with site.database.read() as connection:
        made_by = (
            connection.execute(sa.select(users.c.name).join(runs, runs.c.user_id == users.c.id)).scalars().all()
        )
    assert made_by == ["eve"]


def test_each_user_has_votes_and_notes_of_their_own(site):
    ada, bob = inside(site, "ada"), inside(site, "bob")
    for client, vote, note in ((ada, "up", "mine alone"), (bob, "down", "")):
        form = {"token": token(client, PAPER)}
        client.post(f"{PAPER}/vote", data={**form, "vote": vote})
        client.post(f"{PAPER}/note", data={**form, "note": note})
    assert (count(site, votes), count(site, notes)) == (2, 1)
    assert "mine alone" in ada.get(PAPER).text
    shown = bob.get(PAPER).text
    assert "mine alone" not in shown
    assert re.search(r'value="none" aria-pressed="true">▼ Down', shown)
    stolen = token(ada, PAPER)  # a form's token of another session
    assert bob.post(f"{PAPER}/vote", data={"token": stolen, "vote": "up"}).status_code == 403


def subscribe(client, address):
    form = {"token": token(client, "/subscribe"), "address": address, "every": "day", "room": "data"}
    assert client.post("/subscribe", data=form).status_code == 200


def test_subscriptions_of_others_are_not_seen(site):
    ada, bob, eve = (inside(site, name) for name in PASSWORDS)
    subscribe(bob, "bob@example.org")
    subscribe(eve, "eve@example.org")
    with site.database.read() as connection:
        ids = dict(connection.execute(sa.select(subscriptions.c.address, subscriptions.c.id)).all())
    assert "eve@example.org" not in bob.get("/subscriptions").text
    foreign, mine = ids["eve@example.org"], ids["bob@example.org"]
    form = {"token": token(bob, "/subscriptions"), "every": "week"}
    assert bob.get(f"/subscriptions/{foreign}").status_code == 404
    for act in ("", "/pause", "/resume", "/end"):
        assert bob.post(f"/subscriptions/{foreign}{act}", data=form).status_code == 404
    assert bob.post(f"/subscriptions/{mine}", data=form).status_code == 303
    with site.database.read() as connection:
        rows = (
            connection.execute(sa.select(subscriptions.c.every).order_by(subscriptions.c.address)).scalars().all()
        )
    assert rows == ["week", "day"]
    assert "eve@example.org" in ada.get("/subscriptions").text
    assert ada.post(f"/subscriptions/{foreign}/end", data={"token": token(ada, "/settings")}).status_code == 303
    assert "eve@example.org" not in eve.get("/subscriptions").text


def test_tokens_of_programs(site):
    ada = inside(site, "ada")
    form = {"token": token(ada, "/settings"), "label": "<b>script</b>", "days": "30"}
    answer = ada.post("/settings/tokens", data=form)
    (key,) = re.findall(r"corr_[\w-]{43}", answer.text)
    assert answer.headers["cache-control"] == "no-store"
    assert key not in ada.get("/settings").text
    program = browser(site)
    program.headers["authorization"] = f"Bearer {key}"
    assert program.get("/api/papers/2611.00001").json()["id"] == "2611.00001"
    assert program.post(f"{PAPER}/vote", data={"vote": "up"}).status_code == 303  # a header no other site can send
    assert count(site, votes) == 1
    for path in ("/settings/tokens", "/settings/password", "/settings/tokens/1/revoke"):
        assert program.post(path, data={"days": "1", "new": "x", "again": "x"}).status_code == 403
    with site.database.read() as connection:
        row = connection.execute(sa.select(api_tokens)).one()
    assert key not in repr(row)
    assert row.used is not None
    for wrong in (f"Bearer {key}x", "Bearer ", f"Basic {key}", f"Bearer {row.token_hash}"):
        assert browser(site).get("/api/papers/2611.00001", headers={"authorization": wrong}).status_code == 401
    bob = inside(site, "bob")
    revoke = f"/settings/tokens/{row.id}/revoke"
    assert bob.post(revoke, data={"token": token(bob, "/settings")}).status_code == 404
    assert ada.post(revoke, data={"token": token(ada, "/settings")}).status_code == 303
    assert program.get("/api/papers/2611.00001").status_code == 401  # replayed after it was taken back


def test_what_ends_by_itself(site):
    now = dt.datetime.now(dt.UTC)
    with site.database.write() as connection:
        ada = accounts.find_user(connection, "ada").id
        key, session = accounts.add_token(connection, ada, days=1), accounts.open_session(connection, ada)
    with site.database.read() as connection:
        assert accounts.token_user(connection, key).name == accounts.session_of(connection, session).name == "ada"
        assert accounts.token_user(connection, key, now=now + dt.timedelta(days=1, seconds=5)) is None
        late = now + accounts.SESSION + dt.timedelta(seconds=5)
        assert accounts.session_of(connection, session, now=late) is None


def test_a_changed_password_ends_all_sessions(site):
    here, there = inside(site, "ada"), inside(site, "ada")
    new = "a wholly other sentence"
    form = {"token": token(here, "/settings"), "old": PASSWORDS["ada"], "new": new, "again": new}
    assert here.post("/settings/password", data={**form, "old": "wrong"}).status_code == 403
    assert here.post("/settings/password", data={**form, "again": "else"}).status_code == 400
    short = {"new": "short", "again": "short"}
    assert here.post("/settings/password", data={**form, **short}).status_code == 400
    answer = here.post("/settings/password", data=form)
    assert answer.status_code == 200
    assert here.get("/settings").status_code == 200  # this browser has a new session, and its page the token of it
    assert re.search(r'name="token" value="(\w+)"', answer.text)[1] == token(here, "/settings")
    assert there.get("/settings").status_code == 303
    assert log_in(browser(site), "ada").status_code == 403
    assert log_in(browser(site), "ada", new).status_code == 303


def test_a_role_taken_or_a_user_removed_holds_at_once(site):
    eve = inside(site, "eve")
    form = {"token": token(eve, PAPER), "vote": "up"}
    eve.post(f"{PAPER}/vote", data=form)
    with site.database.write() as connection:
        number = accounts.find_user(connection, "eve").id
        accounts.set_role(connection, number, "reader")
    assert eve.post("/runs/1/stop", data=form).status_code == 403
    with site.database.write() as connection:
        accounts.remove_user(connection, number)
    assert eve.get(PAPER).status_code == 303
    assert count(site, votes) == 0


# --- serving and commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"host": "0.0.0.0"}, "Use --users"), ({"host": "::"}, "Use --users"),
     ({"site": "https://papers.example.org"}, "Use --users"),
     ({"host": "0.0.0.0", "users": True}, "in the clear"),
     ({"host": "0.0.0.0", "users": True, "site": "http://papers.example.org"}, "in the clear"),
     ({"users": True, "site": "http://papers.example.org"}, "in the clear"),
     ({"users": True, "site": "papers.example.org"}, "must look like"),
     ({"users": True, "site": "https://a.example/x"}, "must look like"),
     ({"host": "example.org"}, "address of this machine"), ({"port": 0}, "port must")],
)  # fmt: skip
def test_what_is_not_served(tmp_path, asked, says):
    with pytest.raises(InvalidParameterError, match=says):
        serve(str(tmp_path / "papers.db"), **asked)
    assert not (tmp_path / "papers.db").exists()


def test_what_is_served():
    for asked in ((80, "127.0.0.1", False, None), (80, "localhost", False, None), (80, "::1", True, None),
                  (80, "127.0.0.1", True, SITE), (80, "0.0.0.0", True, SITE),
                  (80, "127.0.0.1", False, "http://localhost:80")):  # fmt: skip
        assert _check(*asked)


def test_no_accounts_no_pages(tmp_path):
    with pytest.raises(DataError, match="has no account yet"):
        serve(str(tmp_path / "papers.db"), users=True, port=65123)


def test_commands(tmp_path):
    at = ["--database", str(tmp_path / "papers.db")]
    (tmp_path / "secret").write_text(f"{PASSWORDS['ada']}\n")

    def run(*words, ask=None, code=0):
        done = CliRunner().invoke(app, ["papers", "user", *words, *at], input=ask)
        assert done.exit_code == code, done.output
        return done.output

    run("add", "ada", "--role", "admin", "--password-file", str(tmp_path / "secret"))
    shown = run("add", "bob", ask=f"{PASSWORDS['bob']}\n{PASSWORDS['bob']}\n")
    assert PASSWORDS["bob"] not in shown
    run("add", "ada", "--password-file", str(tmp_path / "secret"), code=2)
    run("add", "eve", "--password-file", str(tmp_path / "none"), code=2)
    key = run("token", "ada", "--label", "script", "--days", "7").strip()
    listed = run("list")
    assert "ada: admin" in listed
    assert "token 1 (script): made" in listed
    assert key not in listed
    run("token", "bob", "--revoke", "1", code=2)
    run("token", "ada", "--revoke", "1")
    run("role", "bob", "editor")
    run("password", "bob", "--password-file", str(tmp_path / "secret"))
    run("remove", "ada")
    listed = run("list")
    assert "ada" not in listed
    assert "bob: editor" in listed
    database = Database(str(tmp_path / "papers.db"))
    with database.read() as connection:
        assert accounts.token_user(connection, key) is None
        assert accounts.check_password(accounts.find_user(connection, "bob").password, PASSWORDS["ada"])
    database.close()
