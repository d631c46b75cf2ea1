"""Requests: what is read, and what is refused with the request named."""

import json

import pytest

from corrigible.errors import DataError
from corrigible.models import EditRequest, Probe, check_requests, read_requests

GOOD = {"prompt": "The capital of {} is", "subject": "France", "target_new": "Rome"}


def test_texts():
    (one,) = check_requests(GOOD, by="x")
    assert (one.text, one.answer) == ("The capital of France is", " Rome")
    (open_end,) = check_requests({**GOOD, "prompt": "Capital of France: ", "target_new": "Rome"}, by="x")
    assert (open_end.text, open_end.answer) == ("Capital of France: ", "Rome")


def test_lists():
    given = {
        **GOOD,
        "paraphrases": ["a"],
        "neighbours": ["b", {"prompt": "c", "answer": "d"}],
        "target_true": "Paris",
    }
    (one,) = check_requests([given], by="x")
    assert one.paraphrases == ("a",)
    assert one.neighbours == (Probe("b"), Probe("c", "d"))
    assert check_requests([one.to_dict()], by="x") == [one] == check_requests([one], by="x")
    json.dumps(one.to_dict())


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"prompt": "The capital of Spain is"}, "subject 'France' must occur"),
        ({"target_new": ""}, "'target_new' of request 0"),
        ({"target_new": "  "}, "not empty"),
        ({"subject": None}, "'subject'"),
        ({"target": "x"}, "unknown key 'target'. Did you mean 'target_new'"),
        ({"neighbours": "x"}, "must be a list"),
        ({"neighbours": [3]}, "prompts or objects"),
        ({"neighbours": [{"prompt": "x", "wrong": 1}]}, "prompts or objects"),
        ({"target_true": 3}, "must be text"),
    ],
)
def test_refused(change, hint):
    with pytest.raises(DataError, match=hint.replace("(", r"\(")):
        check_requests([{**GOOD, **change}], by="x")


def test_conflicts_and_nothing():
    other = {"prompt": "The capital of France is", "subject": "France", "target_new": "Madrid"}
    with pytest.raises(DataError, match="Requests 0 and 2 of x conflict.*'Rome'.*'Madrid'"):
        check_requests([GOOD, {**GOOD, "subject": "Spain"}, other], by="x")
    assert len(check_requests([GOOD, GOOD], by="x")) == 2
    with pytest.raises(DataError, match="at least one"):
        check_requests([], by="x")
    with pytest.raises(DataError, match="must be an object"):
        check_requests(["x"], by="x")


def test_files(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(
        json.dumps(GOOD) + "\n\n" + json.dumps({**GOOD, "subject": "Österreich"}) + "\n", encoding="utf-8"
    )
    found = read_requests(path)
    assert [r.subject for r in found] == ["France", "Österreich"]
    assert isinstance(found[0], EditRequest)
    with pytest.raises(DataError, match=r"Did you mean 'r\.jsonl'"):
        read_requests(tmp_path / "s.jsonl")
    path.write_text(json.dumps(GOOD) + "\n{broken\n")
    with pytest.raises(DataError, match="Line 2"):
        read_requests(path)
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(DataError, match="UTF-8"):
        read_requests(path)
