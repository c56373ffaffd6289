"""Train a model of your own with SGD, Dom-SGD and Bulk-SGD: `SubspaceSGD` takes the place of `torch.optim.SGD`.

Each run is plain SGD for 200 steps. From there its updates keep both components, the dominant one, or the bulk one.
"""

import torch
from torch import nn

from sharpflat import SubspaceSGD

inputs = torch.randn(1200, 20)
labels = inputs[:, :4].argmax(dim=1)
training, holdout = slice(1000), slice(1000, None)  # the Hessian is taken on the holdout, which is never trained on


def train(name, dom, bulk):
    def loss(examples):
        return nn.functional.cross_entropy(model(inputs[examples]), labels[examples])

    model = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 4))
    weights = {"alpha_dom": lambda step: 1 if step < 200 else dom, "beta_bulk": lambda step: 1 if step < 200 else bulk}
    optimizer = SubspaceSGD(model.parameters(), lr=0.1, **weights, k=4, curvature=lambda: loss(holdout))
    for step in range(1, 601):
        optimizer.zero_grad()
        loss(torch.randint(1000, (50,))).backward()
        optimizer.step()
        if step in (200, 600):
            print(f"{name}, step {step}: training loss {loss(training):.3f}, {optimizer.products} Hessian products")


for name, dom, bulk in ("SGD", 1, 1), ("Dom-SGD", 1, 0), ("Bulk-SGD", 0, 1):
    train(name, dom, bulk)
