"""
Guarantees beyond coverage, and in a stream
===========================================

Two things that split conformal prediction does not do. A rule that warns of late flights
must not leave more than one flight in twenty late and unannounced: risk control chooses its
threshold. And where rows arrive in time and drift, no fixed level holds: adaptive conformal
prediction moves it after every response.
"""

# %%
# Bound the share of late flights without a warning
# -------------------------------------------------
# A flight's loss under a threshold is 1 if it is late and no warning was given. Conformal
# risk control keeps the expected loss at 0.05; learn then test keeps it there with
# probability 0.9, and pays with more warnings.

import matplotlib.pyplot as plt
import numpy as np

from corrigible.datasets import load_demo
from corrigible.models import default_model
from corrigible.uncertainty import AdaptiveConformal, RiskControl, SplitConformal

demo = load_demo()
# Without the delay at the gate, as if asked on the day before.
features = demo.train.columns.drop([demo.target, "departure_delay"])
model = default_model(classification=True)
model.fit(demo.train[features], demo.train[demo.target])
p = model.predict_proba(demo.test[features])[:, 1]
late = demo.test[demo.target].to_numpy() == 1

# Columns from careless to cautious, as the thresholds fall.
thresholds = np.linspace(0.6, 0.0, 121)
missed = late[:, None] & (p[:, None] <= thresholds)
order = np.random.default_rng(0).permutation(len(late))
calibration, new = order[:1500], order[1500:]
curves, level = {}, 0.05
for method in ("crc", "ltt"):
    control = RiskControl(alpha=level, method=method).fit(missed[calibration])
    risk = missed[new, control.column_].mean()
    warned = (p[new] > thresholds[control.column_]).mean()
    curves[method] = (thresholds[control.column_], risk)
    print(f"{method}: {risk:.3f} late without a warning, {warned:.2f} warned")

# %%
# A stream that drifts
# --------------------
# The noise doubles halfway. Intervals that were calibrated before miss ever more; those
# whose level is moved come back to one miss in ten.

rng = np.random.default_rng(0)
n, start = 3000, 500
spread = np.where(np.arange(n) < n // 2, 1.0, 2.0)
truth, forecast = spread * rng.normal(size=n), np.zeros(n)
fixed = SplitConformal(alpha=0.1).fit(forecast[:start], truth[:start])
adaptive = AdaptiveConformal(alpha=0.1, gamma=0.03).fit(forecast[:start], truth[:start])
misses, widths = {"fixed": [], "adaptive": []}, {"fixed": [], "adaptive": []}
for t in range(start, n):
    for name, rule in (("fixed", fixed), ("adaptive", adaptive)):
        low, high = rule.predict_interval(forecast[t : t + 1])[0]
        misses[name].append(not low <= truth[t] <= high)
        widths[name].append(high - low)
    adaptive.update(forecast[t : t + 1], truth[t : t + 1])

fig, axes = plt.subplots(1, 2, figsize=(9, 3.6))
mean = missed[new].mean(axis=0)
axes[0].plot(thresholds, mean, label="new rows")
axes[0].axhline(level, color="gray", linewidth=1, linestyle="--")
for method, (threshold, risk) in curves.items():
    axes[0].plot(threshold, risk, "o", label=f"chosen by {method}")
axes[0].set(xlabel="warn above", ylabel="late without a warning")
axes[0].legend(frameon=False)
window = np.ones(200) / 200
for name, found in misses.items():
    axes[1].plot(np.convolve(found, window, mode="valid"), label=name)
axes[1].axhline(0.1, color="gray", linewidth=1, linestyle="--")
axes[1].set(xlabel="step", ylabel="misses among the next 200", ylim=(0, None))
axes[1].legend(frameon=False)
fig.tight_layout()
