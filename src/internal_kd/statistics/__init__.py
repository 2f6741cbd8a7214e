"""The statistics of comparing methods: arrays in, numbers out. It knows no study and can be used alone.

>>> from internal_kd.statistics import compare, holm, pool, reading
>>> result = compare(labels, baseline, ours, metric="matthews_correlation")      # predictions, (seeds, examples)
>>> print(result)
+3.2 points; dev set +1.9 to +4.5, p < 0.001: better; new examples −0.3 to +6.6, p 0.070: undecided
>>> reading(result, "dev", p=holm([result.dev_p, other.dev_p])[0])
'better'

| what | where |
|---|---|
| a method against a baseline, over tasks too | ``compare``, ``lead``, ``pool`` |
| any weighted sum of means | ``contrast`` |
| one method's mean with its interval | ``mean_score``, ``mean_of``, ``mean_of_seeds`` |
| mean and spread over seeds alone | ``mean_over_seeds``, ``std_over_seeds`` |
| verdicts and intervals in words | ``reading``, ``what_would_decide``, ``interval_text``, ``bounded_interval`` |
| corrected p values; the paper's own test | ``holm``, ``holm_level``, ``mcnemar`` |
| students compared with their teacher | ``fidelity``, ``distance`` |
| confidence compared with accuracy | ``calibration`` |
| classes that were never seen | ``best_shift``, ``shifted_predictions`` |
"""

from internal_kd.statistics.bias_shift import best_shift, shifted_predictions
from internal_kd.statistics.calibration import Calibration, calibration, confidence_diversity, mean_entropy
from internal_kd.statistics.compare import Comparison, Lead, Pooled, Scope, compare, contrast, lead, pool
from internal_kd.statistics.estimate import Estimate
from internal_kd.statistics.fidelity import Fidelity, SharedMistakes, distance, fidelity, shared_mistakes
from internal_kd.statistics.means import Mean, mean_of, mean_of_seeds, mean_score
from internal_kd.statistics.p_values import holm, holm_level, mcnemar
from internal_kd.statistics.reading import SCOPES, bounded_interval, interval_text, p_text, reading, what_would_decide
from internal_kd.statistics.seeds import mean_over_seeds, std_over_seeds

__all__ = [
    "SCOPES",
    "Calibration",
    "Comparison",
    "Estimate",
    "Fidelity",
    "Lead",
    "Mean",
    "Pooled",
    "Scope",
    "SharedMistakes",
    "best_shift",
    "bounded_interval",
    "calibration",
    "compare",
    "confidence_diversity",
    "contrast",
    "distance",
    "fidelity",
    "holm",
    "holm_level",
    "interval_text",
    "lead",
    "mcnemar",
    "mean_entropy",
    "mean_of",
    "mean_of_seeds",
    "mean_over_seeds",
    "mean_score",
    "p_text",
    "pool",
    "reading",
    "shared_mistakes",
    "shifted_predictions",
    "std_over_seeds",
    "what_would_decide",
]
