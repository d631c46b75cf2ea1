"""What is audited and edited: tables of predictions, scikit-learn, ONNX and language models, and edits of them."""

from corrigible.models._corrected import CorrectedClassifier, CorrectedRegressor
from corrigible.models._deltas import Dense, LowRank
from corrigible.models._edit_requests import EditRequest, Probe, check_requests, read_requests
from corrigible.models._edits import (
    AbstractAdaptor,
    Edit,
    Touched,
    applied_edits,
    joined,
    revert_all,
)
from corrigible.models._files import load_model, save_model
from corrigible.models._language_model import LanguageModel
from corrigible.models._load_lm import cache_folder, load_lm
from corrigible.models._onnx import OnnxClassifier, OnnxRegressor, load_onnx
from corrigible.models._pipeline import default_model
from corrigible.models._predictions import Predictions
from corrigible.models._training_dynamics import TrainingDynamics

__all__ = [
    "AbstractAdaptor",
    "CorrectedClassifier",
    "CorrectedRegressor",
    "Dense",
    "Edit",
    "EditRequest",
    "LanguageModel",
    "LowRank",
    "OnnxClassifier",
    "OnnxRegressor",
    "Predictions",
    "Probe",
    "Touched",
    "TrainingDynamics",
    "applied_edits",
    "cache_folder",
    "check_requests",
    "default_model",
    "joined",
    "load_lm",
    "load_model",
    "load_onnx",
    "read_requests",
    "revert_all",
    "save_model",
]
