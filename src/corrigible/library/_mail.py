"""The mails as bytes: a digest and a confirmation, plain text first, HTML beside it, signed where there is a key."""

from __future__ import annotations

import datetime as dt
import email.policy
import email.utils
import functools
import hashlib
import textwrap
from dataclasses import dataclass, replace
from email.headerregistry import Address
from email.message import EmailMessage
from urllib.parse import quote

import jinja2

from corrigible._utils.optional import require
from corrigible.errors import InvalidParameterError
from corrigible.library._addresses import mail_address
from corrigible.library._digest import Issue
from corrigible.library._records import clean_text, safe_link

# The default policy folds a header of 78 characters, and a link that is folded is no link: it is encoded as a word.
POLICY = email.policy.SMTP.clone(max_line_length=998)
MAX_BYTES = 102_000  # Gmail cuts off what is longer
_SIGNED = ("from", "to", "subject", "date", "message-id", "mime-version", "content-type", "list-id", "list-unsubscribe",
           "list-unsubscribe-post")  # fmt: skip


@dataclass(frozen=True)
class Signature:
    """A key for DKIM.

    Attributes
    ----------
    key : bytes
        Private RSA key, PEM.
    selector : str
        Under which the public one stands in the sender's domain.
    """

    key: bytes
    selector: str


@dataclass(frozen=True)
class Sender:
    """Who sends.

    Attributes
    ----------
    address : str
        In the From field; its domain takes the bounces and is the list's.
    site : str
        Where the pages stand, for links. One click can end a subscription only where they stand under https.
    name : str
        Beside the address.
    signature : Signature or None
        For DKIM; a relay may sign instead.
    """

    address: str
    site: str = "http://127.0.0.1:8321"
    name: str = "Corrigible papers"
    signature: Signature | None = None

    def __post_init__(self) -> None:
        mail_address(self.address)
        if safe_link(self.site) != self.site:
            raise InvalidParameterError(
                f"The site of a sender must be an http or https address. Got {self.site[:80]!r}."
            )

    @property
    def domain(self) -> str:
        """Of the address."""
        return self.address.rpartition("@")[2]

    def link(self, path: str) -> str:
        """Return the address of a page."""
        return f"{self.site.rstrip('/')}{path}"


def digest_mail(issue: Issue, sender: Sender, *, now: dt.datetime) -> tuple[bytes, Issue]:
    """Return the mail of an issue and the issue as it went in: papers that would make it too long are left for the page.

    Parameters
    ----------
    issue : Issue
        What to tell.
    sender : Sender
        Who sends.
    now : datetime
        The mail's date.
    """
    while True:
        raw = _signed(_digest(issue, sender, now), sender)
        if len(raw) <= MAX_BYTES or not (issue.entries or issue.changes):
            return raw, issue
        if issue.entries:
            left = (issue.entries[-1].paper.id, *issue.passed)
            issue = replace(issue, entries=issue.entries[:-1], passed=left)
        else:
            issue = replace(issue, changes=issue.changes[:-1])


def confirmation_mail(address: str, token: str, sender: Sender, *, now: dt.datetime) -> bytes:
    """Return the mail that asks whether a subscription is wanted. It has no list headers: there is no list yet."""
    message = _message(
        address, "Confirm your subscription to papers", sender, now, _identifier(f"confirm {token}", sender)
    )
    _fill(message, "confirm", link=sender.link(f"/confirm/{token}"), site=sender.site)
    return _signed(message, sender)


def message_id(issue: Issue, sender: Sender) -> str:
    """Return the identifier of an issue's mail: the same whenever it is built, so that a copy can be known for one."""
    mine = issue.subscription
    return _identifier(f"issue {mine.id} {issue.day} {mine.unsubscribe}", sender)


def _identifier(what: str, sender: Sender) -> str:
    return f"<{hashlib.sha256(what.encode()).hexdigest()[:32]}@{sender.domain}>"


def _digest(issue: Issue, sender: Sender, now: dt.datetime) -> EmailMessage:
    mine = issue.subscription
    told = [(len(issue.entries), "paper"), (len(issue.changes), "change of evidence")]
    subject = ", ".join(f"{n} {_many(what, n)}" for n, what in told if n)
    message = _message(mine.address, f"{subject}: {issue.day.day} {issue.day:%B %Y}", sender, now,
                       message_id(issue, sender))  # fmt: skip
    end = sender.link(f"/unsubscribe/{mine.unsubscribe}")
    message["List-Id"] = f"Corrigible papers <papers.{sender.domain}>"
    message["List-Unsubscribe"] = f"<{end}>"
    if sender.site.startswith("https://"):  # RFC 8058 knows one click under https alone
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    _fill(message, "digest", issue=issue, end=end, sender=sender)
    return message


def _many(what: str, n: int) -> str:
    return what if n == 1 else f"{what}s" if what == "paper" else "changes of evidence"


def _message(address: str, subject: str, sender: Sender, now: dt.datetime, identifier: str) -> EmailMessage:
    message = EmailMessage(policy=POLICY)
    message["From"] = Address(clean_text(sender.name), addr_spec=sender.address)
    message["To"] = Address(addr_spec=mail_address(address))
    message["Subject"] = subject
    message["Date"] = email.utils.format_datetime(now)
    message["Message-ID"] = identifier
    message["Auto-Submitted"] = "auto-generated"
    return message


def _fill(message: EmailMessage, template: str, **values: object) -> None:
    inliner = require("css_inline", extra="web", by="Writing mails").CSSInliner(load_remote_stylesheets=False)
    text = _environment(html=False).get_template(f"{template}.txt.j2").render(values)
    html = inliner.inline(_environment(html=True).get_template(f"{template}.html.j2").render(values))
    # Seven bits on the way: a server that recodes eight would break the signature.
    message.set_content(text.strip() + "\n", cte="quoted-printable")
    message.add_alternative(html, subtype="html", cte="quoted-printable")


@functools.lru_cache(maxsize=2)
def _environment(*, html: bool) -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("corrigible.library", "templates"),
        autoescape=html, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    found.filters |= {"cut": _cut, "fold": _fold, "key_path": lambda key: f"/papers/{quote(key, safe='/:')}"}
    return found


def _cut(text: str, length: int = 420) -> str:
    return text if len(text) <= length else f"{text[:length].rsplit(' ', 1)[0]} …"


def _fold(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 76, initial_indent=indent, subsequent_indent=indent, break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip


def _signed(message: EmailMessage, sender: Sender) -> bytes:
    raw = message.as_bytes()
    if sender.signature is None:
        return raw
    dkim = require("dkim", extra="web", by="Signing mails")
    # The library's own choice leaves List-Unsubscribe-Post unsigned, and then no receiver trusts it.
    signature: bytes = dkim.sign(
        raw, sender.signature.selector.encode(), sender.domain.encode(), sender.signature.key,
        canonicalize=(b"relaxed", b"relaxed"), include_headers=[name.encode() for name in _SIGNED],
    )  # fmt: skip
    return signature + raw
