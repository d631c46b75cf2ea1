# Written by tools/build_index.py from the cards.
from corrigible.fairness._correlation_shift import CorrelationShift as CorrelationShift
from corrigible.fairness._fair_adaptive_mixture import FairAdaptiveMixture as FairAdaptiveMixture
from corrigible.fairness._unprocess import Frontier as Frontier
from corrigible.fairness._group_metrics import GroupMetrics as GroupMetrics
from corrigible.fairness._group_metrics import GroupMetricsSum as GroupMetricsSum
from corrigible.fairness._group_thresholds import GroupThresholds as GroupThresholds
from corrigible.fairness._inherited_bias import InheritedBias as InheritedBias
from corrigible.fairness._fair_adaptive_mixture import ShapleyValues as ShapleyValues
from corrigible.fairness._unprocess import Unprocessed as Unprocessed
from corrigible.fairness._unprocess import achievable_frontier as achievable_frontier
from corrigible.fairness._group_metrics import group_metrics as group_metrics
from corrigible.fairness._inherited_bias import inherited_bias as inherited_bias
from corrigible.fairness._unprocess import unprocess as unprocess
