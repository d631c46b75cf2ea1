"""Mergers of tensors: against mergekit where it is installed, and on digits turned four ways."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
from scipy.ndimage import rotate
from sklearn.neural_network import MLPClassifier

from corrigible._core.model_weights import weights_of, with_weights
from corrigible._core.tensor_files import TensorFiles
from corrigible.merging import (
    breadcrumbs,
    dare,
    linear,
    merge_models,
    model_stock,
    sce,
    slerp,
    task_arithmetic,
    ties,
)
from corrigible.papers import Measurement

CLAIM = """Models fine-tuned from one base on several tasks merge to one that serves all: TIES, which settles
conflicts of sign, beats the plain average; DARE may drop nine values in ten of a task vector without loss; model stock
needs but two fine-tunes of a task. One driver applies each method to files."""
PROTOCOL = """Files: three random Llama models of two layers, each of ten recipes by this driver and by mergekit's own
(run where mergekit-yaml is on the path), largest difference of any weight; random drops differ by nature and are left out.
Digits: a network of 784-64-10 trained on 1500 upright digits of MNIST, fine-tuned on 1000 digits turned by 30, 60, 90
degrees and mirrored, five seeds; accuracy over the four tasks on 1500 held-out digits each, intervals from the seeds
(t, 95 %). Bars: TIES (density 0.2, scale 1) above the average; DARE at density 0.1 within 0.01 of a fine-tuned model;
model stock of two fine-tunes not below their average by more than 0.005. The papers measure networks thousands of times
as large, whose task vectors are small beside their weights."""
METHODS = (
    "linear",
    "task_arithmetic",
    "slerp",
    "ties",
    "dare",
    "breadcrumbs",
    "sce",
    "model_stock",
    "merge_models",
)
DATA = ("mnist_5k",)
NOT_REPRODUCED = {
    "TIES above the average, four tasks": "Task vectors of so small a network, trained on so few digits, are dense: "
    "what is trimmed to a fifth is missed. 0.593 against 0.617, and adding up with a scale of 0.4 gives 0.676.",
    "DARE at density 0.1 less the fine-tuned model": "The network has no redundancy to spare: dropping nine values in ten "
    "costs 0.125, dropping half 0.011.",
}
SOURCES = ("src/corrigible/_core/tensor_blocks.py", "src/corrigible/merging/_task_vectors.py")
ANGLES = (30, 60, 90, None)
RECIPES = {
    "linear": {"weight": 0.7},
    "slerp": {},
    "task_arithmetic": {"weight": 0.6},
    "ties": {"weight": 0.8, "density": 0.4},
    "breadcrumbs": {"weight": 0.8, "density": 0.6},
    "breadcrumbs_ties": {"weight": 0.8, "density": 0.6},
    "sce": {},
    "model_stock": {},
}


def run(data):
    warnings.simplefilter("ignore")
    yield from _beside_mergekit()
    yield from _turned_digits(data)


def _beside_mergekit():
    tool = shutil.which("mergekit-yaml")
    if tool is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        models = _llamas(Path(folder))
        jobs = []
        for method, each in RECIPES.items():
            used = models[1:3] if method == "slerp" else models[1:]
            recipe = {
                "merge_method": method,
                "models": [{"model": m, **({"parameters": each} if each else {})} for m in used],
                "dtype": "float32",
            }
            if method == "slerp":
                recipe |= {"base_model": models[1], "parameters": {"t": [0.2, 0.8]}}
            elif method != "linear":
                recipe["base_model"] = models[0]
            if method == "sce":
                recipe["parameters"] = {"select_topk": 0.3}
            path = Path(folder) / f"{method}.json"
            path.write_text(json.dumps(recipe))
            jobs.append((method, path, f"{folder}/theirs-{method}"))
        code = (
            "import sys, json; from mergekit.config import MergeConfiguration as C; from mergekit.merge import run_merge;"
            "from mergekit.options import MergeOptions as O\n"
            "for line in sys.stdin:\n"
            "    path, out = line.split(); run_merge(C.model_validate(json.load(open(path))), out, O(copy_tokenizer=False))"
        )
        words = "\n".join(f"{path} {out}" for _, path, out in jobs)
        python = Path(tool).with_name("python")
        subprocess.run([python, "-c", code], input=words, text=True, check=True, capture_output=True)
        for method, path, out in jobs:
            ours = merge_models(path, f"{folder}/ours-{method}", check=False).out
            yield Measurement(f"{method}: largest difference from mergekit", _gap(ours, Path(out)), at_most=2e-6,
                              kind="reference", detail="weights of order 0.02 to 1, float32")  # fmt: skip


def _llamas(folder):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, tie_word_embeddings=True)  # fmt: skip
    torch.manual_seed(0)
    base = LlamaForCausalLM(config)
    names = []
    shared = [torch.randn_like(p) for p in base.parameters()]  # fine-tunes of one task move alike in part
    for i in range(4):
        model = copy.deepcopy(base)
        with torch.no_grad():
            for p, common in zip(model.parameters(), shared, strict=True):
                p.add_(i * 0.003 * (torch.randn_like(p) + common))
        names.append(str(folder / f"model{i}"))
        model.save_pretrained(names[-1])
    return names


def _gap(ours, theirs):
    with TensorFiles(sorted(ours.glob("*.safetensors")), "ours") as a:
        with TensorFiles(sorted(theirs.glob("*.safetensors")), "theirs") as b:
            assert a.tensors.keys() == b.tensors.keys()
            return max(
                float(np.abs(a.tensors[n].read(0, t.size) - t.read(0, t.size)).max()) for n, t in b.tensors.items()
            )


def _turned_digits(data):
    held = np.load(data / "mnist_5k" / "mnist_5k.npz")
    images = next(held[k] for k in held.files if held[k].ndim > 1).reshape(-1, 28, 28) / 255.0
    y = next(held[k] for k in held.files if held[k].ndim == 1).astype(int)
    turned = [
        images[:, :, ::-1] if a is None else rotate(images, a, axes=(1, 2), reshape=False, order=1) for a in ANGLES
    ]
    turned = [np.ascontiguousarray(t).reshape(len(y), -1) for t in turned]
    found = {}
    for seed in range(5):
        for name, value in _one_seed(images.reshape(len(y), -1), turned, y, seed).items():
            found.setdefault(name, []).append(value)
    for name in ("base", "fine-tuned", "average", "task arithmetic", "TIES", "DARE", "DARE with elected signs",
                 "breadcrumbs", "SCE", "model stock of four tasks"):  # fmt: skip
        value, low, high = _interval(found[name])
        yield Measurement(
            f"four tasks: accuracy of {name}", value, low, high, kind="note", detail="mean of tasks, 5 seeds"
        )
    yield _difference("TIES above the average, four tasks", found, "TIES", "average", at_least=0.0)
    yield _difference(
        "DARE at density 0.1 less the fine-tuned model", found, "DARE of one", "fine-tuned", at_least=-0.01
    )
    yield _difference("DARE at density 0.5 less the fine-tuned model", found, "half of one", "fine-tuned")
    yield _difference("model stock of two fine-tunes less their average", found, "stock of two", "average of two",
                      at_least=-0.005)  # fmt: skip
    yield _difference("SLERP of two fine-tunes less their average", found, "slerp of two", "average of two")
    yield _difference("average of two fine-tunes less one", found, "average of two", "one of two")


def _one_seed(upright, turned, y, seed):
    order = np.random.default_rng(seed).permutation(len(y))
    first, tune, test = order[:1500], order[1500:2500], order[2500:4000]
    base = MLPClassifier((64,), max_iter=25, random_state=seed).fit(upright[first], y[first])
    start = weights_of(base, by="evidence")
    tuned = [_tuned(base, t[tune], y[tune], seed) for t in turned]
    again = [_tuned(base, turned[0][tune], y[tune], seed + 100)]

    def merged(merger, models, with_base=True, **words):
        return {k: merger([m[k] for m in models], start[k] if with_base else None, **words) for k in start}

    def accuracy(weights, tasks=turned):
        network = with_weights(base, weights)
        return float(np.mean([network.score(t[test], y[test]) for t in tasks]))

    two, one = [tuned[0], again[0]], turned[:1]
    return {
        "base": accuracy(start),
        "fine-tuned": float(np.mean([accuracy(w, [t]) for w, t in zip(tuned, turned, strict=True)])),
        "average": accuracy(merged(linear, tuned, False)),
        "task arithmetic": accuracy(merged(task_arithmetic, tuned, scale=0.4)),
        "TIES": accuracy(merged(ties, tuned, density=0.2)),
        "DARE": accuracy(merged(dare, tuned, density=0.5, scale=0.4, rng=seed)),
        "DARE with elected signs": accuracy(merged(dare, tuned, density=0.5, elect_signs=True, normalize=True, rng=seed)),
        "breadcrumbs": accuracy(merged(breadcrumbs, tuned, density=0.85, outliers=0.01, scale=0.4)),
        "SCE": accuracy(merged(sce, tuned, select_topk=0.5)),
        "model stock of four tasks": accuracy(merged(model_stock, tuned)),
        "DARE of one": float(np.mean([accuracy(merged(dare, [w], density=0.1, rng=seed), [t])
                                      for w, t in zip(tuned, turned, strict=True)])),
        "half of one": float(np.mean([accuracy(merged(dare, [w], density=0.5, rng=seed), [t])
                                      for w, t in zip(tuned, turned, strict=True)])),
        "stock of two": accuracy(merged(model_stock, two), one),
        "slerp of two": accuracy(merged(slerp, two, False), one),
        "average of two": accuracy(merged(linear, two, False), one),
        "one of two": float(np.mean([accuracy(w, one) for w in two])),
    }  # fmt: skip


def _tuned(base, X, y, seed):
    model = copy.deepcopy(base)
    rng = np.random.default_rng(seed)
    for _ in range(15):
        rows = rng.permutation(len(y))
        model.partial_fit(X[rows], y[rows])
    return weights_of(model, by="evidence")


def _interval(values):
    values = np.asarray(values)
    half = 2.776 * values.std(ddof=1) / np.sqrt(len(values))  # t with 4 degrees of freedom
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def _difference(name, found, a, b, at_least=None):
    value, low, high = _interval(np.subtract(found[a], found[b]))
    kind = "note" if at_least is None else "claim"
    detail = f"{np.mean(found[a]):.3f} and {np.mean(found[b]):.3f}, paired over 5 seeds"
    return Measurement(name, value, low, high, at_least=at_least, kind=kind, detail=detail)
