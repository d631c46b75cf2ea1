"""Training a change of projections on the targets of requests, with the weights themselves left alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from corrigible._utils.optional import require
from corrigible.models import EditRequest, LanguageModel

Tensor = Any


def train_delta(
    model: LanguageModel,
    requests: Sequence[EditRequest],
    prefixes: Sequence[str],
    layers: Sequence[int],
    changes: Mapping[str, Callable[[Tensor], Tensor]],
    parameters: Sequence[Tensor],
    *,
    n_steps: int,
    learning_rate: float,
    kl_factor: float,
    stop: float,
    after_step: Callable[[], None],
    by: str,
) -> tuple[float, int]:
    """Minimise the targets' mean negative log probability over parameters of additions to projections' outputs.

    Parameters
    ----------
    model : LanguageModel
        Left as it is.
    requests : sequence of EditRequest
        Trained on together.
    prefixes : sequence of str
        Texts before each prompt.
    layers : sequence of int
        Blocks that are changed; those before the first run once.
    changes : mapping of str to callable
        By the projection's name: what is added to its output, given its input.
    parameters : sequence of tensor
        What is trained, by Adam.
    n_steps, learning_rate, stop : int, float, float
        Steps at most, their size, and the loss at which training ends.
    kl_factor : float
        Weight of the divergence of what follows ``{subject} is a`` from what followed before.
    after_step : callable
        Called after each step, to keep the parameters where they may be.
    by : str
        Who asks, for messages.

    Returns
    -------
    nll, steps : float, int
        At the end.
    """
    torch = require("torch", extra="lm", by=by)
    rows: list[list[int]] = []
    where: list[tuple[int, int]] = []
    wanted: list[int] = []
    for request in requests:
        target = model.encode(request.answer, start=False)
        for prefix in prefixes:
            head = model.encode(prefix + request.text)
            where += [(len(rows), len(head) - 1 + i) for i in range(len(target))]
            wanted += target
            rows.append(head + target[:-1])
    n_targets = len(where)
    for request in requests:
        apart = f"{request.subject} is a"
        where.append((len(rows), model.last_token(apart, request.subject)))
        rows.append(model.encode(apart))
    batch = model.batch(rows)
    goal = torch.tensor(wanted, device=model.device)
    start = model.before_block(batch, min(layers))
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    with model.resumed(start), ExitStack() as hooks, torch.enable_grad():
        with torch.no_grad():
            before = model.logits(batch, where[n_targets:]).float().log_softmax(dim=-1)
        for name, change in changes.items():

            def added(_: Any, args: Any, out: Any, change: Callable[[Tensor], Tensor] = change) -> Any:
                return out + change(args[0]).to(out.dtype)

            hooks.callback(model.part(name).register_forward_hook(added).remove)
        for step in range(n_steps):
            log_p = model.logits(batch, where).float().log_softmax(dim=-1)
            nll = -log_p[:n_targets].gather(1, goal[:, None]).mean()
            drift = torch.nn.functional.kl_div(log_p[n_targets:], before, log_target=True, reduction="batchmean")
            if float(nll.detach()) < stop or step == n_steps - 1:
                break
            optimiser.zero_grad()
            (nll + kl_factor * drift).backward()
            optimiser.step()
            with torch.no_grad():
                after_step()
    return float(nll.detach()), step
