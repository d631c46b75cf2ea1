"""Real tables and facts that ship with the package, tables of the data collection, and planted truth to test against."""

from corrigible.datasets._demo import DemoData, demo_files, load_demo
from corrigible.datasets._facts import Fact, counterfactual, load_facts
from corrigible.datasets._generate import GeneratedTable, make_classification_table
from corrigible.datasets._miscalibrated import Miscalibrated
from corrigible.datasets._plant import CAUSES, plant
from corrigible.datasets._planted import Gain, Planted, Recoverable, Split, Truth
from corrigible.datasets._tables import Table, list_builtin, list_collection, load_builtin, load_collection

__all__ = [
    "CAUSES",
    "DemoData",
    "Fact",
    "Gain",
    "GeneratedTable",
    "Miscalibrated",
    "Planted",
    "Recoverable",
    "Split",
    "Table",
    "Truth",
    "counterfactual",
    "list_builtin",
    "list_collection",
    "load_builtin",
    "load_collection",
    "demo_files",
    "load_demo",
    "load_facts",
    "make_classification_table",
    "plant",
]
