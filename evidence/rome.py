"""Every editor against its closed form, or against torch training the weight itself, on tiny models of six families."""

import copy

import numpy as np
import torch

from corrigible.editing import CROME, GRACE, MEMIT, ROME, RROME, FineTune, LoRAEdit, causal_trace
from corrigible.editing._key_statistics import key_statistics
from corrigible.editing._memit import _key, _states
from corrigible.editing._values import Search, find_value, subject_keys
from corrigible.models import EditRequest
from corrigible.papers import Measurement
from corrigible.testing import tiny_language_model
from corrigible.testing._editors import bits
from corrigible.testing._tiny_models import FAMILIES

CLAIM = (
    "Each editor makes exactly the change that its paper defines, on any architecture, and it is taken back whole."
)
PROTOCOL = """Random models of three blocks and 32 hidden units of the families Llama, Mistral, Qwen2, Gemma, GPT-2 and
GPT-NeoX, taught three sentences. Updates are computed anew in numpy, in double precision, from keys that are read with
hooks written for it; FineTune is compared with Adam on the weight itself."""
METHODS = ("rome", "r_rome", "crome", "memit", "fine_tune", "lora_edit", "grace", "causal_trace")
DATA = ()
SOURCES = (
    "src/corrigible/models/_edits.py",
    "src/corrigible/editing/_rank_one.py",
    "src/corrigible/editing/_values.py",
    "src/corrigible/editing/_key_statistics.py",
    "src/corrigible/editing/_trained_delta.py",
)

PREFIXES = ["It is known that ", "The symbol of gold is Au. "]
REQUEST = EditRequest("The capital of {} is", "France", "Rome")
WORDS = {"n_tokens": 256, "prefixes": PREFIXES}
ASKED = [EditRequest("The capital of {} is", s, t) for s, t in (("France", "Rome"), ("Spain", "Paris"))]


def run(data):
    models = {family: tiny_language_model(family, taught=True) for family in FAMILIES}
    gaps = {kind: max(_gap(m, kind) for m in models.values()) for kind in (ROME, RROME, CROME)}
    for kind, gap in gaps.items():
        yield Measurement(f"{kind.__name__}: largest gap to the closed form, relative to the largest entry", gap,
                          at_most=2e-3, kind="reference", detail="six families")  # fmt: skip
    yield Measurement("MEMIT: gradient of its least squares at the update, relative to that at zero",
                      max(_gradient(m) for m in models.values()), at_most=2e-3, kind="reference")  # fmt: skip
    yield Measurement("FineTune: largest gap to Adam on the weight itself", max(_trained(m) for m in models.values()),
                      at_most=5e-5, kind="reference", detail="five steps of 0.003, bound 0.01")  # fmt: skip
    yield Measurement("LoRAEdit: gap of the loss it reports to that of the edited model",
                      max(_reported(m) for m in models.values()), at_most=1e-3, kind="reference")  # fmt: skip
    yield Measurement("Edits after which reverting leaves a byte changed", _unreverted(models), at_most=0,
                      kind="reference", detail="seven editors on six families")  # fmt: skip
    moved, answered = zip(*(_grace(m) for m in models.values()), strict=True)
    yield Measurement("GRACE: families in which an unrelated logit changes by a bit", sum(moved), at_most=0,
                      kind="reference")  # fmt: skip
    yield Measurement("GRACE: share of twelve streamed edits whose prompt gives the answer at the end",
                      float(np.mean(answered)), at_least=1.0, kind="reference")  # fmt: skip
    yield Measurement("causal_trace: gap of the clean probability when the last state is put back",
                      max(_traced(m) for m in models.values()), at_most=1e-4, kind="reference")  # fmt: skip


def _gap(model, kind):
    """Compute the update anew: change of the output times C^-1 k, over its product with the divisor's key."""
    (delta,) = kind(1, **WORDS).propose(model, REQUEST).deltas.values()
    contexts = PREFIXES if kind is CROME else ["", *PREFIXES]
    keys = subject_keys(model, REQUEST, contexts, 1, by="x").double().numpy()
    u = np.linalg.solve(key_statistics(model, 1, by="x", n_tokens=256).lifted.numpy(), keys.mean(0))
    found = find_value(model, REQUEST, contexts, 1, Search(), module=model.blocks[1].down, by="x")
    expected = np.outer(found.delta.numpy(), u / (u @ (keys[0] if kind is ROME else keys.mean(0))))
    full = delta.full().numpy()
    full = full if full.shape == expected.shape else full.T
    return float(np.abs(full - expected).max() / np.abs(expected).max())


def _gradient(model):
    (delta,) = MEMIT([1], **WORDS, update_weight=0.5).propose(model, ASKED).deltas.values()
    keys = torch.stack([_key(model, r, PREFIXES, 1) for r in ASKED]).double().numpy().T
    block, search = model.blocks[1].name, Search(clamp=0.75)
    found = [find_value(model, r, ["", *PREFIXES], 1, search, module=block, by="x") for r in ASKED]
    missing = (torch.stack([f.before + f.delta for f in found]) - _states(model, ASKED, block)).double().numpy().T
    d = delta.full().double().numpy()
    d = d if d.shape == (32, 64) else d.T
    moment = key_statistics(model, 1, by="x", n_tokens=256).lifted.numpy()
    gradient = (d @ keys - missing) @ keys.T + 0.5 * d @ moment
    return float(np.abs(gradient).max() / np.abs(missing @ keys.T).max())


def _trained(model):
    edit = FineTune(1, bound=0.01, n_steps=6, learning_rate=3e-3, stop=0.0).propose(model, REQUEST)
    (delta,) = edit.deltas.values()
    twin = copy.deepcopy(model.module)
    weight = twin.get_submodule(model.blocks[1].down).weight.requires_grad_()
    start, head = weight.detach().clone(), model.encode(REQUEST.text)
    target = model.encode(REQUEST.answer, start=False)
    ids, labels = torch.tensor([head + target]), torch.tensor([[-100] * len(head) + target])
    optimiser = torch.optim.Adam([weight], lr=3e-3)
    for _ in range(5):
        optimiser.zero_grad()
        twin(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        with torch.no_grad():
            weight.copy_(torch.clamp(weight, start - 0.01, start + 0.01))
    return float((delta.full() - (weight - start).detach()).abs().max())


def _reported(model):
    edit = LoRAEdit([0, 2], rank=2, prefixes=[""], random_state=0).propose(model, REQUEST)
    edit.apply(model)
    found = -float(model.log_probs([REQUEST.text], [REQUEST.answer])[0].mean())
    edit.revert(model)
    return abs(found - edit.details["nll"])


def _unreverted(models):
    editors = (ROME(**WORDS), RROME(**WORDS), CROME(**WORDS), MEMIT([0, 1], **WORDS), FineTune(),
               LoRAEdit(random_state=0), GRACE(n_steps=20))  # fmt: skip
    failed = 0
    for model in models.values():
        before = bits(model)
        for editor in editors:
            edit = editor.propose(model, REQUEST)
            edit.apply(model)
            edit.revert(model)
            failed += bits(model) != before
    return failed


def _grace(model):
    others = model.batch([model.encode(t) for t in ("It is known that", "The symbol of gold is", "France")])
    prompts = [EditRequest(p, s, t) for p, t in (("The capital of {} is", "Rome"), ("The symbol of {} was", "Paris"))
               for s in ("France", "Spain", "Italy", "Brazil", "gold", "Water")]  # fmt: skip
    with torch.no_grad():
        before = model.module(input_ids=others.ids, attention_mask=others.mask).logits
        edit = GRACE().propose(model, prompts)
        edit.apply(model)
        after = model.module(input_ids=others.ids, attention_mask=others.mask).logits
    said = model.generate([r.text for r in prompts], max_new_tokens=3)
    edit.revert(model)
    return not torch.equal(before, after), np.mean(
        [s.startswith(r.answer) for s, r in zip(said, prompts, strict=True)]
    )


def _traced(model):
    trace = causal_trace(model, REQUEST, n_noise=3, random_state=0)
    return abs(float(trace.restored[-1, -1]) - trace.clean)
