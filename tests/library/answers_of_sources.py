"""Answers of the sources, made for the tests after their documented forms."""

ATOM = """<?xml version='1.0' encoding='UTF-8'?>
<feed xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns:arxiv="http://arxiv.org/schemas/atom"
 xmlns="http://www.w3.org/2005/Atom">
  <title>arXiv Query: search_query=cat:cs.LG&amp;start=0</title>
  <updated>2026-11-20T00:00:00Z</updated>
  <opensearch:totalResults>3</opensearch:totalResults><opensearch:startIndex>0</opensearch:startIndex>
  {entries}
</feed>"""

ENTRY = """<entry>
  <summary>An abstract with $\\alpha$ &amp; an ampersand.</summary>
  <category term="I.2.6"/><category term="stat.ML"/>
  <title>A Title Broken
    Over Two Lines</title>
  <id>http://arxiv.org/abs/2611.00001v2</id>
  <published>2026-11-01T09:00:00Z</published><updated>2026-11-19T18:00:00Z</updated>
  <arxiv:primary_category term="cs.LG"/>
  <arxiv:comment>9 pages; code: https://github.com/example/repo.</arxiv:comment>
  <author><name>Ada Example</name><arxiv:affiliation>One</arxiv:affiliation>
    <arxiv:affiliation>Two</arxiv:affiliation></author>
  <author><name>José Müller</name></author>
</entry>"""

OLD_ENTRY = """<entry><id>http://arxiv.org/abs/math.CA/0611800v2</id><title>Old</title><updated>2006-12-01T00:00:00Z</updated>
  <summary>This paper has been withdrawn by the author.</summary></entry>"""

ERROR_ENTRY = """<entry><id>http://arxiv.org/api/errors#incorrect_id</id><title>Error</title>
  <summary>incorrect id format for 1234</summary></entry>"""

OAI = """<?xml version="1.0" encoding="UTF-8"?>
<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/">
  <responseDate>2026-11-22T06:00:00Z</responseDate>
  {body}
</OAI-PMH>"""

OAI_RECORD = """<record>
  <header><identifier>oai:arXiv.org:2611.00001</identifier><datestamp>2026-11-21</datestamp></header>
  <metadata><arXivRaw xmlns="http://arxiv.org/OAI/arXivRaw/">
    <id>2611.00001</id><submitter>Ada Example</submitter>
    <version version="v1"><date>Sun, 01 Nov 2026 09:00:00 GMT</date><size>14kb</size></version>
    <version version="v2"><date>Thu, 19 Nov 2026 18:00:00 GMT</date><size>17kb</size></version>
    <title>A Title</title>
    <authors>Ada Example (One, and Two), Jos\\'e M\\"uller and C. D'Or</authors>
    <categories>cs.LG stat.ML</categories><acm-class>68T05</acm-class>
    <license>http://creativecommons.org/licenses/by/4.0/</license><abstract>An abstract.</abstract>
  </arXivRaw></metadata>
</record>"""

OAI_DELETED = """<record><header status="deleted"><identifier>oai:arXiv.org:2610.00009</identifier>
  <datestamp>2026-11-21</datestamp></header></record>"""

RSS = """<?xml version='1.0' encoding='UTF-8'?>
<rss xmlns:arxiv="http://arxiv.org/schemas/atom" xmlns:dc="http://purl.org/dc/elements/1.1/" version="2.0"><channel>
  <title>cs.LG updates on arXiv.org</title><pubDate>Fri, 20 Nov 2026 00:00:00 -0500</pubDate>
  {items}
</channel></rss>"""

RSS_ITEM = """<item><title>A Title</title><link>https://arxiv.org/abs/2611.00001</link>
  <description>arXiv:2611.00001v{version} Announce Type: {type}
Abstract: An abstract.</description>
  <guid isPermaLink="false">oai:arXiv.org:2611.00001v{version}</guid><category>cs.LG</category>
  <pubDate>Fri, 20 Nov 2026 00:00:00 -0500</pubDate><arxiv:announce_type>{type}</arxiv:announce_type>
  <dc:creator>Ada Example, José Müller</dc:creator></item>"""

DAILY = {
    "title": "A Title",
    "publishedAt": "2026-11-20T00:00:00.000Z",
    "numComments": 4,
    "organization": {"name": "uni", "fullname": "University"},
    "paper": {
        "id": "2611.00001",
        "title": "A Title",
        "summary": "An abstract.",
        "authors": [{"name": "Ada Example", "hidden": False}, {"name": "Hidden", "hidden": True}],
        "publishedAt": "2026-11-01T09:00:00.000Z",
        "upvotes": 17,
        "githubRepo": "https://github.com/example/repo",
        "githubStars": 5,
        "ai_keywords": ["label noise"],
    },
}


def atom(*entries):
    return ATOM.replace("{entries}", "".join(entries)).encode()


def oai(*parts):
    body = "".join(parts)
    return OAI.replace(
        "{body}", body if body.startswith("<error") else f"<ListRecords>{body}</ListRecords>"
    ).encode()


def rss(*items):
    return RSS.replace("{items}", "".join(items)).encode()


def rss_item(version=1, type="new"):
    return RSS_ITEM.replace("{version}", str(version)).replace("{type}", type)
