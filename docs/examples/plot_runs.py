"""Loss against parameters, one line per variant, with the range over seeds.

usage: attnscale export results/quickstart --format parquet --out runs.parquet
       python plot_runs.py runs.parquet loss.png
"""

import sys

import matplotlib.pyplot as plt
import pandas as pd

table, picture = sys.argv[1:]
runs = pd.read_parquet(table)
runs = runs[runs["status"] == "done"]
cells = runs.groupby(["variant", "params"])["loss"].agg(["mean", "min", "max", "count"]).reset_index()
print(cells.to_string(index=False))

figure, axes = plt.subplots(figsize=(6, 4))
for variant, line in cells.groupby("variant"):
    axes.plot(line["params"], line["mean"], marker="o", label=variant)
    axes.fill_between(line["params"], line["min"], line["max"], alpha=0.2)
axes.set_xscale("log")
axes.set_xlabel("parameters")
axes.set_ylabel("validation loss (nats per token)")
axes.legend()
figure.tight_layout()
figure.savefig(picture, dpi=150)
