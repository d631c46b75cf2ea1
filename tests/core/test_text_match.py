"""Forms of answers in text: known answers, what must stay apart, and F1 against its definition."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigible._core.text_match import normalised, token_f1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Eiffel Tower.", "eiffel  tower"),
        ("1,000,000", "1000000"),
        ("3.0", "3"),
        ("007", "7"),
        ("Two dogs", "2 dogs"),
        ("-0.0", "0"),
        ("don't", "dont"),
        ("\uff21\uff22", "ab"),  # full width
        ("New-York", "new york"),
        (3, "three"),
        ("0.50", "0.5"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("\u22123", "-3"),  # the sign of minus
        ("-$3", "-3"),
        ("$1,234.50", "1234.5"),
        ("5kg", "5 kg"),
        ("\u0663", "3"),  # Arabic
        ("co\u00adoperate", "cooperate"),  # a hyphen that only shows at a line's end
        ("Caf\u00e9", "cafe\u0301"),
        ("Stra\u00dfe", "STRASSE"),
        ("A cat, a dog", "cat dog"),
        ("A; C", "a c"),
        ("the B", "b"),
    ],
)
def test_what_says_the_same_has_one_form(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-3", "3"),
        ("\u22123", "3"),
        ("-$3", "$3"),
        ("3.5", "35"),
        (".5", "5"),
        ("1,000", "1"),
        ("1,2", "12"),
        ("1,2,345", "12345"),
        ("1.5.2", "1.50.2"),  # a version, no number
        ("10\u00b2", "102"),  # ten squared
        ("3\u00bd", "31/2"),
        ("1a", "1"),
        ("A", "B"),
        ("A", ""),
        ("A, C", "C"),
        ("\u0915\u0940", "\u0915\u093e"),  # vowels of Hindi are marks
        ("!", "?"),
        ("theme", "me"),
    ],
)
def test_what_differs_stays_apart(one, other):
    assert normalised(one) != normalised(other)


@given(st.text())
def test_a_form_is_its_own_form(text):
    assert normalised(normalised(text)) == normalised(text)


def test_f1_by_hand():
    assert token_f1("the cat sat", "cat sat down") == pytest.approx(2 * 2 / (2 + 3))
    assert token_f1("a big big", "big") == pytest.approx(2 / 3)  # the article is gone
    assert token_f1("x", "y") == 0.0
    assert token_f1("", "") == 1.0
    assert token_f1("x", "") == 0.0


words = st.lists(st.sampled_from(["red", "green", "blue", "8"]), min_size=1)


@given(words, words)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(a, b):
    shared = sum(min(n, Counter(b)[w]) for w, n in Counter(a).items())
    precision, recall = shared / len(b), shared / len(a)
    expected = 2 * precision * recall / (precision + recall) if shared else 0.0
    assert token_f1(" ".join(a), " ".join(b)) == pytest.approx(expected)
    assert token_f1(" ".join(b), " ".join(a)) == pytest.approx(expected)
