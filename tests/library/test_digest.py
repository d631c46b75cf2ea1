import datetime as dt
import subprocess
import sys

import pytest

sa = pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
pytest.importorskip("css_inline")
pytest.importorskip("flufl.bounce")

from digest_samples import (
    ADA,
    DAY,
    HOUR,
    NOW,
    SENDER,
    Kept,
    add,
    composed,
    count,
    headers,
    row_of,
    run,
    subscribed,
    text_of,
    titles,
)

from corrigible.errors import DataError, InvalidParameterError, UnknownNameError
from corrigible.library import Author
from corrigible.library import _evidence_log as log
from corrigible.library import _people as people
from corrigible.library._addresses import mail_address
from corrigible.library._database import Database
from corrigible.library._digest import same_person
from corrigible.library._mail import digest_mail
from corrigible.library._post import Outbox, RefusedError
from corrigible.library._rooms import rooms_of
from corrigible.library._schema import bounces, evidence_log, issues, papers, subscriptions, suppressions
from corrigible.library._sending import claim
from corrigible.library._subscriptions import ask, confirm, end, suppress
from corrigible.library._taste import taste_of
from corrigible.papers import index


@pytest.fixture
def database(library_url):
    found = Database(library_url)
    yield found
    found.close()


def test_addresses():
    assert mail_address(" Ada.L+x@EXAMPLE.org ") == "ada.l+x@example.org"
    assert mail_address("ada@bücher.example") == "ada@xn--bcher-kva.example"


@pytest.mark.parametrize(
    "text",
    ["", "ada", "@example.org", "ada@", "ada@localhost", "a b@example.org", "ada@example.org\r\nBcc: eve@evil.example",
     "ada@example.org, eve@evil.example", "ada@ex\nample.org", "ada..l@example.org", '"a b"@example.org', "ada@-x.org",
     "ada@example.org\n", "<ada@example.org>", f"{'a' * 65}@example.org", f"a@{'b.' * 130}org", "ädа@example.org",
     "a@b@c.org", "ada@example.org\x00", "ada@1.2.3.4"],
)  # fmt: skip
def test_what_is_no_address(text):
    with pytest.raises(InvalidParameterError, match=r"name@example\.org"):
        mail_address(text)


def test_double_opt_in(database):
    with database.write() as connection:
        token = ask(connection, ADA, now=NOW, source="test")
        row = row_of(connection)
        assert (row.state, row.confirmed, row.source) == ("pending", None, "test")
        assert token not in str(row)  # its hash alone is kept
        assert len(row.unsubscribe) == 22
    add(database, "A Paper", at=NOW)
    assert run(database, Kept(), now=NOW + HOUR) == []
    with database.write() as connection:
        for wrong in (token[:-1], "", row.unsubscribe, "\udcff"):
            with pytest.raises(UnknownNameError):
                confirm(connection, wrong, now=NOW)
        with pytest.raises(UnknownNameError, match="48 hours"):
            confirm(connection, token, now=NOW + 2 * DAY + dt.timedelta(seconds=1))
        confirm(connection, token, now=NOW + 2 * DAY)
        confirm(connection, token, now=NOW + 9 * DAY)  # pressed again: nothing moves
        assert row_of(connection).confirmed == NOW + 2 * DAY
        end(connection, row.id)
        with pytest.raises(UnknownNameError):  # a replayed link does not bring back what was ended
            confirm(connection, token, now=NOW + 2 * DAY)


def test_asking_again(database):
    with database.write() as connection:
        first = ask(connection, ADA, now=NOW)
        assert ask(connection, ADA, now=NOW + HOUR / 60) is None  # no flood of questions
        second = ask(connection, "ADA@example.org", now=NOW + HOUR, rooms=["shift"])
        with pytest.raises(UnknownNameError):
            confirm(connection, first, now=NOW + HOUR)
        confirm(connection, second, now=NOW + HOUR)
        assert ask(connection, ADA, now=NOW + DAY, rooms=["data"]) is None  # a stranger cannot change the wishes
        assert row_of(connection).rooms == ["shift"]
        ending = row_of(connection).unsubscribe
        end(connection, row_of(connection).id)
        assert ask(connection, ADA, now=NOW + DAY)
        assert row_of(connection).unsubscribe == ending  # the links of old mails hold
        suppress(connection, "gone@example.org", "bounced")
        assert ask(connection, "gone@example.org", now=NOW) is None
    assert count(database, subscriptions) == 1


@pytest.mark.parametrize(
    "wishes",
    [{"every": "hour"}, {"rooms": ["nowhere"]}, {"searches": [f"w{i}" for i in range(21)]},
     {"authors": ["x" * 201]}],
)  # fmt: skip
def test_wishes_that_are_refused(database, wishes):
    with database.write() as connection, pytest.raises(InvalidParameterError):
        ask(connection, ADA, **wishes)


# --- what is in an issue --------------------------------------------------------------------------------------


def test_nothing_new_is_no_issue(database):
    subscribed(database)
    post = Kept()
    assert [o.state for o in run(database, post)] == ["nothing"]
    assert (post.sent, count(database, issues)) == ([], 0)


def test_an_issue_begins_where_the_last_ended(database):
    subscribed(database)
    add(database, "First", at=NOW - HOUR)
    add(database, "Long before", at=NOW - 9 * DAY)
    add(database, "Taken in late", at=NOW - HOUR, day=dt.date(2019, 5, 1))  # a backfill is no news
    assert titles(composed(database)) == ["First"]
    run(database, Kept())
    add(database, "Committed late", at=NOW - HOUR / 4)  # seen before that issue, by an ingest that ended after it
    add(database, "Second", at=NOW + HOUR)
    assert sorted(titles(composed(database, NOW + DAY))) == ["Committed late", "Second"]


def test_what_did_not_find_room_does_not_come_back(database):
    subscribed(database)
    add(database, "One", "Two", "Three", at=NOW - HOUR / 2)
    (outcome,) = run(database, Kept(), shown=2)
    assert (outcome.state, outcome.papers) == ("sent", 2)
    assert composed(database, NOW + DAY) is None


def test_weekly(database):
    subscribed(database, every="week")
    add(database, "One")
    assert [o.state for o in run(database, Kept())] == ["sent"]
    add(database, "Two", at=NOW + HOUR)
    assert run(database, Kept(), now=NOW + 6 * DAY) == []
    assert [o.papers for o in run(database, Kept(), now=NOW + 7 * DAY)] == [1]


def test_wishes(database):
    subscribed(
        database,
        rooms=["fairness"],
        searches=["label noise", "out-of-distribution?", "???"],
        authors=["Lovelace, A."],
    )
    add(database, "Noises in many labels", "Noise of engines", "Detecting out of distribution rows")
    add(database, "Bridges", authors=(Author("Ada Lovelace"),))
    add(database, "Hills", authors=(Author("Bob Lovelace"),))
    add(database, "Equalized odds and fairness of groups under demographic parity constraints for fair classifiers")
    found = {e.paper.title: e.reasons for e in composed(database).entries}
    assert found.pop("Bridges") == ("author Lovelace, A.",)
    assert found.pop("Detecting out of distribution rows") == ("search “out-of-distribution?”",)
    assert found.pop("Noises in many labels") == ("search “label noise”",)
    assert list(found.values()) == [("room fairness",)]
    with database.write() as connection:
        connection.execute(sa.update(papers).where(papers.c.title == "Bridges").values(withdrawn=True))
    assert "Bridges" not in titles(composed(database))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("Ada Lovelace", "ADA LOVELACE", True), ("A. Lovelace", "Ada Lovelace", True),
     ("Lovelace, Ada", "Ada M. Lovelace", True),
     ("José Müller", "Jose Muller", True), ("Ada Lovelace", "Alan Lovelace", False), ("Lovelace", "Ada Lovelace", False),
     ("Ada Lovelace", "Ada Byron", False), ("", "Ada", False), ("Plato", "Plato", True), ("...", "...", False)],
)  # fmt: skip
def test_same_person(one, other, same):
    assert same_person(one, other) is same
    assert same_person(other, one) is same


def test_rooms_of_texts():
    far = "Slip flow of a rarefied gas over a blunt body in a hypersonic wind tunnel"
    assert rooms_of([far, ""]) == ["", ""]
    own = list(index().values())
    near = rooms_of([f"{p.title} {p.build}" for p in own])
    assert sum(a == p.room for a, p in zip(near, own, strict=True)) > len(own) / 2


def voted(database, likes, dislikes):
    words = [f"Calibration of {w} networks" for w in likes] + [f"Robots that carry {w}" for w in dislikes]
    add(database, *words, at=NOW - 90 * DAY)
    with database.write() as connection:
        user = people.local_user(connection)
        for row in connection.execute(sa.select(papers).where(papers.c.title.in_(words))).all():
            people.vote(connection, user, row.id, 1 if row.title.startswith("Cal") else -1)
    return user


def test_votes_rank_and_words_say_why(database):
    letters = "alpha beta gamma delta epsilon zeta eta theta".split()
    user = voted(database, letters[:7], letters[:2])
    with database.read() as connection:
        assert taste_of(connection, user) is None  # nine votes
        assert taste_of(connection, None) is None
    voted(database, letters[:7], letters[:5])
    subscribed(database, user=user)
    add(database, "Calibration at night", at=NOW - 2 * HOUR)
    add(database, "Robots that swim", "Something else", at=NOW - HOUR)
    issue = composed(database)
    assert issue.by_votes
    assert titles(issue)[0] == "Calibration at night"
    assert titles(issue)[-1] == "Robots that swim"
    assert issue.entries[0].words[0] == "calibration"
    assert issue.entries[-1].words == ()
    assert "Words that decided: calibration" in text_of(digest_mail(issue, SENDER, now=NOW)[0])


RESULT = {"status": "reproduced", "papers": ["capa"], "measurements": [
    {"name": "gain", "value": 0.5, "kind": "claim"}, {"name": "seconds", "value": 3.0, "kind": "note"}]}  # fmt: skip


def measured(monkeypatch, **changed):
    result = {**RESULT, **changed}
    monkeypatch.setattr(log, "results", lambda: {"one": result})


def test_what_changed_in_evidence(database, monkeypatch):
    slug = next(slug for slug, paper in index().items() if paper.methods)
    measured(monkeypatch, papers=[slug])
    subscribed(database)
    assert [o.state for o in run(database, Kept())] == ["nothing"]  # what was there at first is no news
    measured(monkeypatch, papers=[slug], measurements=[{**RESULT["measurements"][0], "value": 0.25}])
    assert [o.changes for o in run(database, Kept(), dry_run=True, now=NOW + HOUR)] == [1]
    assert count(database, evidence_log) == 1  # a dry run notes nothing
    post = Kept()
    (outcome,) = run(database, post, now=NOW + HOUR)
    assert (outcome.state, outcome.papers, outcome.changes) == ("sent", 0, 1)
    assert "one: gain: 0.5 before, 0.25 now" in text_of(post.sent[0][0])
    assert [o.state for o in run(database, post, now=NOW + DAY)] == ["nothing"]
    other = next(p.room for p in index().values() if p.room != index()[slug].room)
    with database.read() as connection:
        assert log.changes_since(connection, NOW, rooms=[other]) == []
    add(database, index()[slug].title, at=NOW - 90 * DAY)
    with database.write() as connection:
        connection.execute(sa.update(papers).values(slug=slug, withdrawn=True))
    measured(monkeypatch, papers=[slug], status="not reproduced", measurements=[])
    run(database, post, now=NOW + 2 * DAY)
    assert "reproduced before, not reproduced now" in text_of(post.sent[1][0])
    assert f"{slug}: withdrawn; {len(index()[slug].methods)} method" in text_of(post.sent[1][0])


# --- no mail twice --------------------------------------------------------------------------------------------


def test_one_mail_an_issue(database):
    mine = subscribed(database)
    add(database, "One")
    post = Kept()
    assert [o.state for o in run(database, post)] == ["sent"]
    assert run(database, post) == []
    assert run(database, post, now=NOW + HOUR) == []
    (raw, sender, recipient), = post.sent  # fmt: skip
    assert (sender, recipient) == (f"b+{mine.unsubscribe}@lists.example.org", ADA)
    with database.read() as connection:
        row = connection.execute(sa.select(issues)).one()
    assert (row.state, row.message_id) == ("sent", headers(raw)["message-id"])


def test_a_sender_that_dies_between_claim_and_send(database, library_url):
    subscribed(database)
    add(database, "One")
    script = (
        "import os, sys, datetime as dt\n"
        "from corrigible.library._database import Database\n"
        "from corrigible.library._mail import Sender\n"
        "from corrigible.library._sending import send_digests\n"
        "class Dies:\n"
        "    def send(self, raw, **_): os.kill(os.getpid(), 9)\n"
        "now = dt.datetime.fromisoformat(sys.argv[2])\n"
        "list(send_digests(Database(sys.argv[1]), Dies(), Sender('p@example.org'), now=now))\n"
    )
    died = subprocess.run([sys.executable, "-c", script, library_url, NOW.isoformat()], capture_output=True)
    assert died.returncode == -9
    post = Kept()
    assert run(database, post) == []  # it may have gone out: not again
    add(database, "Two", at=NOW + HOUR)
    assert run(database, post, now=NOW + HOUR) == []
    assert [o.papers for o in run(database, post, now=NOW + DAY)] == [2]  # what it held comes with the next
    assert len(post.sent) == 1


def test_a_connection_that_breaks_is_not_tried_again(database):
    subscribed(database)
    add(database, "One")
    (outcome,) = run(database, Kept(ConnectionResetError("gone")))
    assert (outcome.state, outcome.why) == ("claimed", "ConnectionResetError: gone")
    assert run(database, Kept()) == []


def test_a_refusal_is_tried_again(database):
    subscribed(database)
    add(database, "One")
    assert [o.state for o in run(database, Kept(RefusedError("451 later")))] == ["failed"]
    post = Kept()
    assert [o.state for o in run(database, post, now=NOW + HOUR)] == ["sent"]
    assert (len(post.sent), count(database, issues), count(database, bounces)) == (1, 1, 0)


def test_a_refused_recipient_is_a_bounce(database):
    subscribed(database)
    add(database, "One")
    run(database, Kept(RefusedError("550 5.1.1 unknown", permanent=True, recipient=True)))
    with database.read() as connection:
        assert row_of(connection).state == "ended"
    assert count(database, suppressions) == 1


def test_two_senders_at_once(database):
    subscribed(database)
    add(database, "One")
    issue = composed(database)
    assert claim(database, issue, SENDER) is not None
    assert claim(database, issue, SENDER) is None


def test_an_end_beats_what_is_queued(database, tmp_path):
    mine = subscribed(database)
    add(database, "One")
    issue = composed(database)
    with database.write() as connection:
        end(connection, mine.id)
        end(connection, mine.id)
    assert claim(database, issue, SENDER) is None
    with database.write() as connection:  # ended between claim and send
        connection.execute(sa.update(subscriptions).values(state="confirmed"))

    post, write = Kept(), database.write
    calls = []

    def interrupted():
        calls.append(1)
        if len(calls) == 3:  # evidence, claim, and now the last look
            with write() as connection:
                suppress(connection, ADA, "complaint")
        return write()

    database.write = interrupted
    assert [o.state for o in run(database, post)] == ["dropped"]
    assert post.sent == []


def test_outbox(database, tmp_path):
    mine = subscribed(database)
    other = subscribed(database, "bob@example.org")
    add(database, "One")
    outbox = Outbox(tmp_path / "new" / "outbox")
    assert [o.state for o in run(database, outbox)] == ["sent", "sent"]
    assert sorted(p.name for p in outbox.folder.iterdir()) == [f"2026-11-30-s{i}.eml" for i in (mine.id, other.id)]
    message = headers((outbox.folder / f"2026-11-30-s{mine.id}.eml").read_bytes())
    assert message["return-path"] == f"<b+{mine.unsubscribe}@lists.example.org>"
    assert message["x-envelope-to"] == f"<{ADA}>"
    outbox.withdraw(mine.id)
    assert [p.name for p in outbox.folder.iterdir()] == [f"2026-11-30-s{other.id}.eml"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        Outbox(tmp_path / "file").send(b"", sender="a@b.org", recipient=ADA, name="x")


# --- mails as bytes -------------------------------------------------------------------------------------------
