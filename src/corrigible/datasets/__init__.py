"""What ships with the package (tables, facts, stereotypes), tables of the data collection, and planted truth."""

from corrigible.datasets._demo import DemoData, demo_files, load_demo
from corrigible.datasets._facts import Fact, counterfactual, load_facts
from corrigible.datasets._generate import GeneratedTable, make_classification_table
from corrigible.datasets._miscalibrated import Miscalibrated
from corrigible.datasets._plant import CAUSES, plant
from corrigible.datasets._planted import Gain, Planted, Recoverable, Split, Truth
from corrigible.datasets._stereotypes import Stereotype, load_stereotypes
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
    "Stereotype",
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
    "load_stereotypes",
    "make_classification_table",
    "plant",
]
