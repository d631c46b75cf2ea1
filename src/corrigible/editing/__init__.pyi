# Written by tools/build_index.py from the cards.
from corrigible.editing._crome import CROME as CROME
from corrigible.editing._causal_trace import CausalTrace as CausalTrace
from corrigible.editing._grace import Codebook as Codebook
from corrigible.editing._editing_benchmark import EditProbes as EditProbes
from corrigible.editing._editing_benchmark import EditScores as EditScores
from corrigible.editing._edit_sequence import EditSequence as EditSequence
from corrigible.editing._editing_benchmark import EditingBenchmark as EditingBenchmark
from corrigible.editing._fine_tune import FineTune as FineTune
from corrigible.editing._edit_sequence import ForgettingKnee as ForgettingKnee
from corrigible.editing._grace import GRACE as GRACE
from corrigible.editing._lora_edit import LoRAEdit as LoRAEdit
from corrigible.editing._memit import MEMIT as MEMIT
from corrigible.editing._rome import ROME as ROME
from corrigible.editing._r_rome import RROME as RROME
from corrigible.editing._causal_trace import causal_trace as causal_trace
from corrigible.editing._edit_sequence import edit_sequence as edit_sequence
from corrigible.editing._edit_sequence import forgetting_knee as forgetting_knee
