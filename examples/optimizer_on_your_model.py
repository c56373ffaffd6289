# %% [markdown]
# # The optimizer on your own model
#
# `SubspaceSGD` replaces `torch.optim.SGD` in a training loop. It splits each update into a component in the dominant
# subspace (the top k eigenvectors of the Hessian) and the rest, the bulk, and weighs them with `alpha_dom` and
# `beta_bulk`. All it needs besides is a function that gives the loss whose Hessian it takes.

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

from sharpflat import SubspaceSGD

torch.manual_seed(0)
inputs = torch.rand(600, 2) * 2 - 1
labels = (3 * inputs.norm(dim=1)).long().clamp(max=2)  # three rings
training, holdout = slice(500), slice(500, None)


class Yours(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 40), nn.Linear(40, 3)

    def forward(self, x):
        return self.last(torch.sin(3 * self.first(x)))


# %% [markdown]
# The three runs have the same initialisation and the same minibatches. Each is plain SGD for 100 steps; from there on,
# it keeps both components, the dominant one, or the bulk one. `refresh_every=10` recomputes the subspace at every tenth
# step.


# %%
def train(dom, bulk, switch=100, steps=400):
    torch.manual_seed(1)
    model, sampler = Yours(), torch.Generator().manual_seed(2)

    def loss(examples):
        return nn.functional.cross_entropy(model(inputs[examples]), labels[examples])

    optimizer = SubspaceSGD(
        model.parameters(),
        lr=0.1,
        alpha_dom=lambda step: 1 if step < switch else dom,
        beta_bulk=lambda step: 1 if step < switch else bulk,
        k=3,
        refresh_every=10,
        curvature=lambda: loss(holdout),
    )
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss(torch.randint(500, (50,), generator=sampler)).backward()
        optimizer.step()
        with torch.no_grad():
            losses.append(float(loss(training)))
    print(f"training loss {losses[-1]:.3f}, {optimizer.products} Hessian products")
    return losses


curves = {"SGD": train(1, 1), "Dom-SGD": train(1, 0), "Bulk-SGD": train(0, 1)}

# %%
fig, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for (label, losses), color in zip(curves.items(), ("black", "tab:red", "tab:blue"), strict=True):
    axes.plot(losses, color=color, label=label)
axes.axvline(100, color="gray", linestyle=":")
axes.set(xlabel="step", ylabel="training loss", yscale="log")
axes.legend()
plt.show()
