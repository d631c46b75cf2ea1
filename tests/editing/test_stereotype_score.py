import numpy as np
import pytest

from corrigible.datasets import Stereotype, load_stereotypes
from corrigible.editing import GRACE, DebiasingBenchmark, FineTune, stereotype_score
from corrigible.errors import DataError, InvalidParameterError
from corrigible.models import Probe
from corrigible.testing._editors import bits

NURSE = Stereotype("profession", "The {} said that", "nurse", "she", "he", "stone", ("When the nurse came,",))
MINER = Stereotype("profession", "The {} said that", "miner", "he", "she", "stone", ("When the miner came,",))
GUEST = Stereotype("nation", "The {} guest wants ", "Dutch", "cheese", "fish", "sand")


class Said:
    """Gives the probability of a word by the text before it and the word."""

    def __init__(self, table):
        self.table = table

    def log_probs(self, prompts, targets):
        return [np.log(self.table[p, t]) * np.ones(2) for p, t in zip(prompts, targets, strict=True)]


def test_known_probabilities():
    nurse, miner, guest = "The nurse said that", "The miner said that", "The Dutch guest wants "
    model = Said({(nurse, " she"): 0.4, (nurse, " he"): 0.1, (nurse, " stone"): 0.2,
                  (miner, " he"): 0.3, (miner, " she"): 0.3, (miner, " stone"): 0.1,
                  (guest, "cheese"): 0.1, (guest, "fish"): 0.4, (guest, "sand"): 0.05})  # fmt: skip
    score = stereotype_score(model, [NURSE, MINER, GUEST])
    assert score.ss == pytest.approx((1 + 0.5 + 0) / 3)  # a tie counts half
    assert score.lms == pytest.approx((0.5 + 1 + 1) / 3)
    assert score.icat == pytest.approx(score.lms)
    assert score.preference == pytest.approx((np.log(4) + 0 - np.log(4)) / 3)
    assert score.ss_interval[0] <= score.ss <= score.ss_interval[1]
    alone = score.of_kind("nation")
    assert (alone.n, alone.ss, alone.lms, alone.icat) == (1, 0.0, 1.0, 0.0)
    assert alone.preference_interval == pytest.approx((alone.preference,) * 2)
    with pytest.raises(DataError, match="at least one context"):
        score.of_kind("people")


def test_paraphrases_are_other_contexts():
    texts = [s.paraphrases[0] for s in (NURSE, MINER)]
    model = Said({(t, f" {w}"): p for t in texts for w, p in (("she", 0.2), ("he", 0.4), ("stone", 0.1))})
    score = stereotype_score(model, [NURSE, MINER, GUEST], paraphrases=True)
    assert score.each["text"].tolist() == texts
    assert (score.ss, score.lms) == (0.5, 1.0)


def test_bad_input():
    with pytest.raises(DataError, match="at least one context"):
        stereotype_score(Said({}), [])
    with pytest.raises(DataError, match="no context"):
        stereotype_score(Said({}), [GUEST], paraphrases=True)
    silent = Said({("The nurse said that", f" {w}"): np.nan for w in ("she", "he", "stone")})
    with pytest.raises(DataError, match="finite log probabilities.*The nurse said that"):
        stereotype_score(silent, [NURSE])
    with pytest.raises(DataError, match="Got none"):
        DebiasingBenchmark({}).run(None, [])
    with pytest.raises(InvalidParameterError, match="'mode'"):
        DebiasingBenchmark({}, mode="all").run(None, [NURSE])


def test_the_bundled_stereotypes_are_fit_to_be_asked():
    pairs = load_stereotypes()
    assert len({s.text for s in pairs}) == len(pairs) == 106
    for s in pairs:
        assert len({s.stereotype, s.antistereotype, s.unrelated}) == 3
        assert all(s.subject in text for text in (s.text, *s.paraphrases))
        request = s.request()
        assert (request.target_new, request.target_true) == (s.antistereotype, s.stereotype)
    assert {s.kind for s in pairs} == {"profession", "people", "nation"}
    said = [s.stereotype for s in load_stereotypes("profession")]
    assert said.count("she") == said.count("he") == 30


@pytest.mark.parametrize("mode", ["batch", "sequential"])
def test_edits_turn_what_is_edited_and_are_taken_back(model, mode):
    pairs, whole = load_stereotypes("nation"), bits(model)
    questions = [Probe("The capital of France is", "Paris")]
    editors = {"fine-tuning": FineTune(layer=0, bound=0.5), "GRACE": GRACE()}
    bench = DebiasingBenchmark(editors, mode=mode, questions=questions)
    table = bench.run(model, pairs[:2], pairs[2:5], quiet=True)
    assert bits(model) == whole
    assert list(table.loc["before"].index) == ["edited", "paraphrases", "unseen nation"]
    assert (table.loc["before", "preference_change"] == 0).all()
    for name in editors:
        row = table.loc[(name, "edited")]
        assert row["preference_change"] < 0
        assert row["preference_change_low"] <= row["preference_change"] <= row["preference_change_high"]
    assert table.loc[("GRACE", "edited"), "ss"] < 1.0
    assert table.loc[("GRACE", "edited"), "perplexity_ratio"] == 1.0
