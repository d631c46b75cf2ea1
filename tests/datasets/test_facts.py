"""The facts: well formed, without contradictions, and probes belong to them."""

from collections import Counter

import pytest

from corrigible._core.answers import names
from corrigible.datasets import counterfactual, load_facts
from corrigible.models import check_requests

FACTS = load_facts()


def test_there_are_several_hundred():
    assert len(FACTS) == 605
    assert len(Counter(f.relation for f in FACTS)) == 15
    assert [f for f in FACTS if f.relation == "capital"] == load_facts("capital")


def test_they_are_valid_requests():
    assert len(check_requests([f.request for f in FACTS], by="the facts")) == len(FACTS)
    assert all(len(f.request.paraphrases) == 3 for f in FACTS)
    assert all(f.request.subject in p for f in FACTS for p in f.request.paraphrases)


def test_probes():
    france = next(f for f in load_facts("capital") if f.request.subject == "France")
    assert {p.answer for p in france.request.same_subject} == {"French", "euro", "Europe"}
    assert [p.prompt for p in france.request.portability] == ["Paris is the capital of"]
    assert all("France" not in p.prompt and p.answer for p in france.request.neighbours)
    answers = {f.request.text: f.request.target_new for f in FACTS}
    for fact in FACTS:
        assert fact.request.text not in {p.prompt for p in fact.request.neighbours}
        assert all(answers[p.prompt] == p.answer for p in (*fact.request.neighbours, *fact.request.same_subject))


def test_right_answers():
    hamlet = next(f for f in load_facts("author") if f.request.subject == "Hamlet")
    assert hamlet.is_right(" the playwright William Shakespeare.")
    assert hamlet.is_right(" Shakespeare")
    assert not hamlet.is_right(" Christopher Marlowe")


def test_counterfactuals():
    france = load_facts("capital")[0]
    false = counterfactual(france, FACTS)
    assert false.target_true == "Paris"
    assert false.target_new != "Paris"
    assert false.target_new in {f.request.target_new for f in load_facts("capital")}


@pytest.mark.parametrize(
    ("said", "answer", "anywhere", "at_once"),
    [
        (" Paris.\n\nThe", "Paris", True, True),
        (' "Paris", of course', "paris", True, True),
        (" the Paris of the east", "Paris", True, True),
        (" called Paris", "Paris", True, False),
        (" Parisian", "Paris", False, False),
        (" New York City", "New York", True, True),
        (" the euro", "the euro", True, True),
        ("", "x", False, False),
        (" 1.", "1", True, True),
    ],
)
def test_names(said, answer, anywhere, at_once):
    assert names(said, answer) is anywhere
    assert names(said, answer, at_once=True) is at_once
