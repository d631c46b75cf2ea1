import html
import re
import subprocess

import pytest

sa = pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
pytest.importorskip("css_inline")
pytest.importorskip("flufl.bounce")

from digest_samples import ADA, DAY, HOUR, NOW, SENDER, add, composed, count, headers, row_of, subscribed, text_of

from corrigible.errors import DataError, InvalidParameterError
from corrigible.library import Author
from corrigible.library._bounces import take_bounce
from corrigible.library._database import Database
from corrigible.library._mail import MAX_BYTES, Sender, Signature, confirmation_mail, digest_mail
from corrigible.library._mail_settings import from_environment
from corrigible.library._post import Outbox, Smtp
from corrigible.library._schema import bounces, suppressions
from corrigible.library._subscriptions import ask, by_token


@pytest.fixture
def database(library_url):
    found = Database(library_url)
    yield found
    found.close()


def made(database, sender=SENDER, *names, **more):
    mine = subscribed(database)
    add(database, *(names or ("A Paper",)), **more)
    return mine, digest_mail(composed(database), sender, now=NOW)[0]


def test_headers_as_bytes(database):
    long = Sender("papers@lists.example.org", site=f"https://papers.{'long-name.' * 8}example.org")
    mine, raw = made(database, long)
    head = raw.split(b"\r\n\r\n")[0].decode("ascii")
    link = f"{long.site}/unsubscribe/{mine.unsubscribe}"
    assert len(link) > 120  # folded or encoded at 78 by the default policy
    assert f"\r\nList-Unsubscribe: <{link}>\r\n" in head
    assert "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in head
    assert "\r\nList-Id: Corrigible papers <papers.lists.example.org>\r\n" in head
    assert "\r\nAuto-Submitted: auto-generated\r\n" in head
    assert "\r\nDate: Mon, 30 Nov 2026 07:00:00 +0000\r\n" in head
    assert "\r\nSubject: 1 paper: 30 November 2026\r\n" in head
    assert head.startswith("From: Corrigible papers <papers@lists.example.org>\r\n")
    assert "=?" not in head
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) < 998
    assert raw.isascii()
    assert [p.get_content_type() for p in headers(raw).iter_parts()] == ["text/plain", "text/html"]


def test_the_same_issue_is_the_same_message(database):
    _, raw = made(database)
    again = digest_mail(composed(database), SENDER, now=NOW + HOUR)[0]
    assert headers(again)["message-id"] == headers(raw)["message-id"]
    other = digest_mail(composed(database, NOW + HOUR * 20), SENDER, now=NOW)[0]
    assert headers(other)["message-id"] != headers(raw)["message-id"]


def test_both_parts_hold_everything(database):
    abstract = "Where labels err & models learn them. " * 8
    _, raw = made(database, SENDER, "Naïve <Labels>", abstract=abstract.strip(), authors=(Author("José Müller"),))
    page = headers(raw).get_body(("html",)).get_content()
    for part in (text_of(raw), html.unescape(re.sub(r"<[^>]+>", "", page))):
        for words in ("Naïve <Labels>", "José Müller", abstract[:300].strip()):
            assert words in re.sub(r"\s+", " ", part)
    links = re.findall(r'href="([^"]+)"', page)
    plain = headers(raw).get_body(("plain",)).get_content()
    assert links
    assert all(link in plain.split() for link in links)
    assert "<style" not in page  # inlined
    assert 'style="' in page
    assert max(len(line) for line in plain.splitlines() if "https://" not in line) <= 76


HOSTILE = '</title><script>alert(1)</script>"><img src=http://evil.example/x>{{ 7*7 }}\r\nBcc: eve@evil.example'


def test_hostile_papers(database):
    _, raw = made(database, SENDER, HOSTILE, abstract=HOSTILE, authors=(Author(HOSTILE),), organisation=HOSTILE)
    page = headers(raw).get_body(("html",)).get_content()
    assert not re.search(r"<(script|img|link|iframe)", page)
    assert "{{ 7*7 }}" in page
    assert headers(raw)["bcc"] is None
    assert b"Bcc" not in raw.split(b"\r\n\r\n")[0]


def test_headers_cannot_be_injected(database):
    evil = "x\r\nBcc: eve@evil.example"
    with pytest.raises(InvalidParameterError):
        Sender("papers@lists.example.org", site=f"https://a.example{evil}")
    with pytest.raises(InvalidParameterError):
        Sender(f"papers@lists.example.org{evil}")
    with pytest.raises(InvalidParameterError):
        confirmation_mail(f"{ADA}{evil}", "t", SENDER, now=NOW)
    raw = confirmation_mail(ADA, "t", Sender("papers@lists.example.org", name=evil), now=NOW)
    assert headers(raw)["bcc"] is None
    mine = subscribed(database, searches=[evil], authors=[evil])
    assert (mine.searches, mine.authors) == (["x Bcc: eve@evil.example"],) * 2


def test_the_confirmation_has_no_list_headers():
    raw = confirmation_mail(ADA, "token", SENDER, now=NOW)
    assert b"List-" not in raw.split(b"\r\n\r\n")[0]
    for kind in ("plain", "html"):
        assert "https://papers.example.org/confirm/token" in text_of(raw, kind)


def test_one_click_is_promised_under_https_alone(database):
    _, raw = made(database, Sender("papers@lists.example.org", site="http://127.0.0.1:8321"))
    assert headers(raw)["list-unsubscribe"].startswith("<http://127.0.0.1:8321/unsubscribe/")
    assert headers(raw)["list-unsubscribe-post"] is None


def test_a_mail_is_never_cut_off(database):
    mine = subscribed(database)
    add(
        database,
        *(f"{'漢' * 900} {i}" for i in range(30)),
        abstract="漢字 " * 3000,
        authors=(Author("漢" * 900),) * 9,
    )
    whole = composed(database, shown=30)
    raw, issue = digest_mail(whole, SENDER, now=NOW)
    assert len(raw) <= MAX_BYTES
    assert 3 < len(issue.entries) < 30
    assert len(issue.entries) + len(issue.passed) == 30
    assert f"{len(issue.passed)} more did not find room" in text_of(raw)
    assert raw.count(mine.unsubscribe.encode()) >= 1


def key_pair(tmp_path):
    private = tmp_path / "key.pem"
    if subprocess.run(
        ["openssl", "genrsa", "-traditional", "-out", private, "2048"], capture_output=True
    ).returncode:
        pytest.skip("openssl is not installed")
    public = subprocess.run(
        ["openssl", "rsa", "-in", private, "-pubout"], capture_output=True, text=True, check=True
    ).stdout
    return private, "".join(public.splitlines()[1:-1])


def test_dkim_signs_both_list_headers(database, tmp_path):
    dkim = pytest.importorskip("dkim")
    private, public = key_pair(tmp_path)
    signed = Sender(SENDER.address, site=SENDER.site, signature=Signature(private.read_bytes(), "s1"))
    _, raw = made(database, signed, "Naïve labels")
    named = re.search(rb"[;\s]h=([^;]+);", raw)[1].decode().replace(" ", "").replace("\r\n", "").split(":")
    assert {"list-unsubscribe", "list-unsubscribe-post", "list-id", "from", "to", "date", "message-id"} <= set(
        named
    )

    def dns(name, timeout=5):
        assert name in (b"s1._domainkey.lists.example.org.", "s1._domainkey.lists.example.org.")
        return f"v=DKIM1; k=rsa; p={public}".encode()

    assert dkim.verify(raw, dnsfunc=dns)
    for was, now in (
        (b"List-Unsubscribe=One-Click", b"List-Unsubscribe=Two-Click"),
        (b"/unsubscribe/", b"/unsubscribed/"),
    ):
        assert not dkim.verify(raw.replace(was, now), dnsfunc=dns)
    assert dkim.verify(confirmation_mail(ADA, "t", signed, now=NOW), dnsfunc=dns)


def test_settings(tmp_path):
    post, sender = from_environment({}, tmp_path)
    assert (post, sender.site) == (Outbox(tmp_path), "http://127.0.0.1:8321")
    assert from_environment({}, None) is None
    names = {
        "CORRIGIBLE_SMTP_HOST": "mail.example.org",
        "CORRIGIBLE_SMTP_PORT": "25",
        "CORRIGIBLE_SITE": "https://p.example",
    }
    assert from_environment(names, None)[0] == Smtp("mail.example.org", 25)
    for wrong in ({"CORRIGIBLE_SMTP_PORT": "x"}, {"CORRIGIBLE_SMTP_TLS": "none"}, {"CORRIGIBLE_SMTP_TLS": "some"},
                  {"CORRIGIBLE_DKIM_KEY": "k"}, {"CORRIGIBLE_SITE": "javascript:x"}):  # fmt: skip
        with pytest.raises(InvalidParameterError):
            from_environment(names | wrong, None)
    with pytest.raises(DataError, match="cannot be read"):
        from_environment({"CORRIGIBLE_DKIM_KEY": str(tmp_path / "no"), "CORRIGIBLE_DKIM_SELECTOR": "s"}, tmp_path)


# --- bounces --------------------------------------------------------------------------------------------------


def report(token, *, status="5.1.1", action="failed", address=ADA, extra=""):
    return (
        f"From: MAILER-DAEMON@mx.example.org\r\nTo: b+{token}@lists.example.org\r\nSubject: Undelivered\r\n{extra}"
        'MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary="B"\r\n\r\n'
        "--B\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\r\n--B\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; mx.example.org\r\n\r\n"
        f"Final-Recipient: rfc822; {address}\r\nAction: {action}\r\nStatus: {status}\r\n\r\n--B--\r\n"
    ).encode()


def took(database, raw, now=NOW):
    with database.write() as connection:
        return take_bounce(connection, raw, now=now)


def state(database):
    with database.read() as connection:
        return row_of(connection).state


def test_a_permanent_bounce_ends_at_once(database):
    mine = subscribed(database)
    assert took(database, report(mine.unsubscribe.upper())) == "permanent"  # some servers change the case
    assert state(database) == "ended"
    with database.write() as connection:
        assert ask(connection, ADA) is None
        assert connection.execute(sa.select(suppressions.c.reason)).scalar() == "bounced"


def test_three_temporary_ones_in_a_fortnight(database):
    mine = subscribed(database)

    def passing(n, day):
        raw = report(mine.unsubscribe, status="4.2.2", action="delayed", extra=f"Message-ID: <{n}@mx>\r\n")
        return took(database, raw, NOW + day * DAY)

    assert passing(0, 0) == "temporary"
    assert [passing(1, 10), passing(1, 11), passing(1, 12)] == ["temporary", "known", "known"]
    assert state(database) == "confirmed"
    assert passing(2, 15) == "temporary"  # the first is too long ago by now
    assert state(database) == "confirmed"
    assert passing(3, 16) == "temporary"
    assert state(database) == "ended"


def test_what_ends_nothing(database):
    mine = subscribed(database)
    holiday = f"To: b+{mine.unsubscribe}@lists.example.org\r\nSubject: Away\r\n\r\nUntil Monday.\r\n".encode()
    for raw in (report("a" * 22), report("x"), report("a" * 22, address=ADA), holiday, b"", b"\xff\x00" * 500):
        assert took(database, raw) == "none"
    assert (state(database), count(database, bounces)) == ("confirmed", 0)


def test_a_complaint_is_for_good(database):
    mine, raw = made(database)
    complaint = (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=feedback-report; boundary="B"\r\n\r\n'
        b"--B\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\r\n"
        b"--B\r\nContent-Type: message/rfc822\r\n\r\n" + raw + b"\r\n--B--\r\n"
    )
    assert took(database, complaint) == "complaint"
    assert state(database) == "ended"
    with database.read() as connection:
        assert by_token(connection, mine.unsubscribe).state == "ended"
        assert connection.execute(sa.select(suppressions.c.reason)).scalar() == "complaint"
