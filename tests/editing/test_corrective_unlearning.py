"""The table against counts by hand, and that the choice among candidates never sees held-out rows."""

import numpy as np
import pytest

from corrigible.errors import DataError, InvalidParameterError

torch = pytest.importorskip("torch")
from corrigible.editing import SCRUB, SSD, FineTuneWithout, corrective_unlearning  # noqa: E402
from corrigible.editing._unlearning import best  # noqa: E402


class Given:
    """A method that returns the network it was given, whatever the rows."""

    def __init__(self, answer=None):
        self.answer = answer

    def fit(self, model, X, y, bad, *, X_val=None, y_val=None):
        self.seen_ = (len(X), list(bad), X_val is None)
        self.model_ = Constant(self.answer)
        return self


class Constant(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer, self.unused = answer, torch.nn.Parameter(torch.zeros(1))

    def forward(self, X):
        return torch.eye(3)[torch.full((len(X),), self.answer)] + 0 * self.unused


@pytest.fixture
def sets(rng):
    torch.manual_seed(0)
    net = torch.nn.Linear(2, 3)
    X, y = rng.normal(size=(60, 2)).astype(np.float32), rng.integers(3, size=60)
    held_out = {"X_affected": X[30:40], "y_affected": y[30:40], "X_retained": X[40:], "y_retained": y[40:]}
    return net, X[:30], y[:30], held_out


def test_the_table_is_counted_right(sets):
    net, X, y, held_out = sets
    found = corrective_unlearning(net, X, y, [0, 5], methods={"ones": Given(1), "twos": [Given(2)]}, **held_out)
    table = found.table()
    assert list(table.index) == ["before", "ones", "twos"]
    assert list(table.columns) == ["affected", "retained", "still_bad", "seconds"]
    for name, answer in (("ones", 1), ("twos", 2)):
        assert table.loc[name, "affected"] == (held_out["y_affected"] == answer).mean()
        assert table.loc[name, "retained"] == (held_out["y_retained"] == answer).mean()
        assert table.loc[name, "still_bad"] == (y[[0, 5]] == answer).mean()
        assert table.loc[name, "seconds"] >= 0
    with torch.no_grad():
        said = net(torch.tensor(held_out["X_retained"])).argmax(dim=1).numpy()
    assert table.loc["before", "retained"] == (said == held_out["y_retained"]).mean()
    assert found.corrections["ones"].model.answer == 1


def test_candidates_are_chosen_by_validation_and_known_bad_rows(sets):
    net, X, y, held_out = sets
    X_val, y_val = X[10:], np.ones(20, dtype=int)
    bad = np.flatnonzero(y == 1)[:2]
    methods = {"any": [Given(0), Given(1), Given(2)]}
    words = {"X_val": X_val, "y_val": y_val, "methods": methods, **held_out}
    assert corrective_unlearning(net, X, y, bad, max_loss=0.0, **words).corrections["any"].model.answer == 1
    assert corrective_unlearning(net, X, y, bad, max_loss=1.0, **words).corrections["any"].model.answer == 0
    held_out = {k: (v + 1) % 3 if k.startswith("y") else v for k, v in held_out.items()}
    again = corrective_unlearning(net, X, y, bad, max_loss=1.0, **{**words, **held_out})
    assert again.corrections["any"].model.answer == 0


def test_the_choice():
    scores = [(0.9, 1.0), (0.89, 0.2), (0.88, 0.2), (0.5, 0.0), (0.89, 0.2)]
    assert best(scores, 0.88) == 1
    assert best(scores, 0.0) == 3
    assert best(scores, 0.895) == 0
    assert best(scores, 1.0) == 0


def test_methods_given_are_left_alone_and_get_row_numbers(sets):
    net, X, y, held_out = sets
    ssd = SSD(alpha=1.0, dampening=1.0)
    mask = np.arange(30) == 7
    found = corrective_unlearning(net, X, y, mask, methods={"SSD": ssd}, **held_out)
    assert not hasattr(ssd, "model_")
    direct = ssd.fit(net, X, y, [7]).model_
    torch.testing.assert_close(found.corrections["SSD"].model.weight, direct.weight, rtol=0, atol=0)


def test_default_methods_and_their_seed(sets):
    net, X, y, held_out = sets
    before = net.weight.detach().clone()
    found = [corrective_unlearning(net, X, y, [0, 1, 2], random_state=s, **held_out) for s in (0, 0)]
    assert list(found[0].corrections) == ["SSD", "SCRUB", "fine-tuning", "retraining"]
    for name, one in found[0].corrections.items():
        torch.testing.assert_close(one.model.weight, found[1].corrections[name].model.weight, rtol=0, atol=0)
    torch.testing.assert_close(net.weight, before, rtol=0, atol=0)


def test_what_is_refused(sets):
    net, X, y, held_out = sets
    for methods in ({}, {"none": []}):
        with pytest.raises(InvalidParameterError, match="candidate"):
            corrective_unlearning(net, X, y, [0], methods=methods, **held_out)
    with pytest.raises(DataError, match="'y_affected'"):
        corrective_unlearning(net, X, y, [0], **{**held_out, "y_affected": held_out["y_affected"] + 3})
    with pytest.raises(InvalidParameterError, match="'max_loss'"):
        corrective_unlearning(net, X, y, [0], max_loss=-1.0, **held_out)
    with pytest.raises(InvalidParameterError, match="together"):
        corrective_unlearning(net, X, y, [0], X_val=X, **held_out)
    with pytest.raises(InvalidParameterError, match="'max_iter'"):
        corrective_unlearning(net, X, y, [0], methods={"a": FineTuneWithout(max_iter=0)}, **held_out)
    with pytest.raises(InvalidParameterError, match="'max_steps'"):
        corrective_unlearning(net, X, y, [0], methods={"a": SCRUB(max_steps=-1)}, **held_out)
