"""The library: papers kept on this machine, from arXiv and elsewhere, to search, vote on and follow."""

from corrigible.library._arxiv_atom import parse_atom
from corrigible.library._arxiv_oai import BadTokenError, parse_oai
from corrigible.library._arxiv_rss import parse_rss
from corrigible.library._bibtex import parse_bibtex, to_bibtex, to_csl
from corrigible.library._hugging_face import parse_daily
from corrigible.library._ids import ArxivId, arxiv_id
from corrigible.library._page import Page
from corrigible.library._records import Author, Record, Version

__all__ = [
    "ArxivId",
    "Author",
    "BadTokenError",
    "Page",
    "Record",
    "Version",
    "arxiv_id",
    "parse_atom",
    "parse_bibtex",
    "parse_daily",
    "parse_oai",
    "parse_rss",
    "to_bibtex",
    "to_csl",
]
