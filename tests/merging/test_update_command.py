"""`corrigible update`: two files in, one out that loses no accuracy and flips fewer rows; and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from typer.testing import CliRunner

from corrigible.cli import app
from corrigible.models import load_model, save_model


@pytest.fixture(scope="module")
def table():
    X, y = load_digits(return_X_y=True, as_frame=True)
    order = np.random.default_rng(1).permutation(len(y))
    return (X / 16).assign(digit=y).iloc[order].reset_index(drop=True)


@pytest.fixture
def files(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table[900:1300].to_csv("validation.csv", index=False)
    table[1300:].to_csv("test.csv", index=False)
    X, y = table.drop(columns="digit"), table["digit"]
    for name, n in (("old", 120), ("new", 700)):
        save_model(LogisticRegression(max_iter=2000, C=10).fit(X[:n], y[:n]), f"{name}.skops")
    scaler = StandardScaler().fit(X[:120])
    for name, n in (("old", 120), ("new", 700)):
        model = make_pipeline(scaler, LogisticRegression(max_iter=2000).fit(scaler.transform(X[:n]), y[:n]))
        save_model(model, f"{name}-pipe.skops")
    other = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(X[:700], y[:700])
    save_model(other, "other-pipe.skops")
    save_model(DecisionTreeClassifier().fit(X, y), "tree.skops")
    return tmp_path


def run(*words, code=0):
    result = CliRunner().invoke(app, ["update", *words, "--validation", "validation.csv", "--target", "digit"])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("kind", ["", "-pipe"])
@pytest.mark.parametrize("more", [[], ["--fisher"]])
def test_it_keeps_accuracy_and_loses_flips(files, kind, more):
    words = (f"old{kind}.skops", f"new{kind}.skops", "--out", "merged.skops", "--test", "test.csv", *more)
    said = json.loads(run(*words, "--json").output)
    told = said["rows"]["validation"]
    assert told["accuracy"] >= told["accuracy_new"]
    assert told["negative_flips"] <= told["negative_flips_new"]
    held = pd.read_csv("test.csv")
    merged = load_model("merged.skops")
    right = merged.predict(held.drop(columns="digit")) == held["digit"]
    assert said["rows"]["test"]["accuracy"] == pytest.approx(right.mean())
    old_right = load_model(f"old{kind}.skops").predict(held.drop(columns="digit")) == held["digit"]
    assert said["rows"]["test"]["negative_flips"] == pytest.approx((old_right & ~right).mean())


def test_the_table_for_people(files):
    assert "Share of the old model" in run("old.skops", "new.skops", "--out", "m.skops").output


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["old-pipe.skops", "other-pipe.skops"], "steps before the models differ"),
        (["old.skops", "new-pipe.skops"], "pipeline"),
        (["tree.skops", "tree.skops"], "needs weights"),
        (["old.skops", "nw.skops"], "Did you mean 'new.skops'"),
        (["old.skops", "new.skops", "--tolerance", "2"], "tolerance"),
    ],
)
def test_refused_in_one_line_and_nothing_written(files, words, hint):
    before = sorted(files.rglob("*"))
    result = run(*words, "--out", "merged.skops", code=2)
    assert hint in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(files.rglob("*")) == before


def test_an_output_that_is_there_is_kept(files):
    assert "exists" in run("old.skops", "new.skops", "--out", "old.skops", code=2).stderr


def test_unknown_target(files):
    words = [
        "update",
        "old.skops",
        "new.skops",
        "--validation",
        "validation.csv",
        "--target",
        "digits",
        "--out",
        "m",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "Did you mean 'digit'" in result.stderr


def test_text_classifiers(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    monkeypatch.chdir(tmp_path)
    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "good", "bad", "film", "book", "a"])}
    tokens = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=len(words), **sizes))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="[PAD]")
    for name, step in (("old", 0.0), ("new", 0.3)):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(step * torch.randn_like(p))
        model.save_pretrained(name)
        fast.save_pretrained(name)
    texts = [f"a {x} {y}" for x in ("good", "bad") for y in ("film", "book")] * 5
    rows = pd.DataFrame({"text": texts, "label": [int("good" in t) for t in texts]})
    rows.to_csv("rows.csv", index=False)
    words = ["update", "old", "new", "--validation", "rows.csv", "--target", "label", "--out", "merged", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    said = json.loads(result.output[result.output.index("{") :])
    assert said["rows"]["validation"]["accuracy"] >= said["rows"]["validation"]["accuracy_new"]
    again = transformers.AutoModelForSequenceClassification.from_pretrained("merged")
    mixed = {n: p for n, p in again.named_parameters()}
    ends = [transformers.AutoModelForSequenceClassification.from_pretrained(n) for n in ("old", "new")]
    name = "classifier.weight"
    a, b = (dict(m.named_parameters())[name] for m in ends)
    torch.testing.assert_close(mixed[name], said["alpha"] * a + (1 - said["alpha"]) * b)
