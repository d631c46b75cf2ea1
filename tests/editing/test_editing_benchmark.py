"""The benchmark: scores of edits whose effect is known, and runs that resume."""

import json

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import GRACE, EditingBenchmark, EditingResults, EditProbes  # noqa: E402
from corrigible.editing._ability_tasks import ability_tasks, choose  # noqa: E402
from corrigible.editing._edit_scores import word_entropy  # noqa: E402
from corrigible.errors import DataError, InvalidParameterError  # noqa: E402
from corrigible.models import Dense, Edit, EditRequest, Probe, applied_edits  # noqa: E402

ASKED = [
    EditRequest(
        "The capital of {} is", s, t, paraphrases=(f"{s} has the capital",),
        neighbours=(Probe("The symbol of gold is", "Au"),), same_subject=(Probe(f"{s} is",),),
        portability=(Probe(f"{t} is the capital of", s),),
    )
    for s, t in (("France", "Rome"), ("Spain", "Paris"), ("Italy", "Madrid"))
]  # fmt: skip
TEXTS = ["It is known that the language of Brazil is Portuguese and Hamlet was written.", "Water is made of gold."]


class Nothing:
    """An editor that changes nothing."""

    def propose(self, model, requests):
        return Edit("nothing", {f"{model.blocks[1].down}.weight": Dense(torch.zeros(32, 64))})


class Havoc:
    """An editor that breaks the model."""

    def propose(self, model, requests):
        return Edit("havoc", {f"{model.blocks[1].down}.weight": Dense(torch.full((32, 64), 7.0))})


def test_nothing_scores_as_nothing(model):
    probes = EditProbes(ASKED, texts=TEXTS)
    before = probes.ask(model)
    scores = probes.compare(before, probes.ask(model))
    assert (scores.efficacy, scores.neighbour_kept, scores.same_subject_kept) == (0.0, 1.0, 1.0)
    assert scores.kl == pytest.approx(0.0, abs=1e-6)
    assert scores.perplexity_ratio == 1.0
    assert np.isnan(scores.negative_flips)
    assert set(scores.abilities) == set(ability_tasks())
    json.dumps(scores.to_dict())


def test_grace_and_havoc(model):
    probes = EditProbes(ASKED, texts=TEXTS)
    before = probes.ask(model)
    edit = GRACE(n_steps=200).propose(model, ASKED)
    edit.apply(model)
    good = probes.compare(before, probes.ask(model))
    assert (good.efficacy, good.neighbour_kept, good.kl, good.perplexity_ratio) == (1.0, 1.0, 0.0, 1.0)
    edit.revert(model)
    broken = Havoc().propose(model, ASKED)
    broken.apply(model)
    bad = probes.compare(before, probes.ask(model))
    assert bad.neighbour_kept < 1.0
    assert bad.kl > 0.1


def test_divergence_against_a_plain_computation(model):
    probes = EditProbes(ASKED[:1], texts=TEXTS, abilities=False)
    before = probes.ask(model)
    edit = Havoc().propose(model, None)
    expected = []
    where = [(model.encode(t), range(7, len(model.encode(t)), 8)) for t in TEXTS]

    def plain():
        with torch.no_grad():
            return torch.cat(
                [model.module(torch.tensor([ids])).logits[0, list(at)].log_softmax(-1) for ids, at in where]
            )

    p = plain()
    edit.apply(model)
    q = plain()
    expected = float((p.exp() * (p - q)).sum(-1).mean())
    assert probes.compare(before, probes.ask(model)).kl == pytest.approx(expected, rel=1e-4)


def test_negative_flips(taught):
    model = taught()
    probes = EditProbes(
        ASKED[:1], texts=TEXTS, questions=[Probe("The symbol of gold is", "Au"), Probe("x", "no")], abilities=False
    )
    before = probes.ask(model)
    assert before.right.tolist() == [True, False]
    Havoc().propose(model, None).apply(model)
    after = probes.ask(model)
    assert probes.compare(before, after).negative_flips == (0.0 if after.right[0] else 0.5)


def test_modes(model):
    benchmark = EditingBenchmark({"nothing": Nothing()}, sizes=(1, 2), texts=TEXTS)
    table = benchmark.run(model, ASKED[:2], quiet=True).table
    expected = [("single", 2), ("batch", 1), ("batch", 2), ("sequential", 1), ("sequential", 2)]
    assert list(zip(table["mode"], table["n"], strict=True)) == expected
    assert (table["efficacy"] == 0.0).all()
    assert (table["neighbour_kept"] == 1.0).all()
    assert applied_edits(model) == []


def test_it_resumes(model, tmp_path):
    class Counted(Nothing):
        calls = 0

        def propose(self, model, requests):
            Counted.calls += 1
            if Counted.calls == 2:
                raise KeyboardInterrupt
            return super().propose(model, requests)

    benchmark = EditingBenchmark({"a": Counted()}, modes=["batch"], sizes=(1, 2), folder=tmp_path, texts=TEXTS)
    with pytest.raises(KeyboardInterrupt):
        benchmark.run(model, ASKED, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a-batch-1.json"]
    table = benchmark.run(model, ASKED, quiet=True).table
    assert Counted.calls == 3
    again = benchmark.run(model, ASKED, quiet=True).table
    assert Counted.calls == 3
    assert again["kl"].tolist() == table["kl"].tolist()


def test_what_is_kept_of_other_requests_is_measured_anew(model, tmp_path):
    def run(asked):
        return EditingBenchmark({"grace": GRACE(n_steps=5)}, modes=["batch"], sizes=[1], folder=tmp_path).run(
            model, asked, quiet=True
        )

    run(ASKED[:1])
    first = (tmp_path / "grace-batch-1.json").read_text()
    run(ASKED[:1])
    assert (tmp_path / "grace-batch-1.json").read_text() == first
    run(ASKED[1:])
    assert (tmp_path / "grace-batch-1.json").read_text() != first


def test_a_sequence_is_measured_on_its_way(model):
    class Havocs(Havoc):
        calls = 0

        def propose(self, model, requests):
            Havocs.calls += 1
            return super().propose(model, requests)

    benchmark = EditingBenchmark({"havoc": Havocs()}, modes=["sequential"], sizes=(1, 2, 3), texts=TEXTS)
    table = benchmark.run(model, ASKED, quiet=True).table
    assert Havocs.calls == 3
    assert table["n"].tolist() == [1, 2, 3]
    assert table["kl"].is_monotonic_increasing


def results():
    rows = [
        {"editor": editor, "mode": mode, "n": n, "efficacy": value, "kl": 0.0, "ability": 0.5, "portability": np.nan}
        for editor, values in (("a|b", (1.0, 0.0, 1.0)), ("<i>", (1.0, 1.0, 1.0)))
        for mode, n, value in (
            *(("single", 3, v) for v in values), ("sequential", 1, values[0]), ("sequential", 3, values[1])
        )
    ]  # fmt: skip
    return EditingResults(pd.DataFrame(rows))


def test_results_hold_means_and_intervals():
    found = results()
    assert found.table["efficacy"].tolist() == pytest.approx([2 / 3, 1.0, 0.0, 1.0, 1.0, 1.0])
    mean, low, high = found.interval("efficacy")["a|b"]
    assert mean == pytest.approx(2 / 3)
    assert (low, high) == (0.0, 1.0)
    assert found.interval("efficacy")["<i>"] == (1.0, 1.0, 1.0)
    assert np.isnan(found.interval("portability")["<i>"]).all()
    with pytest.raises(InvalidParameterError, match="score"):
        found.interval("kind")
    with pytest.raises(DataError, match="single"):
        EditingResults(found.each[found.each["mode"] == "sequential"]).interval()


def test_results_as_pages(tmp_path):
    found = results()
    assert found.shown("single", 3)["efficacy"].tolist() == ["0.67 [0.00, 1.00]", "1.00 [1.00, 1.00]"]
    assert "portability" not in found.shown("single", 3)
    page = found.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<td><i></td>" not in page
    assert "&lt;i&gt;" in page
    assert "<svg" in page
    assert page.count("<h2>") == 4
    assert "3 edits one after another\n-------------------------" in found.to_rst()
    assert [p["title"] for p in found.spec()["concat"]][:1] == ["efficacy"]


def test_choices_go_by_mean_probability(model):
    tasks = ability_tasks()
    assert {len(t) for t in tasks.values()} == {12}
    choices = tasks["agreement"]
    expected = []
    for c in choices:
        means = [model.log_probs([c.prompt], [o])[0].mean() for o in c.options]
        expected.append(means[0] == max(means))
    assert choose(model, choices).tolist() == expected


def test_word_entropy():
    assert word_entropy("a a a a a a") == 0.0
    assert word_entropy("") == 0.0
    words = " ".join(f"w{i}" for i in range(10))
    assert word_entropy(words) == pytest.approx((2 / 3 * np.log2(9) + 4 / 3 * np.log2(8)) / 2)


def test_bad_input(model):
    with pytest.raises(InvalidParameterError, match="modes"):
        EditingBenchmark({}, modes=["all"]).run(model, ASKED)
    with pytest.raises(InvalidParameterError, match="sizes"):
        EditingBenchmark({}, sizes=[9]).run(model, ASKED)
