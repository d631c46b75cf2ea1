"""Contract checks and measured claims for every kind of method; public, so that others can run them.

A method's card says its kind; the kind's checks run over every card, so adding a card adds the tests.
"""

from corrigible.testing._estimators import check_estimator
from corrigible.testing._run import check_method, checks_for, parametrize_methods
from corrigible.testing._tiny_models import tiny_language_model

__all__ = ["check_estimator", "check_method", "checks_for", "parametrize_methods", "tiny_language_model"]
