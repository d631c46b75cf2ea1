"""Unprocessing: post-processing at least as good as training under the constraint, and an exact programme."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linprog
from scipy.stats import t as student

from corrigible.datasets import load_collection
from corrigible.fairness import GroupThresholds, unprocess
from corrigible.papers import Measurement

CLAIM = """The frontier of accuracy against violation of equalised odds that group thresholds on an unconstrained
model's scores reach contains what models trained under the constraint reach; the constraint is met exactly on the rows
of the fit, at any relaxation; unprocessing wins back accuracy of a constrained model."""
PROTOCOL = """Adult (a random 12,000 rows; sex), Compas (black or white defendants), German credit (age up to 25 or above)
and Boston HMDA (black), five random splits: half to train boosted trees, a quarter to fit group thresholds, a quarter
to test. Trained under the constraint, with the same trees on the same rows: reductions by exponentiated gradients
(Agarwal et al. 2018: 18 models that answer by turns to exponentiated gradients and to the linear programme of the best
mixture, at slacks 0.01, 0.05, 0.1), and reweighing (Kamiran and Calders 2012); both are written here, fairlearn is not
needed. The first reductions, 12 models without the programme's multipliers, proved weaker on adult than fairlearn's (test
error 0.158 and 0.143): they were strengthened after their results were seen, which made those here worse, and the
bars were kept. As in the paper these do not see
the quarter for thresholds. Each point is compared with the frontier at its test violation (linear between the tolerances
0 to 0.3, both measured on test rows): error of the constrained model minus error of the frontier; the claim fails on a
table if the 95 % interval of the mean over splits (t, of splits) lies below 0. References: the linear programme over all
thresholds and pairs of groups by another algorithm, and enumeration of single thresholds, on small tied scores."""
METHODS = ("group_thresholds", "unprocess")
SOURCES = ("src/corrigible/_core/group_roc.py",)
DATA = ("adult", "compas", "german_credit", "hmda_boston")
NOT_REPRODUCED = {
    "error of constrained training minus the frontier's, mean of the tables": "The mean is -0.004, with splits from "
    "-0.008 to 0.006. On adult the frontier's error is lower by 0.002, and the interval is above 0; beside reductions "
    "alone it is level. On compas, german_credit and hmda, of 1000 to 4500 rows, constrained models are ahead by 0.004, "
    "0.010 and 0.005, within the intervals. Thresholds there are fitted on 250 to 1127 rows that constrained models do not "
    "need: free thresholds by group, where nothing is constrained, lose 0.003 to 0.007 to the plain cut at 0.5. With "
    "thresholds on three quarters of the rows, out of fold, compas is level (-0.0003), german_credit and hmda are less far "
    "behind (-0.008, -0.004), with splits on both sides of 0: this explains part, the rest is not told from noise."
}
TABLES = {"adult": "sex", "compas": "race", "german_credit": "age_group", "hmda": "black"}
TOLERANCES = (0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, np.inf)
SLACKS = (0.01, 0.05, 0.1)
SPLITS = 5


def _table(data, name):
    table = load_collection(name, data)
    group = table.groups[TABLES[name]].to_numpy().astype(str)
    keep = np.isin(group, ["African-American", "Caucasian"]) if name == "compas" else np.ones(len(group), bool)
    if len(group) > 20_000:
        keep &= np.random.default_rng(0).permutation(len(group)) < 12_000
    X = table.X[keep].copy()
    for column in X.select_dtypes(exclude="number"):
        X[column] = X[column].astype("category").cat.codes
    return (
        X.to_numpy(dtype=float),
        table.y.to_numpy().astype(int)[keep],
        (group[keep] == np.unique(group[keep])[0]) * 1,
    )


def _trees(X, y, weight=None):
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=15, learning_rate=0.1, random_state=0)
    return model.fit(X, y, sample_weight=weight)


def _rates(chance, y, group):
    """False and true positive rates, (n_groups, 2)."""
    return np.array([[chance[(group == g) & (y == c)].mean() for c in (0, 1)] for g in np.unique(group)])


def _scored(chance, y, group):
    """Error and violation of equalised odds of chances of a positive decision."""
    return np.where(y == 1, 1 - chance, chance).mean(), np.ptp(_rates(chance, y, group), axis=0).max()


def _reductions(X, y, group, slack, rounds=9):
    """Reductions for equalised odds; returns models and their weights in the mixture.

    Models answer by turns to multipliers of exponentiated gradients and to those of the linear programme of the best
    mixture so far, as in fairlearn.
    """
    cells = [(c, g) for c in (0, 1) for g in np.unique(group)]
    n, bound = len(y), 1 / slack
    one_sided = np.array([((y == c) & (group == g)) / ((y == c) & (group == g)).sum() - (y == c) / (y == c).sum()
                          for c, g in cells])  # fmt: skip
    moments = np.vstack([one_sided, -one_sided])
    theta, weights = np.zeros(len(moments)), None
    models, gaps, errors = [], [], []

    def answer(multiplier):
        cost = (1 - 2 * y) / n + multiplier @ moments
        models.append(_trees(X, (cost < 0).astype(int), np.abs(cost) * n))
        said = models[-1].predict(X)
        gaps.append(moments @ said)
        errors.append((said != y).mean())

    for _ in range(rounds):
        answer(bound * np.exp(theta) / (1 + np.exp(theta).sum()))
        theta = theta + 2.0 / bound * (gaps[-1] - slack)
        weights, multiplier = _best_mixture(errors, gaps, slack, bound)
        answer(multiplier)
        weights, _ = _best_mixture(errors, gaps, slack, bound)
    return models, weights


def _best_mixture(errors, gaps, slack, bound):
    """Weights of the mixture of least error within the slack, and the constraints' multipliers.

    A violation beyond the slack is paid at the bound of the multipliers, so that there always is a mixture.
    """
    table = np.column_stack([*gaps, -np.ones(len(gaps[0]))])
    sums = [[1.0] * len(errors) + [0.0]]
    found = linprog([*errors, bound], table, np.full(len(table), slack), sums, [1.0], method="highs")
    return found.x[:-1], -found.ineqlin.marginals


def _reweighed(X, y, group):
    weight = np.empty(len(y))
    for c, g in itertools.product((0, 1), np.unique(group)):
        rows = (y == c) & (group == g)
        weight[rows] = (y == c).mean() * (group == g).mean() / rows.mean()
    return _trees(X, y, weight)


def _split(X, y, group, seed):
    """Return gaps of error to the frontier, what unprocessing gains, excess of violation, and what fitting costs."""
    order = np.random.default_rng(seed).permutation(len(y))
    train, fit, test = np.split(order, [len(y) // 2, 3 * len(y) // 4])
    scores = _trees(X[train], y[train]).predict_proba(X)[:, 1]
    front, excess = [], 0.0
    unseen = scores.copy()
    unseen[train] = _out_of_fold(X[train], y[train])
    more = np.concatenate([train, fit])
    large = []
    for tolerance in TOLERANCES:
        rule = GroupThresholds(tolerance=tolerance).fit(scores[fit], y[fit], group[fit])
        excess = max(excess, rule.violation_ - tolerance)
        front.append(_scored(rule.predict_proba(scores[test], group[test])[:, 1], y[test], group[test]))
        rule = GroupThresholds(tolerance=tolerance).fit(unseen[more], y[more], group[more])
        large.append(_scored(rule.predict_proba(scores[test], group[test])[:, 1], y[test], group[test]))
    gaps, gained, points = {}, [], []
    for slack in SLACKS:
        models, weights = _reductions(X[train], y[train], group[train], slack)
        chance = np.clip(sum(w * m.predict(X) for w, m in zip(weights, models, strict=True)), 0, 1)
        score = sum(w * m.predict_proba(X)[:, 1] for w, m in zip(weights, models, strict=True))
        point = _scored(chance[test], y[test], group[test])
        points.append(point)
        gaps[f"reductions, {slack:g}"] = point[0] - _at(front, point[1])
        free = unprocess(score[fit], y[fit], group[fit]).rule
        gained.append(
            _scored(free.predict_proba(score[test], group[test])[:, 1], y[test], group[test])[0] - point[0]
        )
    said = _reweighed(X[train], y[train], group[train]).predict(X[test])
    point = _scored(said.astype(float), y[test], group[test])
    gaps["reweighing"] = point[0] - _at(front, point[1])
    plain = _scored((scores[test] >= 0.5) * 1.0, y[test], group[test])[0]
    wider = float(np.mean([p[0] - _at(large, p[1]) for p in [*points, point]]))
    return gaps, float(np.mean(gained)), excess, front[-1][0] - plain, wider


def _out_of_fold(X, y):
    """Scores of the training rows by models that did not see them."""
    scores = np.empty(len(y))
    for fold in range(5):
        rows = np.arange(len(y)) % 5 == fold
        scores[rows] = _trees(X[~rows], y[~rows]).predict_proba(X[rows])[:, 1]
    return scores


def _at(front, violation):
    """Least error of the frontier at a violation: rules may be mixed, so that it is linear between two of them."""
    points = sorted((v, e) for e, v in front)
    best = min(e for v, e in points if v <= violation) if points[0][0] <= violation else points[0][1]
    for (v0, e0), (v1, e1) in itertools.combinations(points, 2):
        if v0 <= violation < v1:
            best = min(best, e0 + (e1 - e0) * (violation - v0) / (v1 - v0))
    return best


def run(data):
    yield from _references()
    worst, everything = 0.0, []
    for name in TABLES:
        X, y, group = _table(data, name)
        splits = [_split(X, y, group, seed) for seed in range(SPLITS)]
        worst = max(worst, *(s[2] for s in splits))
        means = np.array([np.mean(list(s[0].values())) for s in splits])
        everything.append(means)
        half = student.ppf(0.975, SPLITS - 1) * means.std(ddof=1) / np.sqrt(SPLITS)
        detail = ", ".join(f"{k}: {np.mean([s[0][k] for s in splits]):.4f}" for k in splits[0][0])
        yield Measurement(
            f"upper end of the error of constrained training minus the frontier's: {name}",
            float(means.mean() + half), float(means.mean() - half), float(means.mean() + half), at_least=0.0,
            detail=f"mean {means.mean():.4f}; {detail}",
        )  # fmt: skip
        gained = [s[1] for s in splits]
        yield Measurement(
            f"error of reductions unprocessed minus before: {name}", float(np.mean(gained)), min(gained), max(gained),
            kind="note",
        )  # fmt: skip
        wider = [s[4] for s in splits]
        yield Measurement(
            f"error of constrained training minus that of thresholds on three quarters, out of fold: {name}",
            float(np.mean(wider)), min(wider), max(wider), kind="note",
        )  # fmt: skip
        price = [s[3] for s in splits]
        yield Measurement(
            f"error of free thresholds by group minus that of the cut at 0.5: {name}", float(np.mean(price)),
            min(price), max(price), kind="note", detail=f"{len(y) // 4} rows to fit thresholds on",
        )  # fmt: skip
    means = np.mean(everything, axis=0)
    yield Measurement(
        "error of constrained training minus the frontier's, mean of the tables", float(means.mean()),
        float(means.min()), float(means.max()), at_least=0.0, detail="interval: range of splits",
    )  # fmt: skip
    yield Measurement(
        "largest excess of the violation over the tolerance on the rows of the fit", worst, at_most=1e-9
    )


def _references():
    mixed, single, broken = 0.0, 0.0, 0.0
    for seed, tolerance in itertools.product(range(12), (0.0, 0.05, 0.3)):
        rng = np.random.default_rng(seed)
        group = np.concatenate([np.repeat(np.arange(3), 2), rng.integers(3, size=24)])
        y = np.concatenate([np.tile([0, 1], 3), rng.integers(2, size=24)])
        s = np.round(y + rng.normal(size=30) * (1 + group), 1)
        found = GroupThresholds(tolerance=tolerance).fit(s, y, group)
        broken = max(broken, found.violation_ - tolerance)
        tables = [_all_rules(s[group == g], y[group == g]) for g in range(3)]
        mixed = max(mixed, abs(found.loss_ - _programme(tables, tolerance) / 30))
        best = min(
            sum(t[i, 2] for t, i in zip(tables, pick, strict=True))
            for pick in itertools.product(*(range(len(t)) for t in tables))
            if np.ptp([t[i, :2] for t, i in zip(tables, pick, strict=True)], axis=0).max() <= tolerance + 1e-12
        )
        one = GroupThresholds(tolerance=tolerance, randomized=False).fit(s, y, group)
        single = max(single, abs(one.loss_ - best / 30))
    yield Measurement("gap of the loss to the programme over all thresholds", mixed, at_most=1e-9, kind="reference")
    yield Measurement("gap of the loss of single thresholds to enumeration", single, at_most=1e-9, kind="reference")
    yield Measurement("excess of the violation, small tables", broken, at_most=1e-9, kind="reference")


def _all_rules(s, y):
    """False positive rate, true positive rate and number of errors of every single threshold."""
    picks = [s >= c for c in [np.inf, *np.unique(s)]]
    return np.array([[p[y == 0].mean(), p[y == 1].mean(), (p != y).sum()] for p in picks])


def _programme(tables, tolerance):
    """Least errors of mixtures of all thresholds, each pair of groups bound, by an interior point method."""
    ends = np.cumsum([0, *map(len, tables)])
    rows = []
    for (a, b), k in itertools.product(itertools.permutations(range(len(tables)), 2), (0, 1)):
        row = np.zeros(ends[-1])
        row[ends[a] : ends[a + 1]], row[ends[b] : ends[b + 1]] = tables[a][:, k], -tables[b][:, k]
        rows.append(row)
    sums = np.array(
        [(np.arange(ends[-1]) >= lo) & (np.arange(ends[-1]) < hi) for lo, hi in itertools.pairwise(ends)]
    )
    cost = np.concatenate([t[:, 2] for t in tables])
    return linprog(
        cost, rows, np.full(len(rows), tolerance), sums * 1.0, np.ones(len(tables)), method="highs-ipm",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    ).fun  # fmt: skip
