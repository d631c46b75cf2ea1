import datetime as dt
import json

import pytest

pytest.importorskip("defusedxml")

import answers_of_sources as sample
from hypothesis import given, settings
from hypothesis import strategies as st

from corrigible.errors import DataError
from corrigible.library import (
    Author,
    BadTokenError,
    parse_atom,
    parse_bibtex,
    parse_daily,
    parse_oai,
    parse_rss,
    to_bibtex,
    to_csl,
)
from corrigible.library._records import plain_tex, safe_link, split_authors

PARSERS = {"atom": parse_atom, "oai": parse_oai, "rss": parse_rss}


def test_atom():
    page = parse_atom(sample.atom(sample.ENTRY, sample.OLD_ENTRY))
    first, old = page.records
    assert (first.key, first.title) == ("2611.00001", "A Title Broken Over Two Lines")  # never the feed's own title
    assert first.abstract == "An abstract with $\\alpha$ & an ampersand."
    assert first.categories == ("cs.LG", "stat.ML")  # primary first, no ACM class
    assert first.authors == (Author("Ada Example", "One, Two"), Author("José Müller"))
    assert [v.number for v in first.versions] == [1, 2]
    assert first.versions[0].submitted == dt.datetime(2026, 11, 1, 9, tzinfo=dt.UTC)
    assert first.links == (("code", "https://github.com/example/repo"),)
    assert (old.key, old.withdrawn, first.withdrawn) == ("math/0611800", True, False)
    assert (page.total, page.more) == (3, "2")


def test_an_empty_page_in_mid_paging_is_asked_for_again():
    assert parse_atom(sample.atom()).more == "0"


def test_atom_error_feed():
    with pytest.raises(DataError, match="refused the query: incorrect id format for 1234"):
        parse_atom(sample.atom(sample.ERROR_ENTRY))


def test_an_unreadable_entry_costs_itself_alone():
    page = parse_atom(
        sample.atom("<entry><id>http://arxiv.org/abs/nonsense</id><title>x</title></entry>", sample.ENTRY)
    )
    assert len(page.records) == 1
    assert "nonsense" in page.problems[0]


def test_oai():
    page = parse_oai(
        sample.oai(sample.OAI_RECORD, sample.OAI_DELETED, "<resumptionToken>next|page</resumptionToken>")
    )
    (record,) = page.records
    assert record.authors == (Author("Ada Example", "One, and Two"), Author("José Müller"), Author("C. D'Or"))
    assert (record.published.day, record.updated.day) == (1, 19)
    assert record.license == "http://creativecommons.org/licenses/by/4.0/"
    assert (page.deleted, page.more) == (("2610.00009",), "next|page")
    assert page.responded == dt.datetime(2026, 11, 22, 6, tzinfo=dt.UTC)


def test_oai_errors():
    assert parse_oai(sample.oai('<error code="noRecordsMatch">none</error>')).records == ()
    with pytest.raises(BadTokenError, match="badResumptionToken"):
        parse_oai(sample.oai('<error code="badResumptionToken"/>'))
    with pytest.raises(DataError, match="badVerb: no such verb"):
        parse_oai(sample.oai('<error code="badVerb">no such verb</error>'))
    assert parse_oai(sample.oai(sample.OAI_RECORD, "<resumptionToken/>")).more == ""


def test_rss():
    new, cross, replaced = (parse_rss(sample.rss(sample.rss_item(v, t))).records[0]
                            for v, t in ((1, "new"), (1, "cross"), (3, "replace")))  # fmt: skip
    assert new.announced == dt.date(2026, 11, 20)  # midnight in New York, not the day before in UTC
    assert new.published is not None
    assert (cross.published, cross.announced) == (None, dt.date(2026, 11, 20))
    assert (replaced.published, replaced.announced, replaced.versions[0].number) == (None, None, 3)
    assert new.abstract == "An abstract."
    assert parse_rss(sample.rss()).records == ()  # a weekend


def test_daily():
    (record,) = parse_daily(json.dumps([sample.DAILY]).encode()).records
    assert record.announced == dt.date(2026, 11, 20)  # the day of the list
    assert record.published.date() == dt.date(2026, 11, 1)  # arXiv's
    assert record.counts == {"upvotes": 17, "comments": 4, "stars": 5}
    assert (record.organisation, record.keywords) == ("University", ("label noise",))
    assert record.authors == (Author("Ada Example"),)
    (flat,) = parse_daily(json.dumps(sample.DAILY["paper"]).encode()).records
    assert (flat.announced, flat.counts["stars"]) == (None, 5)
    bare = parse_daily(b'[{"paper": {"id": "2611.00002", "title": "T"}}, {"paper": {"id": "x"}}, 3]')
    assert [len(bare.records), len(bare.problems)] == [1, 2]


def test_daily_that_is_none():
    for raw in (b"", b"<html>", b"3", b"[" * 100_000):
        with pytest.raises(DataError, match="The daily papers must be"):
            parse_daily(raw)


BIBTEX = rb"""
@article{muller, title={On {B}ayes \& noise of $x_1$}, author={M{\"u}ller, Jos\'e and others and Ada L. Byron},
  year=2024, month=feb, eprint={2401.00001v2}, archiveprefix={arXiv}, journal={J. Noise}, keywords={a, b}}
@misc{own, title={Another}, author={Solo}, url={javascript:alert(1)}}
"""


def test_bibtex():
    pytest.importorskip("bibtexparser")
    first, own = parse_bibtex(BIBTEX).records
    assert (first.key, own.key) == ("2401.00001", "bibtex:own")
    assert first.authors == (Author("José Müller"), Author("Ada L. Byron"))
    assert first.published == dt.datetime(2024, 2, 1, tzinfo=dt.UTC)
    assert first.keywords == ("a", "b")
    assert own.links == ()
    again = parse_bibtex(to_bibtex([first]).encode()).records[0]
    assert (again.key, again.title, again.authors) == (first.key, first.title, first.authors)
    (item,) = to_csl([first])
    assert item["author"][0] == {"given": "José", "family": "Müller"}
    assert (item["DOI"], item["issued"]) == ("10.48550/arXiv.2401.00001", {"date-parts": [[2024, 2, 1]]})
    with pytest.raises(DataError, match="must hold an entry"):
        parse_bibtex(b"no bibliography")
    with pytest.raises(DataError, match="UTF-8"):
        parse_bibtex(b"\xff\xfe\x00")


BOMB = b"""<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><feed>&b;</feed>"""


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
@pytest.mark.parametrize(
    ("raw", "says"),
    [(BOMB, "no entities"), (b"", "well-formed"), (b"<feed>", "well-formed"), (b"<html/>", "root"),
     (b"\xff\xff\xff", "well-formed"), (b"<?xml version='1.0' encoding='nonsense'?><feed/>", "well-formed"),
     (b" " * (65 * 2**20), "at most 64 MiB")],
    ids=["bomb", "empty", "open", "html", "bytes", "encoding", "huge"],
)  # fmt: skip
def test_bad_xml_is_one_sentence(parse, raw, says):
    with pytest.raises(DataError, match=says) as told:
        parse(raw)
    assert "\n" not in str(told.value)


@settings(max_examples=200)
@given(st.sampled_from(sorted(PARSERS)), st.integers(0, 3000), st.binary(max_size=4))
def test_damaged_answers_are_read_or_refused(door, at, bytes_):
    whole = {"atom": sample.atom(sample.ENTRY, sample.OLD_ENTRY), "oai": sample.oai(sample.OAI_RECORD),
             "rss": sample.rss(sample.rss_item())}[door]  # fmt: skip
    raw = whole[: at % len(whole)] + bytes_ + whole[at % len(whole) + len(bytes_) :]
    try:
        page = PARSERS[door](raw)
    except DataError:
        return
    assert all(r.title for r in page.records)


names = st.sampled_from([*sample.DAILY, *sample.DAILY["paper"]])
leaves = st.none() | st.booleans() | st.floats() | st.text(max_size=9)


@given(st.recursive(leaves, lambda x: st.lists(x, max_size=3) | st.dictionaries(names, x), max_leaves=12))
def test_any_json_is_read_or_refused(value):
    try:
        parse_daily(json.dumps(value).encode())
    except DataError:
        pass


def test_names_with_tex_accents():
    written = {r"Jos\'e M\"uller": "José Müller", r"{\O}rsted": "Ørsted", r"Erd\H{o}s": "Erdős", r"Ho\v cevar": "Hočevar",
               r"Gar\c{c}on": "Garçon", r"\'{\i}": "í", r"\L{}ukasz": "Łukasz", r"Stra\ss e": "Straße"}  # fmt: skip
    assert {tex: plain_tex(tex) for tex in written} == written


def test_authors_with_parentheses_that_do_not_close():
    assert [a.name for a in split_authors("A. One (X, B. Two")] == ["A. One X", "B. Two"]
    assert split_authors("") == ()


def test_only_web_addresses_become_links():
    assert safe_link("https://a.example/b?c=1") == "https://a.example/b?c=1"
    for bad in ("javascript:alert(1)", "data:text/html,x", "//a.example", 'https://a"onclick=x', "https://a b", ""):
        assert safe_link(bad) == ""
