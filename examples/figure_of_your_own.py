# %% [markdown]
# # A figure of your own from archived datasets
#
# Every run of a figure is one xarray dataset away. This notebook needs no training: it reads the runs of the `quick`
# profile that are archived in the repository. For runs of your own, leave out `archived=True`.

# %%
import matplotlib.pyplot as plt

from analysis.open_runs import open_runs

runs = open_runs("quick", "song-fig01", "mlp", archived=True)
runs

# %% [markdown]
# The dimension `run` has one entry for each run: `label` says which branch it is, and `seed` which seed. A run goes
# from the initialisation to the end of its branch, so the first part of the three branches of a seed is the same.
#
# Does the sharpness λ₁ react to the switch? The figure in the paper shows only the loss.

# %%
sharpness = runs.eigenvalues.sel(index=1).dropna("spectrum_step", how="all")
fig, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for label, color in {"SGD": "black", "Dom-SGD": "tab:red", "Bulk-SGD": "tab:blue"}.items():
    for branch in sharpness[runs.label == label]:
        measured = branch.dropna("spectrum_step")
        axes.plot(measured.spectrum_step, measured, color=color, linewidth=1, label=f"{label}, seed {int(branch.seed)}")
axes.set(xlabel="step", ylabel="sharpness λ₁")
axes.legend(fontsize="small", ncols=3)
plt.show()

# %% [markdown]
# Questions about numbers are one line of xarray. How large is the sharpness of each branch after step 2,000, on
# average over the measurements and the seeds?

# %%
at_the_end = sharpness.where(sharpness.spectrum_step > 2000).mean("spectrum_step")
at_the_end.groupby("label").mean().to_series().round(1)

# %% [markdown]
# Families vary in more than the seed. The runs of `zs-fig04` differ in the weights α and β of the dominant and the bulk
# component; as coordinates, they make a table. Here is the training loss at the end, with β downwards.

# %%
grid = open_runs("quick", "zs-fig04", archived=True)
last = grid.loss.isel(step=-1).drop_vars(["seed", "label"])
last.set_index(run=["beta_bulk", "alpha_dom"]).unstack("run").to_pandas().round(3)
