"""Write the documentation's page of editors compared from what ``evidence/editors_compared.py`` measured."""

from pathlib import Path

import pandas as pd

from corrigible.editing import EditingResults

ROOT = Path(__file__).parents[1]
CELLS = ROOT / "evidence" / "results" / "editors_compared.csv"
PAGE = ROOT / "docs" / "editors_compared.rst"
PLOT = ROOT / "docs" / "_static" / "editors-compared.svg"

HEAD = """\
Editors compared on a real model
================================

.. Written by tools/build_editors_page.py; do not edit.

Facts that SmolLM2-135M-Instruct gets wrong are edited by every editor under one protocol; all is judged by what the model
then writes. *Efficacy* is the share of prompts answered with the new target, *behind a prefix* the same after "It is known
that". *Portability* asks what follows from the new fact. *Other subjects* and *same subject* are questions on neighbouring
facts and on other relations of the subject: of those answered rightly before, the share still answered rightly.
*Divergence* and *perplexity ratio* are of held-out text against the model before, *small tasks* five tasks of twelve
choices each. Seconds are wall-clock on one thread. Brackets hold 95 % intervals over the requests. With so few requests,
editors whose intervals overlap widely cannot be told apart. `EditingBenchmark` runs the same on your own model and facts;
:doc:`generated/evidence` has what was claimed, :doc:`choosing_editing` the advice.

"""
TAIL = """\
Curves
------

.. image:: _static/editors-compared.svg
   :alt: Efficacy, other subjects, perplexity ratio and small tasks over the number of edits, a line an editor
   :width: 100%
"""

if __name__ == "__main__":
    found = EditingResults(pd.read_csv(CELLS))
    PAGE.write_text(HEAD + found.to_rst() + "\n" + TAIL, encoding="utf-8")
    PLOT.write_text(found.to_svg(), encoding="utf-8")
