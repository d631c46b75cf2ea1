"""CAPA: agreement beyond accuracy, against its equations, on independent models and on real predictions."""

from __future__ import annotations

import importlib.util
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from corrigible.compare import agreement, capa, capa_matrix, judge_bias
from corrigible.papers import Measurement

CLAIM = """CAPA measures how alike models err, apart from how accurate they are: 0 for independent models of any
accuracies, 1 for identical certain ones, and it tells equal from different wrong answers where error consistency does
not. Real models err alike (CAPA above 0). Controlling for accuracy separates a judge's liking for similar models from
its liking for accurate ones."""
PROTOCOL = """1000 random cases with 2 to 8 options a row against the authors' package where it can be imported and
against a loop of the paper's equations otherwise. Independent models of accuracies 0.3 to 0.9: mean value and coverage
of the interval over 400 draws of 500 rows; coverage also for models that share difficulty, the truth from 400 000 rows.
Real: seven models of four families on 3000 held-out MNIST digits (trained on 2000); the three single human labels of
CIFAR-10; four GPT-3 variants on GSM8K, as right or wrong and by their final answers. Language models that were sampled
often (AIW): the shares of a model's answers to a prompt stand for its probabilities; options of a prompt are the
numbers that any model gave and the right one. Pairs of six models with ten prompts in common. These are notes: answers
are free, and a list of options made of what was said is too short, so that agreement by chance is put too high and CAPA
too low; where options are not given, the card sends to agreement. Judges: simulated scores with and without a liking
for similar models. That more capable models err more alike is looked for in the one pair of pairs at hand, GPT-3 of 175
and of 6 billion parameters, each trained in the same two ways, a note: the paper's trend is over dozens of models, of
which no answers to single questions were at hand. Option probabilities themselves and judges' scores of single answers
were not at hand, so the paper's regressions over judges are not measured."""
METHODS = ("capa", "agreement", "judge_bias")
DATA = ("mnist_5k", "cifar_n", "gsm8k", "aiw")


def run(data):
    warnings.simplefilter("ignore")
    yield _against_the_equations()
    yield from _independent()
    yield from _shared_difficulty()
    yield from _wrong_alike()
    yield from _families(data)
    yield from _people(data)
    yield from _language_models(data)
    yield from _final_answers(data)
    yield from _sampled_answers(data)
    yield from _judges()


def _against_the_equations():
    """Largest gap to another implementation over random cases, rows of different lengths."""
    rng, gap = np.random.default_rng(0), 0.0
    theirs = importlib.util.find_spec("lmsim") is not None
    for _ in range(1000):
        sizes = rng.integers(2, 9, size=rng.integers(5, 40))
        a, b = ([rng.dirichlet(np.full(k, rng.uniform(0.2, 2))) for k in sizes] for _ in range(2))
        y = [int(rng.integers(k)) for k in sizes]
        if theirs:
            from lmsim.metrics import CAPA

            expected = CAPA().compute_k(a, b, y)
        else:
            expected = _equations(a, b, y)
        wide = [np.array([[*r, *[np.nan] * (8 - len(r))] for r in m]) for m in (a, b)]
        gap = max(gap, abs(capa(*wide, y).value - expected), abs(capa_matrix(wide, y).value[0, 1] - expected))
    detail = "authors' package" if theirs else "loop of the paper's equations"
    return Measurement("largest gap in 1000 random cases", gap, at_most=1e-9, kind="reference", detail=detail)


def _equations(a, b, y):
    n = len(y)
    observed = sum(sum(p * q for p, q in zip(r, s, strict=True)) for r, s in zip(a, b, strict=True)) / n
    mean_a, mean_b = (sum(r[t] for r, t in zip(m, y, strict=True)) / n for m in (a, b))
    inverse = sum(1 / (len(r) - 1) for r in a) / n
    expected = mean_a * mean_b + inverse * (1 - mean_a) * (1 - mean_b)
    return (observed - expected) / (1 - expected)


def _answers(rng, y, accuracy, k):
    right = rng.uniform(size=len(y)) < accuracy
    return np.where(right, y, (y + rng.integers(1, k, size=len(y))) % k)


def _independent():
    rng, k = np.random.default_rng(1), 4
    values, covered, raw = [], [], []
    for a, b in [*combinations((0.3, 0.5, 0.7, 0.9), 2), *[(r, r) for r in (0.3, 0.5, 0.7, 0.9)]]:
        found = []
        for _ in range(40):
            y = rng.integers(k, size=500)
            found.append(capa(np.eye(k)[_answers(rng, y, a, k)], np.eye(k)[_answers(rng, y, b, k)], y))
        values.append(float(np.mean([f.value for f in found])))
        covered += [f.interval[0] <= 0 <= f.interval[1] for f in found]
        raw.append(float(np.mean([f.observed for f in found])))
    yield Measurement("independent models: largest mean |CAPA| of ten pairs of accuracies", float(np.abs(values).max()),
                      at_most=0.03, detail=f"raw agreement {min(raw):.2f} to {max(raw):.2f}")  # fmt: skip
    yield Measurement("independent models: 95 % intervals that hold 0", float(np.mean(covered)), at_least=0.92)
    certain = np.eye(k)[rng.integers(k, size=500)]
    itself = capa(certain, certain, rng.integers(k, size=500)).value
    yield Measurement("a certain model and itself", itself, at_least=1 - 1e-12, at_most=1 + 1e-12, kind="reference")


def _shared_difficulty():
    """Coverage where two models see the same difficulty of each row and add noise of their own."""
    rng, k = np.random.default_rng(2), 4

    def draw(n):
        y = rng.integers(k, size=n)
        shared = rng.normal(size=(n, k)) + 1.2 * np.eye(k)[y]
        z = shared + rng.normal(size=(2, n, k))
        p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
        return p[0], p[1], y

    truth = capa(*draw(400_000)).value
    intervals = [capa(*draw(300)).interval for _ in range(400)]
    share = float(np.mean([low <= truth <= high for low, high in intervals]))
    yield Measurement("coverage of the 95 % interval, models that share difficulty", share, at_least=0.92,
                      detail=f"CAPA {truth:.3f}, 300 rows")  # fmt: skip


def _wrong_alike():
    """The same rows wrong: with the same answers, with independent ones, with different ones."""
    rng, k, n = np.random.default_rng(3), 4, 4000
    y, wrong = rng.integers(k, size=n), rng.uniform(size=n) < 0.4
    first = np.where(wrong, (y + 1) % k, y)
    others = {"same": first, "different": np.where(wrong, (y + 2) % k, y)}
    found = {name: capa(np.eye(k)[first], np.eye(k)[b], y).value for name, b in others.items()}
    consistency = {name: agreement(first, b, y).error_consistency for name, b in others.items()}
    yield Measurement("CAPA of the same rows wrong alike, less that of wrong differently",
                      found["same"] - found["different"], at_least=0.3,
                      detail=f"{found['same']:.2f} and {found['different']:.2f}")  # fmt: skip
    yield Measurement("error consistency of the two, difference", consistency["same"] - consistency["different"],
                      kind="note", detail=f"both {consistency['same']:.2f}: it does not see the answers")  # fmt: skip


def _families(data):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neural_network import MLPClassifier

    X, y = _digits(data)
    order = np.random.default_rng(4).permutation(len(y))
    train, test = order[:2000], order[2000:]
    half = [np.random.default_rng(s).choice(train, 1500, replace=False) for s in range(2)]
    members = {
        "forest": [RandomForestClassifier(60, random_state=s) for s in range(2)],
        "network": [MLPClassifier((64,), max_iter=25, random_state=s) for s in range(2)],
        "logistic": [LogisticRegression(C=0.01, max_iter=60) for _ in range(2)],
        "bayes": [GaussianNB(var_smoothing=0.05)],
    }
    families, proba = [], []
    for name, models in members.items():
        for s, model in enumerate(models):
            families.append(name)
            proba.append(model.fit(X[half[s]], y[half[s]]).predict_proba(X[test]))
    pairs = list(combinations(range(len(families)), 2))
    found = {(i, j): capa(proba[i], proba[j], y[test], discrete=True) for i, j in pairs}
    within = [found[p].value for p in pairs if families[p[0]] == families[p[1]]]
    across = [found[p].value for p in pairs if families[p[0]] != families[p[1]]]
    detail = f"accuracies {[round(float((p.argmax(1) == y[test]).mean()), 3) for p in proba]}"
    yield Measurement("digits: share of model pairs whose CAPA interval is above 0",
                      float(np.mean([found[p].interval[0] > 0 for p in pairs])), at_least=0.95, detail=detail)  # fmt: skip
    yield Measurement("digits: mean CAPA within a family less across families", float(np.mean(within) - np.mean(across)),
                      at_least=0.0, detail=f"within {np.round(within, 3)}, across mean {np.mean(across):.3f}")  # fmt: skip
    soft = capa_matrix(proba, y[test])
    yield Measurement("digits: smallest CAPA from probabilities, of pairs", min(soft.value[p] for p in pairs),
                      kind="note", detail=f"largest {max(soft.value[p] for p in pairs):.3f}")  # fmt: skip


def _digits(data):
    held = np.load(data / "mnist_5k" / "mnist_5k.npz")
    images = next(held[k] for k in held.files if held[k].ndim > 1)
    labels = next(held[k] for k in held.files if held[k].ndim == 1)
    return images.reshape(len(labels), -1) / 255.0, labels.astype(int)


def _people(data):
    labels = np.load(data / "cifar_n" / "cifar10n_labels.npz")
    y = labels["clean_label"].astype(int)
    people = [np.eye(10)[labels[f"random_label{i}"].astype(int)] for i in (1, 2, 3)]
    for i, j in combinations(range(3), 2):
        found = capa(people[i], people[j], y)
        detail = f"raw agreement {found.observed:.3f}, by chance {found.expected:.3f}"
        yield Measurement(f"CIFAR-10 annotators {i + 1} and {j + 1}: CAPA", found.value, *found.interval,
                          kind="note", detail=detail)  # fmt: skip


def _language_models(data):
    table = pd.read_parquet(data / "gsm8k" / "gsm8k_model_solutions.parquet")
    right = table.pivot_table(index="item", columns="model", values="is_correct", aggfunc="first").dropna()
    found = {
        (a, b): agreement(right[a].astype(int), right[b].astype(int), np.ones(len(right)))
        for a, b in combinations(right.columns, 2)
    }
    lowest = min(found, key=lambda p: found[p].error_consistency)
    yield Measurement("GSM8K: smallest error consistency of six pairs of GPT-3 variants, lower bound",
                      min(f.consistency_interval[0] for f in found.values()), at_least=0.0,
                      detail=f"{lowest}: {found[lowest].error_consistency:.3f}; "
                      f"largest {max(f.error_consistency for f in found.values()):.3f}")  # fmt: skip
    yield _by_size(right.astype(int))
    accuracy = [min(f.accuracy_a, f.accuracy_b) for f in found.values()]
    trend = spearmanr(accuracy, [f.error_consistency for f in found.values()]).statistic
    yield Measurement("GSM8K: rank correlation of the pair's lower accuracy and error consistency", float(trend),
                      kind="note", detail="six pairs of four models: no more than a sign")  # fmt: skip


def _by_size(right):
    """Whether the larger models err more alike, with questions resampled: the paper's trend, on two pairs."""
    names = [f"{size}_{way}" for size in ("175b", "6b") for way in ("finetuning", "verification")]
    table = right[names].to_numpy()

    def consistency(rows):
        a, b = rows[:, :2], rows[:, 2:]
        return [agreement(*pair.T, np.ones(len(pair))).error_consistency for pair in (a, b)]

    large, small = consistency(table)
    rng = np.random.default_rng(0)
    draws = [np.subtract(*consistency(table[rng.integers(len(table), size=len(table))])) for _ in range(500)]
    low, high = np.quantile(draws, [0.025, 0.975])
    accuracy = ", ".join(f"{a:.2f}" for a in table.mean(axis=0))
    return Measurement("GSM8K: error consistency of the two 175B variants less that of the two 6B ones", large - small,
                       float(low), float(high), kind="note",
                       detail=f"{large:.3f} and {small:.3f}; accuracies {accuracy}")  # fmt: skip


def _final_answers(data):
    table = pd.read_parquet(data / "gsm8k" / "gsm8k_model_solutions.parquet")
    final = table["solution"].str.extract(r"A:\s*([-\d.,/]+)\s*$")[0].fillna("none").str.replace(",", "")
    truth = table["ground_truth"].str.extract(r"A:\s*([-\d.,/]+)\s*$")[0].str.replace(",", "")
    answers = table.assign(final=final).pivot_table(index="item", columns="model", values="final", aggfunc="first")
    right = truth.groupby(table["item"]).first().loc[answers.index]
    shares = [[{row[m]: 1.0} for m in answers.columns] for _, row in answers.iterrows()]
    proba, y = _options(shares, right.tolist())
    found = [capa(proba[i], proba[j], y) for i, j in combinations(range(len(proba)), 2)]
    yield Measurement("GSM8K, final answers as options: mean CAPA of six pairs", float(np.mean([f.value for f in found])),
                      kind="note", detail=f"{min(f.value for f in found):.3f} to {max(f.value for f in found):.3f}, "
                      f"{len(y)} items, {np.isfinite(proba[0]).sum(axis=1).mean():.1f} options a question")  # fmt: skip


def _sampled_answers(data):
    table = pd.read_parquet(data / "aiw" / "aiw_responses.parquet")
    table = table[table["file"] == "o1-set"]
    shares = table.groupby(["prompt", "model"])["parsed"].value_counts(normalize=True)
    right = table.groupby("prompt")["right"].first()
    found = []
    for pair in combinations(sorted(table["model"].unique()), 2):
        asked = table[table["model"].isin(pair)].groupby("prompt")["model"].nunique()
        prompts = asked.index[asked == 2]
        if len(prompts) >= 10:
            rows = [[shares.loc[p, m].to_dict() for m in pair] for p in prompts]
            proba, y = _options(rows, right.loc[prompts].tolist())
            found.append((len(y), capa(*proba, y)))
    values = [f.value for _, f in found]
    yield Measurement("AIW riddles, sampled answers: share of pairs whose CAPA interval is above 0",
                      float(np.mean([f.interval[0] > 0 for _, f in found])), kind="note",
                      detail=f"{len(found)} pairs of {min(n for n, _ in found)} to {max(n for n, _ in found)} prompts, "
                      f"CAPA {min(values):.3f} to {max(values):.3f}")  # fmt: skip


def _options(shares, right):
    """Probabilities (model, row, option) from each row's dicts of shares a model, and columns of the right answers.

    Options of a row are what any model said and the right answer; another one where that is all.
    """
    named = [sorted({a for of in row for a in of} | {t}) for row, t in zip(shares, right, strict=True)]
    named = [n if len(n) > 1 else [*n, "another"] for n in named]
    proba = np.full((len(shares[0]), len(shares), max(map(len, named))), np.nan)
    for i, (row, options) in enumerate(zip(shares, named, strict=True)):
        for m, of in enumerate(row):
            proba[m, i, : len(options)] = [of.get(o, 0.0) for o in options]
    return proba, [options.index(t) for options, t in zip(named, right, strict=True)]


def _judges():
    rng, gap = np.random.default_rng(5), 0.0
    p = {"fair": [], "biased": []}
    plain = []
    for bias, name in ((0.0, "fair"), (0.6, "biased")):
        for _ in range(400):
            accuracy = rng.uniform(0.3, 0.9, size=40)
            similarity = 0.5 * accuracy + 0.1 * rng.normal(size=40)
            score = accuracy + bias * similarity + 0.05 * rng.normal(size=40)
            found = judge_bias(score, similarity, accuracy)
            p[name].append(found.p_value)
            plain += [found.correlation] if name == "fair" else []
            inverse = np.linalg.inv(np.cov([score, similarity, accuracy]))
            direct = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
            gap = max(gap, abs(found.partial_correlation - direct))
    yield Measurement(
        "partial correlation: largest gap to the inverse covariance", gap, at_most=1e-9, kind="reference"
    )
    yield Measurement("a fair judge of 40 models called biased at 5 %", float(np.mean(np.array(p["fair"]) < 0.05)),
                      at_most=0.08, detail=f"plain correlation with similarity {np.mean(plain):.2f}")  # fmt: skip
    yield Measurement("a judge that likes similar models found out", float(np.mean(np.array(p["biased"]) < 0.05)),
                      at_least=0.8)  # fmt: skip
