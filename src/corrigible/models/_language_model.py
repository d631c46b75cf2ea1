"""Causal language models: the few calls that methods need, each of them counted."""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrigible._utils.folders import new_folder
from corrigible._utils.optional import require
from corrigible._utils.validation import check_choice, check_count
from corrigible.errors import DataError
from corrigible.models._edits import applied_edits, original_parameter
from corrigible.models._lm_passes import Batch, Calls, Resumption
from corrigible.models._lm_structure import Block, find_blocks

Tensor = Any
Module = Any
Floats = NDArray[np.floating]
_ROWS = 16  # texts in one forward pass: beyond that decoding gains nothing


class _Enough(Exception):
    """Raised inside a forward pass when what was wanted of it is there."""


@dataclass(eq=False)
class LanguageModel:
    """A causal language model and its tokenizer.

    Parameters
    ----------
    module : transformers model
        A causal language model of `transformers`, or one that is called like it. Put into evaluation mode; its
        parameters need no gradients until an editor asks for them.
    tokenizer : transformers tokenizer
        With character offsets (a fast one).
    name : str
        Where it came from.

    Attributes
    ----------
    calls : Calls
        Every forward pass through `module` is counted here, whoever makes it.
    blocks : list of Block
        The transformer blocks.

    Examples
    --------
    >>> from corrigible.testing import tiny_language_model
    >>> model = tiny_language_model("llama")
    >>> len(model.generate(["The capital of France is"], max_new_tokens=3))
    1
    >>> model.calls.forwards
    3
    """

    module: Module
    tokenizer: Any
    name: str = ""
    calls: Calls = field(default_factory=Calls)

    def __post_init__(self) -> None:
        self.module.eval().requires_grad_(False)
        self.module.register_forward_pre_hook(self._count, with_kwargs=True)

    @functools.cached_property
    def blocks(self) -> list[Block]:
        """The transformer blocks, the first first."""
        return find_blocks(self.module)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def device(self) -> Any:
        """Where the parameters are."""
        return next(self.module.parameters()).device

    def down(self, layer: int, *, by: str) -> str:
        """Return the name of the projection that ends a block's feed-forward module.

        Parameters
        ----------
        layer : int
            Number of the block.
        by : str
            Who asks, for the message.

        Raises
        ------
        DataError
            If there is no such block, or it has no single such projection.
        """
        check_choice(layer, range(self.n_layers), name="layer", by=by)
        if not self.blocks[layer].down:
            raise DataError(
                f"{by} changes the projection that ends a block's feed-forward module. {type(self.module).__name__} has "
                f"no single one in block {layer}, as is the case with experts. Choose another layer or editor."
            )
        return self.blocks[layer].down

    def part(self, name: str) -> Module:
        """Return a module of the network by its name."""
        return self.module.get_submodule(name)

    # --- text and tokens --------------------------------------------------------------------------------

    def encode(self, text: str, *, start: bool = True) -> list[int]:
        """Return the tokens of a text; `start` says whether it begins one (some models mark that)."""
        return list(self.tokenizer(text, add_special_tokens=start)["input_ids"])

    def last_token(self, text: str, part: str) -> int:
        """Return the position of the token that ends the last occurrence of `part` in `text`.

        Parameters
        ----------
        text, part : str
            A text, and a piece of it.
        """
        end = text.rindex(part) + len(part)
        offsets = self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        return max(i for i, (a, b) in enumerate(offsets) if a < end and b > a)

    def batch(self, rows: Sequence[Sequence[int]]) -> Batch:
        """Return token lists as one batch."""
        torch = require("torch", extra="lm", by="A language model")
        lengths = [len(r) for r in rows]
        if not rows or not min(lengths):
            raise DataError("A text for a language model must have at least one token. Got an empty one.")
        ids = torch.zeros(len(rows), max(lengths), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return Batch(ids.to(self.device), mask.to(self.device), lengths)

    def tails(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> tuple[Batch, list[int]]:
        """Return token lists from a position on, to run again and again after their beginnings have run once.

        Parameters
        ----------
        rows : sequence of sequence of int
            Whole texts.
        starts : sequence of int
            Position of the first token to keep of each.

        Returns
        -------
        batch : Batch
        cut : list of int
            How many tokens were cut off each row: `starts`, or none where the network does not take positions.
        """
        torch = require("torch", extra="lm", by="A language model")
        if not max(starts) or "position_ids" not in inspect.signature(self.module.forward).parameters:
            return self.batch(rows), [0] * len(rows)
        end = self.batch([row[s:] for row, s in zip(rows, starts, strict=True)])
        ids = torch.zeros(len(rows), max(starts), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
            if start:
                ids[i, -start:], mask[i, -start:] = torch.tensor(row[:start]), 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        with torch.no_grad():
            out = self.module(
                input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), use_cache=True
            )
        at = torch.tensor(starts, device=self.device)[:, None] + torch.arange(end.ids.shape[1], device=self.device)
        return Batch(end.ids, torch.cat([mask, end.mask], dim=1), end.lengths, out[self._cache_name], at), list(
            starts
        )

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        """Return what the network is called with."""
        if batch.past is None:
            return {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False}
        # The network appends to the cache that it is given.
        past = {self._cache_name: copy.deepcopy(batch.past)}
        return {"input_ids": batch.ids, "attention_mask": batch.mask, "position_ids": batch.positions,
                "use_cache": True, **past}  # fmt: skip

    @functools.cached_property
    def _cache_name(self) -> str:
        """What this version of transformers calls the cache."""
        return "cache" if "cache" in inspect.signature(self.module.forward).parameters else "past_key_values"

    # --- what methods ask -------------------------------------------------------------------------------

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int = 10) -> list[str]:
        """Return the most probable continuation of each prompt, token by token (greedy).

        Prompts of one length run together, so that no padding is needed.

        Parameters
        ----------
        prompts : sequence of str
            Texts to continue.
        max_new_tokens : int
            Tokens at most; a continuation ends before the token that ends a text.

        Returns
        -------
        list of str
            The continuations alone.
        """
        check_count(max_new_tokens, name="max_new_tokens", by="LanguageModel.generate")
        rows = [self.encode(p) for p in prompts]
        said: list[str] = [""] * len(rows)
        for group in _equal_lengths(rows):
            for i, tokens in zip(group, self._greedy([rows[i] for i in group], max_new_tokens), strict=True):
                said[i] = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return said

    def _greedy(self, rows: list[list[int]], n: int) -> list[list[int]]:
        torch = require("torch", extra="lm", by="A language model")
        transformers = require("transformers", extra="lm", by="A language model")
        ends, batch = self._ends(), self.batch(rows)
        how = transformers.GenerationConfig(
            max_new_tokens=n, do_sample=False, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0
        )
        with torch.no_grad():
            out = self.module.generate(batch.ids, attention_mask=batch.mask, generation_config=how)
        said = out[:, batch.ids.shape[1] :].tolist()
        return [list(itertools.takewhile(lambda t: t not in ends, tokens)) for tokens in said]

    def log_probs(self, prompts: Sequence[str], targets: Sequence[str]) -> list[Floats]:
        """Return the log probability of each token of each target after its prompt, in nats.

        Parameters
        ----------
        prompts, targets : sequence of str
            Targets begin with the white space that parts them from the prompt.

        Returns
        -------
        list of ndarray of shape (n_tokens,)
        """
        heads = [self.encode(p) for p in prompts]
        tails = [self.encode(t, start=False) for t in targets]
        return self.token_log_probs([h + t for h, t in zip(heads, tails, strict=True)], [len(h) for h in heads])

    def token_log_probs(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[Floats]:
        """Return the log probability of each token from position `start` on, for each row of tokens."""
        torch = require("torch", extra="lm", by="A language model")
        found: list[Floats] = [np.empty(0)] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        with torch.no_grad():
            for at in range(0, len(order), _ROWS):
                group = order[at : at + _ROWS]
                batch = self.batch([rows[i] for i in group])
                where = [(r, p - 1) for r, i in enumerate(group) for p in range(starts[i], len(rows[i]))]
                log_p = self.logits(batch, where).float().log_softmax(dim=-1)
                wanted = torch.tensor([rows[group[r]][p + 1] for r, p in where], device=log_p.device)
                each = log_p.gather(1, wanted[:, None])[:, 0].cpu().numpy()
                cuts = np.cumsum([len(rows[i]) - starts[i] for i in group])[:-1]
                for i, values in zip(group, np.split(each, cuts), strict=True):
                    found[i] = values.astype(np.float64)
        return found

    def perplexities(self, texts: Sequence[str], *, max_tokens: int = 256) -> Floats:
        """Return the perplexity of each text: exp of the mean negative log probability of its tokens but the first.

        Parameters
        ----------
        texts : sequence of str
            Of two tokens at least.
        max_tokens : int
            Longer texts are cut.
        """
        rows = [self.encode(t)[:max_tokens] for t in texts]
        if short := [t for t, r in zip(texts, rows, strict=True) if len(r) < 2]:
            raise DataError(
                f"A text of LanguageModel.perplexities must have two tokens at least. Got {short[0]!r}."
            )
        return np.array([np.exp(-p.mean()) for p in self.token_log_probs(rows, [1] * len(rows))])

    def hidden_states(self, texts: Sequence[str], layer: int) -> list[Floats]:
        """Return what leaves a block at every token of each text.

        Parameters
        ----------
        texts : sequence of str
            Inputs.
        layer : int
            Number of the block.

        Returns
        -------
        list of ndarray of shape (n_tokens, n_hidden)
        """
        found: list[Floats] = []
        for at in range(0, len(texts), _ROWS):
            batch = self.batch([self.encode(t) for t in texts[at : at + _ROWS]])
            _, left = self.record(batch, outputs=[self.blocks[layer].name])
            out = left[self.blocks[layer].name]
            found += [out[i, :n].float().cpu().numpy() for i, n in enumerate(batch.lengths)]
        return found

    # --- inside the network -----------------------------------------------------------------------------

    def logits(self, batch: Batch, where: Sequence[tuple[int, int]]) -> Tensor:
        """Return the logits at (row, position) pairs, (n_pairs, n_vocabulary); the head runs on these alone."""
        rows, positions = [r for r, _ in where], [p for _, p in where]
        with self._before_head(lambda hidden: hidden[rows, positions][None]):
            return self.module(**self._inputs(batch)).logits[0]

    def record(
        self, batch: Batch, *, inputs: Sequence[str] = (), outputs: Sequence[str] = ()
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return what enters and what leaves modules, without gradients; the pass ends with the last of them.

        Parameters
        ----------
        batch : Batch
            Inputs.
        inputs, outputs : sequence of str
            Names of modules.

        Returns
        -------
        entered, left : dict of str to tensor of shape (n, length, width)
        """
        torch = require("torch", extra="lm", by="A language model")
        entered: dict[str, Tensor] = {}
        left: dict[str, Tensor] = {}

        def end_if_done() -> None:
            if len(entered) + len(left) == len(inputs) + len(outputs):
                raise _Enough

        def keep_input(_: Module, args: Any, kwargs: Any, *, name: str) -> None:
            entered[name] = args[0] if args else next(iter(kwargs.values()))
            end_if_done()

        def keep_output(_: Module, args: Any, out: Any, *, name: str) -> None:
            left[name] = out[0] if isinstance(out, tuple) else out
            end_if_done()

        hooks = [
            self.part(n).register_forward_pre_hook(functools.partial(keep_input, name=n), with_kwargs=True)
            for n in inputs
        ]
        hooks += [self.part(n).register_forward_hook(functools.partial(keep_output, name=n)) for n in outputs]
        try:
            with torch.no_grad():
                self.module(**self._inputs(batch))
        except _Enough:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return entered, left

    def before_block(self, batch: Batch, layer: int) -> Resumption:
        """Run the network up to a block and keep what enters it: `resumed` continues from there."""
        tuples = []
        hooks = [
            b.module.register_forward_hook(lambda _, args, out: tuples.append(isinstance(out, tuple)))
            for b in self.blocks[:layer][-1:]
        ]
        try:
            entered, _ = self.record(batch, inputs=[self.blocks[layer].name])
        finally:
            for hook in hooks:
                hook.remove()
        return Resumption(layer, entered[self.blocks[layer].name], batch, tuples == [True])

    @contextmanager
    def resumed(self, start: Resumption) -> Iterator[None]:
        """Inside the block, forward passes on ``start.batch`` skip the blocks before ``start.layer``."""
        skipped = [b.module for b in self.blocks[: start.layer]]

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return (start.hidden,) if start.returns_tuple else start.hidden

        try:
            for module in skipped:
                module.forward = stand_in
            yield
        finally:
            for module in skipped:
                module.__dict__.pop("forward", None)

    @contextmanager
    def _before_head(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        head = self.module.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
        try:
            yield
        finally:
            hook.remove()

    def _count(self, _: Module, args: Any, kwargs: Any) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        self.calls.forwards += 1
        self.calls.tokens += 0 if ids is None else int(ids.numel())

    def _ends(self) -> list[int]:
        config = getattr(self.module, "generation_config", None) or self.module.config
        ends = getattr(config, "eos_token_id", None)
        return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)

    # --- files ------------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """Return a hash of the weights as they were before any edit: the key of cached statistics."""
        if not hasattr(self, "_fingerprint"):
            found = hashlib.sha256()
            torch = require("torch", extra="lm", by="A language model")
            for name, _ in sorted(self.module.named_parameters()):
                weights = original_parameter(self, name).contiguous()
                found.update(name.encode())
                found.update(weights.cpu().reshape(-1).view(torch.uint8).numpy().data)
            self._fingerprint = found.hexdigest()[:32]
        return self._fingerprint

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the model, with the weights it has now, as a Hugging Face folder.

        Parameters
        ----------
        folder : str or Path
            New or empty.
        overwrite : bool
            Whether an earlier model there may be replaced.

        Raises
        ------
        DataError
            If an applied edit has adaptors, which such a folder cannot hold.
        """
        with new_folder(folder, marker="config.json", overwrite=overwrite) as made:
            self.write(made)

    def write(self, folder: Path) -> None:
        """Fill an empty folder with model and tokenizer; see `save`.

        Parameters
        ----------
        folder : Path
            The folder.
        """
        if hooked := [e.method for e in applied_edits(self) if e.adaptors]:
            raise DataError(
                f"A model folder holds weights, and the edit by {hooked[0]} is an adaptor. Save the edit with Edit.save."
            )
        with without_bars():
            self.module.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)


def _equal_lengths(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield row numbers in groups of equal length, none larger than one pass takes."""
    for length in sorted({len(r) for r in rows}):
        same = [i for i, r in enumerate(rows) if len(r) == length]
        for at in range(0, len(same), _ROWS):
            yield same[at : at + _ROWS]


@contextmanager
def without_bars() -> Iterator[None]:
    """Inside, transformers draws no progress bars: reading and writing take a moment."""
    bars = require("transformers", extra="lm", by="A language model").utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
