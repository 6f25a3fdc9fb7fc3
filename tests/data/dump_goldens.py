#!/usr/bin/env python3
"""Writes the golden files of tests/it/golden.rs with PyTorch: what the network and its gradient must be,
and where the optimisers' steps must lead.

    python3 tests/data/dump_goldens.py ../shared/peers        # the folder that holds model.py

The convolutions' weights are drawn by a formula (`draw`) that the test repeats, so that only running
statistics, one picture and its probabilities are stored. Needs torch, numpy, safetensors.
"""
import os, sys
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from safetensors.numpy import save_file
sys.path.insert(0, sys.argv[1])
from model import UNet

HERE = os.path.dirname(os.path.abspath(__file__))
PRESETS = {"unet1": [32, 64, 128], "unet2": [32, 64, 128, 256], "unet3": [32, 64, 128, 256, 512]}
M = (1 << 64) - 1


def draw(index, count):
    """`count` numbers in -1..1 for the `index`-th parameter: splitmix64, 24 bits of each."""
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(index << 32)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23)) - np.float32(1)


def build(widths):
    """The network with drawn parameters: He-uniform convolutions, the rest near identity."""
    net = UNet(widths, 0.0)
    names = []
    for block, prefix in [(b, f"enc.{i}") for i, b in enumerate(net.enc)] + [(b, f"dec.{i}") for i, b in enumerate(net.dec)]:
        for n in (1, 2):
            names += [f"{prefix}.conv{n}.weight", f"{prefix}.conv{n}.bias", f"{prefix}.bn{n}.weight", f"{prefix}.bn{n}.bias"]
    names += ["head.weight", "head.bias"]
    state = dict(net.named_parameters())
    with torch.no_grad():
        for index, name in enumerate(names):
            p = state[name]
            v = draw(index, p.numel()).reshape(p.shape)
            if p.dim() == 4:
                v = v * np.float32(np.sqrt(6.0 / np.prod(p.shape[1:])))
            elif ".bn" in name and name.endswith("weight"):
                v = 1 + np.float32(0.2) * v
            else:
                v = np.float32(0.1) * v
            p.copy_(torch.from_numpy(v))
    return net, names


def picture(side, seed):
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(1, 1, side // 8, side // 8)).astype(np.float32))
    x = F.interpolate(coarse, size=(side, side), mode="bilinear") * 40 + 110
    x = x + torch.from_numpy(rng.normal(size=(1, 1, side, side)).astype(np.float32)) * 8
    x = x.clamp(1, 255).to(torch.uint8)
    x[..., : side // 8] = 0
    return x


torch.manual_seed(0)
for name, widths in PRESETS.items():
    net, _ = build(widths)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = None
    net.train()
    with torch.no_grad():
        net(torch.cat([picture(128, s) for s in (1, 2)]).float() / 255)
        net.eval()
        x = picture(96, 3)
        y = net(x.float() / 255)
    out = {k: v.numpy() for k, v in net.state_dict().items() if "running" in k}
    out["input"], out["output"] = x[0, 0].numpy(), y[0, 0].numpy()
    save_file(out, os.path.join(HERE, f"{name}.golden.safetensors"))
    print(name, "output", float(y.min()), float(y.mean()), float(y.max()))

# One training step of a small network: loss and gradient; then five steps of NAdam.
widths = [4, 8]
net, names = build(widths)
net.logits = True
net.train()
x = torch.cat([picture(32, s) for s in (5, 6)])
truth = torch.zeros_like(x, dtype=torch.float32)
truth[0, :, 10:20, 12:25] = 1
ground = (x > 0).float()
truth = truth * ground
z = net(x.float() / 255)
bce = (F.binary_cross_entropy_with_logits(z, truth, reduction="none") * ground).sum() / ground.sum()
p = torch.sigmoid(z) * ground
both = (p * truth).sum()
loss = bce + 1 - (both + 1) / (p.sum() + truth.sum() - both + 1)
loss.backward()
state = dict(net.named_parameters())
out = {"pixels": x[:, 0].numpy(), "mask": (truth[:, 0] > 0).numpy().astype(np.uint8), "loss": np.array([loss.item()], np.float32)}
out["gradient"] = np.concatenate([state[n].grad.numpy().ravel() for n in names])


def path(optimiser, steps, **settings):
    """Where `steps` steps of an optimiser of PyTorch lead, parameter by parameter."""
    q = torch.tensor([0.5, -1.0, 2.0, 0.0], requires_grad=True)
    optimiser = optimiser([q], lr=0.01, **settings)
    places = []
    for step in range(steps):
        optimiser.zero_grad()
        (q * torch.tensor([1.0, -2.0, 0.3, 1e-3]) * (step + 1) + q * q).sum().backward()
        optimiser.step()
        places.append(q.detach().numpy().copy())
    return np.stack(places)


out["nadam"] = path(torch.optim.NAdam, 5)
save_file(out, os.path.join(HERE, "step.golden.safetensors"))
print("loss", loss.item())

# Twenty steps of each optimiser.
out = {
    "nadam": path(torch.optim.NAdam, 20),
    "adam": path(torch.optim.Adam, 20),
    "sgd": path(torch.optim.SGD, 20),
    "momentum": path(torch.optim.SGD, 20, momentum=0.9),
}
save_file(out, os.path.join(HERE, "optimiser.golden.safetensors"))
