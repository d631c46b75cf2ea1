import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigible.errors import DataError
from corrigible.library import ArxivId, arxiv_id

FORMS = {
    "2611.00001": ("2611.00001", None),
    "0704.0001v3": ("0704.0001", 3),
    " arXiv:2611.00001v2 ": ("2611.00001", 2),
    "math/0611800": ("math/0611800", None),
    "math.CA/0611800v2": ("math/0611800", 2),
    "hep-th/9901001v12": ("hep-th/9901001", 12),
    "cond-mat.stat-mech/0001001": ("cond-mat/0001001", None),
    "oai:arXiv.org:math/0611800": ("math/0611800", None),
    "http://arxiv.org/abs/math/0611800v2": ("math/0611800", 2),
    "https://arxiv.org/pdf/2611.00001v1.pdf": ("2611.00001", 1),
    "https://www.arxiv.org/abs/2611.00001?context=cs#top": ("2611.00001", None),
    "https://export.arxiv.org/abs/2611.00001": ("2611.00001", None),
    "https://huggingface.co/papers/2611.00001": ("2611.00001", None),
    "10.48550/arXiv.2611.00001": ("2611.00001", None),
    "https://doi.org/10.48550/arXiv.math/0611800": ("math/0611800", None),
}


@pytest.mark.parametrize("text", FORMS)
def test_every_form(text):
    assert arxiv_id(text) == ArxivId(*FORMS[text])


@pytest.mark.parametrize(
    "text",
    ["", "0611800", "2613.00001", "2600.00001", "2611.001", "2611.000001", "2611.00001v0", "2611.00001 v1", "v1",
     "arXiv Query: 2611.00001", "https://evil.example/abs/2611.00001", "math/061180", "../2611.00001", "2611.00001\n2"],
)  # fmt: skip
def test_what_is_none(text):
    with pytest.raises(DataError, match=r"must look like 2611\.00001"):
        arxiv_id(text)


@given(st.integers(0, 99), st.integers(1, 12), st.integers(0, 99999), st.none() | st.integers(1, 9999))
def test_round_trip(year, month, number, version):
    written = str(ArxivId(f"{year:02}{month:02}.{number:05}", version))
    assert str(arxiv_id(written)) == written


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        found = arxiv_id(text)
    except DataError:
        return
    assert arxiv_id(str(found)) == found
