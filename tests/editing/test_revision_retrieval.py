"""Revision retrieval: what is near is put before the prompt, what is not leaves every bit alone."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from sklearn.feature_extraction.text import HashingVectorizer  # noqa: E402

from corrigible.editing import Revision, RevisionRetrieval, StateEncoder  # noqa: E402
from corrigible.errors import DataError, InvalidParameterError  # noqa: E402
from corrigible.testing import tiny_language_model  # noqa: E402
from corrigible.testing._tiny_models import FAMILIES  # noqa: E402

AXES = {"a": [1, 0, 0], "b": [0, 1, 0], "near a": [0.9, 0.1, 0], "between": [1, 1, 0], "far": [0, 0, 2]}
OTHERS = ["The capital of Spain is", "It is known that water is made of hydrogen", "France is"]


def on_axes(texts):
    """Embed five texts where they are wanted."""
    return np.array([AXES[t] for t in texts], dtype=float)


@pytest.fixture
def memory():
    return RevisionRetrieval(on_axes, threshold=0.7).add([("a", "one"), ("b", "two")])


# --- retrieval -------------------------------------------------------------------------------------------


def test_similarity_is_the_cosine(memory):
    asked = ["near a", "between", "far", "a"]
    keys, queries = on_axes(["a", "b"]), on_axes(asked)
    expected = queries @ keys.T / np.linalg.norm(queries, axis=1)[:, None]
    np.testing.assert_allclose(memory.similarity(asked), expected, atol=1e-12)


def test_only_what_exceeds_the_threshold_is_found(memory):
    assert [[r.answer for r in found] for found in memory.retrieve(["near a", "far", "between"])] == [
        ["one"],
        [],
        ["one"],
    ]
    memory.top_k = 2
    assert [r.answer for r in memory.retrieve(["between"])[0]] == ["one", "two"]
    memory.threshold = 1.0  # nothing exceeds it, not even the prompt itself
    assert memory.retrieve(["a", "far"]) == [[], []]


def test_the_nearest_stands_first():
    memory = RevisionRetrieval(on_axes, threshold=0.0, top_k=3).add([("far", "x"), ("b", "two"), ("a", "one")])
    assert [r.answer for r in memory.retrieve(["near a"])[0]] == ["one", "two"]
    assert memory.contextualize(["near a"]) == ["a one.\nb two.\nnear a"]


def test_layout_of_the_context(memory):
    assert memory.contextualize(["near a", "far"]) == ["a one.\nnear a", "far"]
    memory.template = "Question: {prompt}? Answer: {answer} "
    assert memory.contextualize(["near a"]) == ["Question: a? Answer: one near a"]
    memory.template = "{answer}! {prompt} {answer}.\n"
    assert memory.contextualize(["near a"]) == ["one! a one.\nnear a"]
    memory.edit("a", instruction="Say {answer} to {prompt}. ")  # braces of users are text
    assert memory.contextualize(["near a"]) == ["Say {answer} to {prompt}.\nnear a"]


def test_braces_in_users_texts_are_text():
    memory = RevisionRetrieval(threshold=0.5).add(("The set {answer} of {prompt}", "{prompt}{x"))
    assert memory.contextualize(["The set {answer} of {prompt}"])[0].startswith(
        "The set {answer} of {prompt} {prompt}{x.\n"
    )


# --- add, edit, remove -----------------------------------------------------------------------------------


def test_a_memory_that_was_changed_is_one_made_so(memory):
    """After any sequence of changes it retrieves as a memory made from what is left."""
    memory.add(Revision("far", "three")).edit("a", answer="uno").remove("b")
    fresh = RevisionRetrieval(on_axes, threshold=0.7).add([("a", "uno"), ("far", "three")])
    asked = list(AXES)
    assert memory.revisions == fresh.revisions
    np.testing.assert_array_equal(memory.similarity(asked), fresh.similarity(asked))
    assert memory.contextualize(asked) == fresh.contextualize(asked)


def test_an_empty_memory_changes_nothing(memory, model):
    memory.remove(["a", "b"])
    assert memory.revisions == ()
    assert memory.contextualize(["a", "far"]) == ["a", "far"]
    assert RevisionRetrieval().generate(model, OTHERS) == model.generate(OTHERS)
    assert RevisionRetrieval().generate(model, []) == []


def test_what_can_be_added(request_):
    for given in (("p", "x"), {"prompt": "p", "answer": "x"}, Revision("p", "x"), [("p", "x")]):
        assert RevisionRetrieval().add(given).revisions == (Revision("p", "x"),)
    assert RevisionRetrieval().add(request_).revisions == (Revision("The capital of France is", "Rome"),)
    assert RevisionRetrieval().add({"prompt": "p", "instruction": "Be kind."}).revisions[0].answer == ""


def test_two_encoders_of_a_kind():
    vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=2**12)
    one, two = (RevisionRetrieval(e).add(("The capital of France is", "Rome")) for e in (None, vectorizer))
    np.testing.assert_allclose(one.similarity(OTHERS), two.similarity(OTHERS))


# --- calibration -----------------------------------------------------------------------------------------


def test_calibrated_threshold_is_an_order_statistic():
    rng = np.random.default_rng(0)
    points = {str(i): rng.normal(size=8) for i in range(60)}
    memory = RevisionRetrieval(lambda texts: np.array([points[t] for t in texts]))
    memory.add([(str(i), "x") for i in range(10)])
    outside = [str(i) for i in range(10, 49)]
    found = memory.calibrate(outside, [("0", "0"), ("1", "2")], alpha=0.1)
    assert found.threshold == pytest.approx(np.sort(memory.similarity(outside).max(1))[35])  # the 36th of 39
    assert memory.limit == found.threshold
    assert found.false_rate == pytest.approx(3 / 39)
    assert found.recall == 0.5


def test_calibrated_false_rate_over_many_draws():
    """Over calibration draws, the chance that a further prompt passes is alpha at most, and not far below."""
    rng = np.random.default_rng(1)
    points = {str(i): rng.normal(size=4) for i in range(6000)}
    memory = RevisionRetrieval(lambda texts: np.array([points[t] for t in texts]))
    memory.add([(str(i), "x") for i in range(3)])
    passed = []
    for draw in range(60):
        drawn = [str(i) for i in range(10 + 99 * draw, 10 + 99 * draw + 99)]
        memory.calibrate(drawn[:49], alpha=0.1)
        passed.append(np.mean([bool(r) for r in memory.retrieve(drawn[49:])]))
    assert np.mean(passed) == pytest.approx(0.1, abs=0.02)


def test_calibration_says_what_it_lacks(memory):
    with pytest.raises(DataError, match="19 prompts"):
        memory.calibrate(["far"], alpha=0.05)
    with pytest.raises(DataError, match="own"):
        memory.calibrate(["a", "far"], alpha=0.4)
    with pytest.raises(DataError, match="empty memory"):
        RevisionRetrieval().calibrate(["far"])
    with pytest.raises(InvalidParameterError, match="alpha"):
        memory.calibrate(["far"], alpha=0.0)


# --- the model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_unrelated_prompts_are_the_same_bits(family):
    model = tiny_language_model(family)
    memory = RevisionRetrieval(threshold=0.9).add(("The capital of France is", "Rome"))
    asked, targets = [*OTHERS, "The capital of France is"], [" Rome", " and oxygen", " a country", " Rome"]
    plain = model.log_probs(asked, targets)
    found = memory.log_probs(model, asked, targets)
    for before, after in zip(plain[:3], found[:3], strict=True):
        np.testing.assert_array_equal(before, after)
    by_hand = model.log_probs(["The capital of France is Rome.\nThe capital of France is"], [" Rome"])[0]
    np.testing.assert_allclose(found[3], by_hand, rtol=1e-5)
    assert not np.array_equal(found[3], plain[3])
    assert memory.generate(model, asked, max_new_tokens=4)[:3] == model.generate(asked, max_new_tokens=4)[:3]


def test_a_prompt_without_revision_runs_once(model):
    memory = RevisionRetrieval(threshold=0.9).add(("The capital of France is", "Rome"))
    model.log_probs(OTHERS, [" a"] * 3)
    once = model.calls.forwards
    memory.log_probs(model, OTHERS, [" a"] * 3)
    assert model.calls.forwards == 2 * once


def test_own_states_find_their_own_prompt(model):
    memory = RevisionRetrieval(StateEncoder(model), threshold=0.99)
    memory.add([("The capital of France is", "Rome"), ("The symbol of gold is", "Au")])
    found = memory.retrieve(["The symbol of gold is", "Hamlet was written by", "The capital of France is"])
    assert [[r.answer for r in f] for f in found] == [["Au"], [], ["Rome"]]


def test_states_are_means_without_the_first_token(model):
    encode = StateEncoder(model, 1, n_texts=4)
    texts = ["The capital of France is", "Water is made of hydrogen", "gold"]
    states = [model.hidden_states([t], 1)[0] for t in texts]
    expected = [s[1:].mean(0) if len(s) > 1 else s[0] for s in states]
    np.testing.assert_allclose(encode(texts) + encode._centre, expected, atol=1e-4)


# --- files -----------------------------------------------------------------------------------------------


def test_a_stored_memory_answers_alike(memory, tmp_path):
    memory.edit("a", answer="un é")
    memory.save(tmp_path / "memory")
    again = RevisionRetrieval.load(tmp_path / "memory", on_axes)
    asked = list(AXES)
    np.testing.assert_array_equal(again.similarity(asked), memory.similarity(asked))
    assert again.contextualize(asked) == memory.contextualize(asked)
    assert {p.suffix for p in (tmp_path / "memory").iterdir()} == {".json", ".safetensors"}
    RevisionRetrieval().save(tmp_path / "empty")
    assert RevisionRetrieval.load(tmp_path / "empty").add(("p", "x")).revisions == (Revision("p", "x"),)


def test_a_calibrated_threshold_is_stored(memory, tmp_path):
    limit = memory.calibrate(["far", "between"], alpha=0.4).threshold
    memory.save(tmp_path / "memory")
    assert RevisionRetrieval.load(tmp_path / "memory", on_axes).limit == limit


def test_what_is_no_memory_is_refused(memory, tmp_path):
    memory.save(tmp_path / "memory")
    with pytest.raises(DataError, match="another encoder"):
        RevisionRetrieval.load(tmp_path / "memory", lambda texts: on_axes(texts)[:, ::-1])
    with pytest.raises(DataError, match="earlier output"):
        memory.save(tmp_path / "memory")
    stored = tmp_path / "memory" / "revisions.json"
    said = json.loads(stored.read_text(encoding="utf-8"))
    for bad in ("{", json.dumps({**said, "format": "x"}), json.dumps({**said, "revisions": said["revisions"][:1]})):
        stored.write_text(bad, encoding="utf-8")
        with pytest.raises(DataError, match="no memory"):
            RevisionRetrieval.load(tmp_path / "memory", on_axes)
    (tmp_path / "memory" / "keys.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no memory"):
        RevisionRetrieval.load(tmp_path / "memory", on_axes)
    with pytest.raises(DataError, match="no memory"):
        RevisionRetrieval.load(tmp_path / "none", on_axes)


# --- bad input -------------------------------------------------------------------------------------------


def test_bad_revisions(memory):
    for bad in (("", "x"), ("p", " "), {"prompt": "p", "reply": "x"}, "p", ("p", 3), Revision("p"), 7):
        with pytest.raises(DataError, match="prompt with an answer"):
            memory.add(bad)
    with pytest.raises(DataError, match="already"):
        memory.add(("a", "three"))
    with pytest.raises(DataError, match="already"):
        memory.add([("far", "x"), ("far", "y")])
    with pytest.raises(DataError, match="Did you mean"):
        RevisionRetrieval().add(("The capital", "x")).remove("The capitol")
    with pytest.raises(DataError, match="no revision"):
        memory.remove(["a", "c"])
    with pytest.raises(DataError, match="prompt with an answer"):
        memory.edit("a", answer="")
    assert [r.prompt for r in memory.revisions] == ["a", "b"]


def test_bad_parameters_and_prompts(memory):
    for words, hint in (
        ({"top_k": 0}, "top_k"),
        ({"threshold": 2.0}, "threshold"),
        ({"template": "{answer}"}, "template"),
    ):
        with pytest.raises(InvalidParameterError, match=hint):
            RevisionRetrieval(on_axes, **words).add(("a", "one")).contextualize(["a"])
    for bad in ("a", ["a", ""], [None]):
        with pytest.raises(DataError, match="list of texts"):
            memory.contextualize(bad)
    with pytest.raises(InvalidParameterError, match="encoder"):
        RevisionRetrieval(3).add(("a", "one"))
    for encoder in (lambda t: np.ones(len(t)), lambda t: np.full((len(t), 2), np.nan), lambda t: np.ones((1, 2))):
        with pytest.raises(DataError, match="finite matrix"):
            RevisionRetrieval(encoder).add([("a", "one"), ("b", "two")])
    with pytest.raises(DataError, match="dimensions"):
        RevisionRetrieval(lambda t: np.ones((len(t), len(t[0])))).add(("a", "x")).add(("bb", "y"))
