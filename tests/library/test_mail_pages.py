"""End to end: subscribe on the page, confirm from the mail, receive from a server, end with one click, and bounce."""

import datetime as dt
import email
import email.policy
import re
import socket

import pytest

pytest.importorskip("starlette")
pytest.importorskip("sqlalchemy")
pytest.importorskip("httpx")
pytest.importorskip("aiosmtplib")
pytest.importorskip("css_inline")

import sqlalchemy as sa
from starlette.testclient import TestClient
from typer.testing import CliRunner

from corrigible.cli import app
from corrigible.library import Page, Record
from corrigible.library._bounces import take_bounce
from corrigible.library._database import Database
from corrigible.library._mail import Sender
from corrigible.library._papers import add_page
from corrigible.library._post import Outbox, Smtp
from corrigible.library._schema import bounces, issues, subscriptions
from corrigible.library._sending import send_digests
from corrigible.library._subscriptions import ask, confirm
from corrigible.web import create_app
from corrigible.web._mail_pages import Office

HOST, ADA = "papers.example.org", "ada@example.org"
SENDER = Sender("papers@lists.example.org", site=f"https://{HOST}")
NOW = dt.datetime.now(dt.UTC)
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


class Mailbox:
    """A mail server's handler: keeps what comes, refuses one address for good and greylists another."""

    def __init__(self):
        self.mails = []

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 5.1.1 No such mailbox"
        if address.startswith("grey@"):
            return "451 4.7.1 Try later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 OK"


@pytest.fixture
def mailbox():
    controller = pytest.importorskip("aiosmtpd.controller")
    found = Mailbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = controller.Controller(found, hostname="127.0.0.1", port=port, ready_timeout=60)
    server.start()
    found.post = Smtp("127.0.0.1", port, tls="none", timeout=60)
    yield found
    server.stop()


@pytest.fixture
def client(library_url, mailbox):
    database = Database(library_url)
    made = create_app(database, office=Office(mailbox.post, SENDER), hosts=(HOST,))
    with TestClient(made, base_url=f"https://{HOST}") as found:
        found.database, found.app = database, made
        yield found


def token(client, path):
    return re.search(r'name="token" value="(\w+)"', client.get(path).text)[1]


def apply(client, address=ADA, **wishes):
    form = {"token": token(client, "/subscribe"), "address": address, "every": "day", **wishes}
    return client.post("/subscribe", data=form)


def add(database, title, at):
    record = Record(
        key="2611.00001" if title == "One" else "2611.00002", title=title, door="atom", announced=at.date()
    )
    with database.write() as connection:
        add_page(connection, Page(records=(record,)), door="atom", raw=title.encode(), now=at)


def states(client):
    with client.database.read() as connection:
        return dict(connection.execute(sa.select(subscriptions.c.address, subscriptions.c.state)).all())


def test_end_to_end(client, mailbox):
    answer = apply(client)
    assert answer.status_code == 200
    assert "on its way" in answer.text
    (sender, to, raw), = mailbox.mails  # fmt: skip
    assert (sender, to) == (SENDER.address, [ADA])
    link = re.search(rb"https://papers\.example\.org(/confirm/[\w-]+)", raw)[1].decode()

    assert ADA in client.get(link).text  # a scanner of mail opens it: nothing happens
    assert states(client) == {ADA: "pending"}
    assert client.post(link).status_code == 403
    client.post(link, data={"token": token(client, link)})
    assert states(client) == {ADA: "confirmed"}
    assert "This was done already" in client.get(link).text

    add(client.database, "One", NOW)
    later = NOW + dt.timedelta(hours=1)
    assert [o.state for o in send_digests(client.database, mailbox.post, SENDER, now=later)] == ["sent"]
    assert list(send_digests(client.database, mailbox.post, SENDER, now=later)) == []
    (path, to, raw) = mailbox.mails[1]
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert to == [ADA]
    assert "One" in message.get_body(("plain",)).get_content()
    (end,) = re.findall(
        rb"\r\nList-Unsubscribe: <https://papers\.example\.org(/unsubscribe/[a-z2-7]{22})>\r\n", raw
    )
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in raw
    assert path == f"b+{end.decode().rsplit('/')[-1]}@lists.example.org"

    end = end.decode()
    assert "End it" in client.get(end).text
    assert states(client) == {ADA: "confirmed"}
    stranger = TestClient(client.app, base_url=f"https://{HOST}")
    for more in (
        {"data": ONE_CLICK},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {},
    ):  # and again: idempotent
        done = stranger.post(end, follow_redirects=False, headers={"origin": "https://mail.example"}, **more)
        assert done.status_code == 200
        assert "set-cookie" not in done.headers
        assert states(client) == {ADA: "ended"}
    add(client.database, "Two", later)
    assert list(send_digests(client.database, mailbox.post, SENDER, now=later + dt.timedelta(days=1))) == []
    assert (
        client.post(link, data={"token": token(client, "/subscribe")}).status_code == 404
    )  # no way back by an old link
    assert len(mailbox.mails) == 2


def test_bounces_end_to_end(client, mailbox):
    with client.database.write() as connection:
        for name in ("gone", "grey", "ada"):
            confirm(connection, ask(connection, f"{name}@example.org", now=NOW), now=NOW)
    add(client.database, "One", NOW)
    later = NOW + dt.timedelta(hours=1)
    found = {o.address: o.state for o in send_digests(client.database, mailbox.post, SENDER, now=later)}
    assert found == {"gone@example.org": "failed", "grey@example.org": "failed", ADA: "sent"}
    assert states(client) == {"gone@example.org": "ended", "grey@example.org": "confirmed", ADA: "confirmed"}
    again = [
        o.address for o in send_digests(client.database, mailbox.post, SENDER, now=later + dt.timedelta(minutes=9))
    ]
    assert again == ["grey@example.org"]
    path, _, raw = mailbox.mails[0]
    report = (
        (
            f"To: {path}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; "
            'boundary="B"\r\n\r\n--B\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\r\n--B\r\n'
            "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.org\r\n\r\n"
            "Final-Recipient: rfc822; ada@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--B\r\n"
            "Content-Type: message/rfc822\r\n\r\n"
        ).encode()
        + raw
        + b"\r\n--B--\r\n"
    )
    with client.database.write() as connection:
        assert take_bounce(connection, report) == "permanent"
    assert states(client)[ADA] == "ended"
    with client.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(bounces)).scalar() == 4
        kept = connection.execute(sa.select(issues.c.state).order_by(issues.c.id)).scalars().all()
    assert sorted(kept) == ["failed", "failed", "sent"]
    assert apply(client).status_code == 200  # the same answer
    assert len(mailbox.mails) == 1  # and no mail to an address that is gone


def test_one_answer_for_every_address(client, mailbox):
    with client.database.write() as connection:
        confirm(connection, ask(connection, ADA, now=NOW), now=NOW)
    known, unknown, refused = (apply(client, a) for a in (ADA, "new@example.org", "gone@example.org"))
    plain = [re.sub(r'value="\w+"', "", a.text) for a in (known, unknown, refused)]
    assert plain[0] == plain[1] == plain[2]
    assert [to for _, to, _ in mailbox.mails] == [["new@example.org"]]


def test_wishes_of_the_form(client):
    apply(client, room=["shift", "data"], searches="label noise\r\n\r\nleaks", authors="A. Lovelace", every="week")
    with client.database.read() as connection:
        row = connection.execute(sa.select(subscriptions)).one()
    assert (row.rooms, row.searches, row.authors) == (["data", "shift"], ["label noise", "leaks"], ["A. Lovelace"])
    assert (row.every, row.user_id is not None, row.source) == ("week", True, "page, testclient")
    shown = client.get("/subscriptions").text
    assert ADA in shown
    form = {"token": token(client, "/subscriptions")}
    assert client.post(f"/subscriptions/{row.id}/end").status_code == 403
    assert ADA not in client.post(f"/subscriptions/{row.id}/end", data=form).text
    assert states(client) == {ADA: "ended"}


def test_a_subscription_is_changed_pauses_and_goes_on(client, mailbox):
    with client.database.write() as connection:
        confirm(connection, ask(connection, ADA, searches=["label noise"], now=NOW), now=NOW)
        ask(connection, ADA, every="week", now=NOW)
    row = rows_of(client)[0]
    path = f"/subscriptions/{row.id}"
    shown = client.get(path).text
    assert "label noise</textarea>" in shown
    form = {"token": token(client, "/subscriptions"), "every": "day", "room": ["data"], "authors": "A. Lovelace"}
    assert client.post(path).status_code == 403
    assert client.post(path, data=form | {"room": "nowhere"}).status_code == 400
    assert client.post(path, data=form | {"every": "week"}).status_code == 400  # the address has one for every week
    assert client.post(path, data=form, follow_redirects=False).status_code == 303
    row = rows_of(client)[0]
    assert (row.rooms, row.searches, row.authors, row.state) == (["data"], [], ["A. Lovelace"], "confirmed")
    with client.database.write() as connection:
        connection.execute(
            sa.update(subscriptions).where(subscriptions.c.id == row.id).values(rooms=[], authors=[])
        )

    add(client.database, "One", NOW)
    later = NOW + dt.timedelta(hours=1)
    assert "paused" in client.post(f"{path}/pause", data=form).text
    assert list(send_digests(client.database, mailbox.post, SENDER, now=later)) == []
    apply(client)  # asked for once more: it is there, and no stranger can take its wishes away
    assert rows_of(client)[0].state == "paused"
    client.post(f"{path}/resume", data=form)
    assert [o.state for o in send_digests(client.database, mailbox.post, SENDER, now=later)] == ["sent"]
    client.post(f"{path}/end", data=form)
    client.post(f"{path}/resume", data=form)  # what has ended does not come back
    assert rows_of(client)[0].state == "ended"
    assert client.get(path).status_code == 404


def rows_of(client):
    with client.database.read() as connection:
        return connection.execute(sa.select(subscriptions).order_by(subscriptions.c.id)).all()


REFUSED = [({"address": "ada"}, 400), ({"address": "a@example.org\r\nBcc: eve@evil.example"}, 400),
           ({"every": "hour"}, 400), ({"room": "nowhere"}, 400), ({"authors": "x\n" * 3 + "y" * 201}, 400),
           ({"token": "x"}, 403)]  # fmt: skip


def test_forms_that_are_refused(client, mailbox):
    good = {"token": token(client, "/subscribe"), "address": ADA}
    assert [client.post("/subscribe", data=good | form).status_code for form, _ in REFUSED] == [
        c for _, c in REFUSED
    ]
    assert (states(client), mailbox.mails) == ({}, [])


def test_links_of_nothing(client):
    for path in ("/confirm/x", f"/unsubscribe/{'a' * 22}", "/unsubscribe/x", "/confirm/%00"):
        assert client.get(path).status_code == 404
    assert client.post(f"/unsubscribe/{'a' * 22}", data=ONE_CLICK).status_code == 404
    evil = {"origin": "https://evil.example"}  # the exemption is for one path alone
    for path in ("/unsubscribe/x", f"/unsubscribe/{'a' * 22}/x", "/subscribe", f"/confirm/{'a' * 22}"):
        assert client.post(path, headers=evil).status_code == 403


def test_an_end_takes_the_mail_out_of_the_outbox(tmp_path):
    database = Database(str(tmp_path / "papers.db"))
    made = create_app(database, hosts=(HOST,))
    with database.write() as connection:
        confirm(connection, ask(connection, ADA, now=NOW), now=NOW)
        unsubscribe = connection.execute(sa.select(subscriptions.c.unsubscribe)).scalar()
    add(database, "One", NOW)
    outbox = Outbox(tmp_path / "outbox")  # the pages' own, by default
    assert [o.state for o in send_digests(database, outbox, SENDER, now=NOW)] == ["sent"]
    assert len(list(outbox.folder.iterdir())) == 1
    with TestClient(made, base_url=f"https://{HOST}") as found:
        assert found.post(f"/unsubscribe/{unsubscribe}", data=ONE_CLICK).status_code == 200
    assert list(outbox.folder.iterdir()) == []


def test_command(tmp_path):
    path = str(tmp_path / "papers.db")

    def call(*words, verb="digest"):
        found = CliRunner().invoke(app, ["papers", verb, *map(str, words), "--database", path])
        return found.exit_code, found.output + (str(found.exception) if found.exception else "")

    assert "There is no library" in call("--outbox", tmp_path / "out")[1]
    database = Database(path)
    with database.write() as connection:
        confirm(connection, ask(connection, ADA, now=NOW), now=NOW)
        unsubscribe = connection.execute(sa.select(subscriptions.c.unsubscribe)).scalar()
    assert call("--outbox", tmp_path / "out") == (0, f"{ADA}: nothing is new\n")
    add(database, "One", NOW)
    assert call("--dry-run") == (0, f"{ADA}: would send, 1 papers, 0 changes of evidence\n")
    assert not (tmp_path / "out").exists()
    assert call("--outbox", tmp_path / "out") == (0, f"{ADA}: sent, 1 papers, 0 changes of evidence\n")
    (written,) = (tmp_path / "out").iterdir()
    assert written.suffix == ".eml"
    for words, says in ((("--send",), "--smtp-host"), (("--send", "--smtp-host", "h"), "https"), ((), "Say where"),
                        (("--send", "--outbox", "x"), "Say where")):  # fmt: skip
        code, told = call(*words)
        assert code != 0
        assert says in told
    (tmp_path / "b.eml").write_bytes(
        f"To: b+{unsubscribe}@x.org\r\nSubject: Away\r\n\r\nUntil Monday.\r\n".encode()
    )
    assert call(tmp_path / "b.eml", verb="bounces") == (0, "b.eml: none\n")
    assert "There is no file" in call(tmp_path / "c.eml", verb="bounces")[1]
    database.close()
