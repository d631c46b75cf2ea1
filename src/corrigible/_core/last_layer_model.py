"""What methods of the last layer share: the trained model, its features and weights, checks of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from corrigible._core.last_layer import STRUCTURES
from corrigible._core.network_fits import last_linear, linear_inputs
from corrigible._core.torch_training import Floats, Recipe
from corrigible._utils.validation import check_choice, check_gaps, check_number
from corrigible.errors import InvalidParameterError


class LastLayerModel(BaseEstimator):
    """What classifier and regressor share: the trained model, its features, checks."""

    model: Any
    prefit: bool
    structure: str
    prior_precision: Any
    validation_fraction: float
    random_state: Any
    max_iter: int
    batch_size: int
    learning_rate: float
    weight_decay: float

    def _checked(self) -> Recipe:
        by = type(self).__name__
        check_choice(self.structure, tuple(STRUCTURES), name="structure", by=by)
        if isinstance(self.prior_precision, str):
            check_choice(self.prior_precision, ("evidence", "validation"), name="prior_precision", by=by)
        else:
            check_number(self.prior_precision, name="prior_precision", by=by, low=0.0, high=1e30, closed="right")
        share = self.validation_fraction
        check_number(share, name="validation_fraction", by=by, low=0.0, high=1.0, closed="neither")
        return Recipe.of(self, by)

    def _split(self, n: int, seed: int) -> tuple[Any, Any]:
        """Return the rows that are learnt from and those held out."""
        if self.prior_precision != "validation" or n < 3:
            return slice(None), np.empty(0, dtype=np.intp)
        return next(ShuffleSplit(1, test_size=self.validation_fraction, random_state=seed).split(np.empty((n, 1))))

    def _features(self, X: Floats) -> Floats:
        """Return the last layer's inputs with a column of ones for its bias."""
        if hasattr(self.model_, "state_dict"):
            inner = linear_inputs(self.model_, X, by=type(self).__name__)
            bias = last_linear(self.model_, by=type(self).__name__).bias is not None
        else:
            inner = self.model_[:-1].transform(X) if isinstance(self.model_, Pipeline) else X
            inner = np.asarray(inner.toarray() if hasattr(inner, "toarray") else inner, dtype=np.float64)
            bias = bool(final_step(self.model_).fit_intercept)
        return np.column_stack([inner, np.ones(len(inner))]) if bias else inner

    def _weights(self) -> Floats:
        if hasattr(self.model_, "state_dict"):
            layer = last_linear(self.model_, by=type(self).__name__)
            weight, bias = layer.weight, layer.bias
            parts = [weight.detach().numpy()] + ([] if bias is None else [bias.detach().numpy()[:, None]])
        else:
            final = final_step(self.model_)
            weight = np.atleast_2d(final.coef_)
            parts = [weight] + ([np.reshape(final.intercept_, (-1, 1))] if final.fit_intercept else [])
        return np.hstack(parts).astype(np.float64)

    def _said(self, X: Any) -> tuple[Floats, Floats]:
        """Return the outputs' means (n, k) and covariances (n, k, k)."""
        check_is_fitted(self)
        features = self._features(check_gaps(self, X, reset=False, gaps=False))
        return features @ self.coef_.T, self.curvature_.covariance(features, self.prior_precision_)


def final_step(model: Any) -> Any:
    """Return the last step of a pipeline, or the model itself."""
    return model[-1] if isinstance(model, Pipeline) else model


def of_kind(model: Any, kinds: tuple[type, ...], by: str) -> Any:
    """Return a scikit-learn model if it is, or ends with, one of these kinds."""
    if not isinstance(final_step(model), kinds):
        names = " or ".join(k.__name__ for k in kinds)
        raise InvalidParameterError(
            f"The 'model' parameter of {by} must be {names}, a Pipeline that ends with one, or a function that returns "
            f"a torch module. Got {model!r}."
        )
    return model


def trained_already(model: Any, kinds: tuple[type, ...], by: str) -> Any:
    """Return a model that is to be used as it is: a torch module in evaluation, or a fitted estimator."""
    if hasattr(model, "state_dict"):
        return model.eval()
    check_is_fitted(final_step(of_kind(model, kinds, by)))
    return model
