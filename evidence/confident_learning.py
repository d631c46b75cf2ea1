"""Confident learning: planted and real label errors are found, the noise recovered, the count given an interval."""

from __future__ import annotations

import numpy as np

from corrigible.data import ConfidentLearning, LabelQuality
from corrigible.papers import Measurement

CLAIM = """Counting confident predictions finds label errors and recovers the noise matrix, also where noise depends
on the class; its flags are more precise than the disagreement of model and label, and humans call more of the
flagged labels wrong than of the others."""
PROTOCOL = """Reference: a row-at-a-time implementation of the five rules, on real probabilities of 2, 10 and 20
classes. Planted: scikit-learn's digits and the adult census table, 20 % of labels changed uniformly or by class,
5-fold probabilities (logistic regression; boosted trees), 3 seeds. Exact answer: three label sets of CIFAR-10N (no
images) with the probabilities of an oracle that knows true class and noise matrix: the algebra must give it back.
Real: reviewed test labels of MNIST, 20 newsgroups and IMDB (five reviewers a row; only rows that an earlier run of
confident learning had flagged were reviewed, so precision is among these and recall is unknown)."""
METHODS = ("confident_learning", "self_confidence")
NOT_REPRODUCED = {
    "mean error of the noise matrix, adult, uniform": "Where the classes overlap, rows near the boundary are "
    "counted as errors: the matrix is off by 0.11 against a bar of 0.10 that was set beforehand, and the number of "
    "errors is overestimated by 40 %.",
    "wrong among reviewed and flagged over wrong among all reviewed, 20news": "63 of the 93 reviewed rows are "
    "flagged here; reviewers reject 87 % of these and 88 % of all 93, so they add nothing on rows flagged before.",
}
DATA = ("label_errors_mnist", "label_errors_20news", "label_errors_imdb", "cifar_n", "adult")
RULES = ("prune_by_noise_rate", "prune_by_class", "both", "confident_learning", "predicted_neq_given")
SEEDS = (0, 1, 2)


def run(data):
    yield _reference(data)
    for name in ("digits", "adult"):
        for noise in ("uniform", "by class"):
            yield from _planted(name, noise, data)
    yield from _human(data)
    for name in ("mnist", "20news", "imdb"):
        yield from _reviewed(name, data)


def _probabilities(name, data):
    """Labels and cross-validated probabilities; they were stored in half precision, so rows are rescaled."""
    stored = np.load(data / f"label_errors_{name}" / "labels_probs.npz")
    p = np.maximum(stored["pyx_float16"].astype(float), 0)
    return stored["labels"].astype(int), p / p.sum(axis=1, keepdims=True)


def _reference(data):
    differing = sum(
        int((_brute(*_probabilities(name, data), rule) != _flags(*_probabilities(name, data), rule)).sum())
        for name in ("mnist", "20news", "imdb")
        for rule in RULES
    )
    return Measurement(
        "flags that differ from a row-at-a-time implementation", differing, at_most=0, kind="reference",
        detail="5 rules x 42,532 rows of MNIST, 20 newsgroups and IMDB",
    )  # fmt: skip


def _flags(y, p, rule):
    return ConfidentLearning(method=rule, random_state=0).fit(y, p).issue_mask


def _brute(y, p, rule):
    k, n = p.shape[1], np.bincount(y, minlength=p.shape[1])
    threshold = [p[y == j, j].mean() for j in range(k)]
    counts, off = np.zeros((k, k)), np.zeros(len(y), bool)
    for i, row in enumerate(p.tolist()):
        passed = [j for j in range(k) if row[j] >= threshold[j] - 1e-6]
        if passed:
            j = passed[0] if len(passed) == 1 else row.index(max(row))
            counts[y[i], j] += 1
            off[i] = j != y[i]
    scaled = counts / counts.sum(axis=1, keepdims=True) * n[:, None]
    joint = np.array([_whole(row) for row in scaled])
    rate, least = np.zeros(len(y), bool), np.zeros(len(y), bool)
    for i in range(k):
        members = sorted(np.flatnonzero(y == i).tolist())
        for j in range(k):
            if j != i:
                rate[sorted(members, key=lambda r: p[r, i] - p[r, j])[: joint[i, j]]] = True
        least[sorted(members, key=lambda r: p[r, i])[: n[i] - joint[i, i]]] = True
    raised = p.copy()
    raised[np.arange(len(y)), y] += 1e-6
    by_rule = dict(zip(RULES, (rate, least, rate & least, off, p.argmax(axis=1) != y), strict=True))
    return by_rule[rule] & (raised.argmax(axis=1) != y)


def _whole(row):
    """Round a row and keep its sum: the entries farthest from their rounding give way."""
    rounded = np.round(row)
    missing = round(float(row.sum() - rounded.sum()))
    for j in sorted(range(len(row)), key=lambda j: (rounded[j] - row[j]) * np.sign(missing))[: abs(missing)]:
        rounded[j] += np.sign(missing)
    return rounded.astype(int)


def _planted(name, noise, data):
    from sklearn.metrics import roc_auc_score

    X, true, model = _table(name, data)
    k = int(true.max()) + 1
    rows = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        matrix = _noise(noise, k, rng)  # p(given | true), columns
        y = (rng.uniform(size=(len(true), 1)) > matrix.T[true].cumsum(axis=1)[:, :-1]).sum(axis=1)
        p = _out_of_sample(model, X, y, seed)
        wrong = y != true
        found = ConfidentLearning(random_state=0).fit(y, p)
        differ = p.argmax(axis=1) != y
        low, high = found.n_errors_interval_
        rows.append(
            {
                "AUROC of the scores": roc_auc_score(wrong, found.issue_scores),
                "precision of the flags": wrong[found.issue_mask].mean(),
                "recall of the flags": found.issue_mask[wrong].mean(),
                "precision over that of model against label": wrong[found.issue_mask].mean() / wrong[differ].mean(),
                "mean error of the noise matrix": np.abs(found.noise_matrix_ - _seen(y, true, k)).mean(),
                "estimated over true number of errors": found.n_errors_ / wrong.sum(),
                "half-width of the count's interval, relative": (high - low) / 2 / found.n_errors_,
                "the count's interval holds the truth": float(low <= wrong.sum() <= high),
            }
        )
    bars = {
        "AUROC of the scores": {"at_least": 0.95 if name == "digits" else 0.8},
        "precision over that of model against label": {"at_least": 1.0},
        "mean error of the noise matrix": {"at_most": 0.02 if name == "digits" else 0.1},
    }
    for key in rows[0]:
        values = [r[key] for r in rows]
        bar = bars.get(key, {})
        yield Measurement(
            f"{key}, {name}, {noise}", float(np.mean(values)), min(values), max(values), **bar,
            kind="claim" if bar else "note", detail=f"{len(true)} rows, {len(SEEDS)} seeds, 20 % noise",
        )  # fmt: skip


def _table(name, data):
    from sklearn.datasets import load_digits
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return X, y, make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    import pandas as pd

    frame = pd.read_parquet(data / "adult" / "adult_test.parquet")
    y = frame.pop("income").astype(str).str.contains(">50K").to_numpy().astype(int)
    X = np.column_stack([
        c if pd.api.types.is_numeric_dtype(c) else c.astype("category").cat.codes for _, c in frame.items()
    ]).astype(float)  # fmt: skip
    return X, y, HistGradientBoostingClassifier(max_iter=60, random_state=0)


def _noise(kind, k, rng):
    if kind == "uniform":
        return np.full((k, k), 0.2 / (k - 1)) + np.eye(k) * (0.8 - 0.2 / (k - 1))
    if k == 2:
        return np.array([[0.85, 0.35], [0.15, 0.65]])
    matrix = np.eye(k) * 0.8
    matrix[(np.arange(k) + 1) % k, np.arange(k)] = 0.2  # each class is taken for its neighbour
    return matrix


def _seen(y, true, k):
    counts = np.zeros((k, k))
    np.add.at(counts, (y, true), 1)
    return counts / counts.sum(axis=0)


def _out_of_sample(model, X, y, seed):
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return cross_val_predict(model, X, y, cv=folds, method="predict_proba")


def _human(data):
    """Human noise, with the probabilities of an oracle: no model is tested here, only the algebra."""
    stored = np.load(data / "cifar_n" / "cifar10n_labels.npz")
    true = stored["clean_label"].astype(int)
    for name in ("aggre_label", "random_label1", "worse_label"):
        y = stored[name].astype(int)
        matrix = _seen(y, true, 10)
        found = ConfidentLearning(random_state=0).fit(y, matrix.T[true])
        wrong = y != true
        yield Measurement(
            f"largest error of the noise matrix, CIFAR-10N {name}",
            float(np.abs(found.noise_matrix_ - matrix).max()),
            at_most=1e-3, kind="reference",
            detail=f"50,000 human labels, {wrong.mean():.1%} wrong; an oracle's probabilities: algebra only",
        )  # fmt: skip
        yield Measurement(
            f"estimated over true number of errors, CIFAR-10N {name}", found.n_errors_ / wrong.sum(), kind="note"
        )


def _reviewed(name, data):
    import pandas as pd

    y, p = _probabilities(name, data)
    votes = pd.read_csv(data / f"label_errors_{name}" / "mturk.csv.gz")
    row = votes["index"].to_numpy()
    wrong = votes["votes_given"].to_numpy() < 3  # no majority for the given label
    found = ConfidentLearning(random_state=0).fit(y, p)
    base = LabelQuality().fit(y, p)
    flagged = found.issue_mask[row]
    top = row[np.argsort(-base.issue_scores[row], kind="stable")][: int(flagged.sum())]
    by_row = dict(zip(row, wrong, strict=True))
    low, high = found.n_errors_interval_
    n, detail = (
        len(row),
        f"{len(row)} reviewed rows of {len(y)}, {int(wrong.sum())} lack a majority for their label",
    )
    yield Measurement(f"reviewed rows flagged, {name}", float(flagged.mean()), kind="note", detail=detail)
    yield Measurement(f"flagged rows in all, {name}", int(found.issue_mask.sum()), kind="note")
    yield Measurement(f"estimated number of errors, {name}", found.n_errors_, low, high, kind="note")
    yield Measurement(f"wrong among all reviewed, {name}", float(wrong.mean()), kind="note", detail=detail)
    if flagged.any():
        yield Measurement(f"wrong among reviewed and flagged, {name}", float(wrong[flagged].mean()), kind="note")
        yield Measurement(
            f"wrong among reviewed and flagged over wrong among all reviewed, {name}",
            float(wrong[flagged].mean() / wrong.mean()), at_least=1.0,
            detail=f"{int(flagged.sum())} of {n} reviewed rows are flagged",
        )  # fmt: skip
        same = np.mean([by_row[r] for r in top])
        yield Measurement(f"wrong among as many by self-confidence, {name}", float(same), kind="note")
    half = np.argsort(-base.issue_scores[row], kind="stable")[: n // 2]
    yield Measurement(f"wrong among the most suspect half, {name}", float(wrong[half].mean()), kind="note")
