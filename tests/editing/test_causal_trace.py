"""Causal tracing against runs done by hand, and its plot."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from corrigible.editing import causal_trace  # noqa: E402
from corrigible.errors import AssumptionError, InvalidParameterError  # noqa: E402
from corrigible.testing._tiny_models import FAMILIES  # noqa: E402


@pytest.mark.parametrize("family", FAMILIES)
def test_shape_and_last_state(family, request_, taught):
    """Putting back the last token's state after the last block restores the clean answer, whatever was blurred."""
    model = taught(family)
    trace = causal_trace(model, request_, n_noise=3, random_state=0)
    assert trace.restored.shape == (len(model.encode(request_.text)), 3)
    assert trace.restored[-1, -1] == pytest.approx(trace.clean, rel=1e-4)
    assert trace.blurred < trace.clean
    assert 0 <= trace.best_layer < 3
    first, last = trace.subject
    assert "".join(trace.tokens[first : last + 1]).strip() == "France"


def test_tokens_before_the_subject_change_nothing(taught, request_):
    """Their states are not blurred, so that putting them back is no change."""
    model = taught()
    trace = causal_trace(model, request_, n_noise=3, random_state=0)
    np.testing.assert_allclose(trace.restored[: trace.subject[0]], trace.blurred, rtol=1e-5)


def test_by_hand(taught, request_):
    """One cell, with embeddings blurred and the state put back by writing the hooks here."""
    model = taught()
    trace = causal_trace(model, request_, n_noise=2, random_state=3)
    ids = model.encode(request_.text)
    first, last = trace.subject
    from corrigible._utils.random import as_generator, integer_seed

    source = torch.Generator().manual_seed(integer_seed(as_generator(3)))
    table = model.module.get_input_embeddings().weight
    blur = 3.0 * float(table[ids[first : last + 1]].std()) * torch.randn(2, last + 1 - first, 32, generator=source)
    embedded = table[ids][None].repeat(2, 1, 1)
    with torch.no_grad():
        clean = model.module(inputs_embeds=table[ids][None], output_hidden_states=True).hidden_states[2][0, last]
        embedded[:, first : last + 1] += blur

        def back(_, args, out):
            states = (out[0] if isinstance(out, tuple) else out).clone()
            states[:, last] = clean
            return (states, *out[1:]) if isinstance(out, tuple) else states

        hook = model.blocks[1].module.register_forward_hook(back)
        p = model.module(inputs_embeds=embedded).logits[:, -1].softmax(-1)
        hook.remove()
        answer = int(model.module(torch.tensor([ids])).logits[0, -1].argmax())
    assert trace.restored[last, 1] == pytest.approx(float(p[:, answer].mean()), rel=1e-4)


@pytest.mark.parametrize("part", ["mlp", "attention"])
def test_parts(taught, request_, part):
    trace = causal_trace(taught(), request_, part=part, window=1, n_noise=2, random_state=0)
    assert np.isfinite(trace.restored).all()
    assert trace.part == part


def test_plot(taught, request_):
    trace = causal_trace(taught(), request_, n_noise=2, random_state=0)
    assert len(trace.spec()["data"]["values"]) == trace.restored.size
    assert trace.to_svg().startswith("<svg")


def test_a_fact_that_is_not_known(taught):
    """An answer that is improbable with the subject as it is: blurring makes it more probable."""
    from corrigible.models import EditRequest

    request = EditRequest("The capital of {} is", "France", "Rome", target_true="Madrid")
    with pytest.raises(AssumptionError, match="does not lower"):
        causal_trace(taught(), request, n_noise=5, random_state=0)


def test_bad_parameters(model, request_):
    with pytest.raises(InvalidParameterError, match="part"):
        causal_trace(model, request_, part="mpl")
    with pytest.raises(InvalidParameterError, match="noise"):
        causal_trace(model, request_, noise=-1.0)
