#!/usr/bin/env python3
"""PyTorch's side of gpu.sh: a scan and training steps of one network, as lines of raw.csv. Run beside model.py."""
import argparse
import time

import numpy as np
import tifffile
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from model import NETS, UNet, flops_per_px

ap = argparse.ArgumentParser()
ap.add_argument("--net", choices=list(NETS))
ap.add_argument("--scene")
ap.add_argument("--modes", default="f32,tf32,f16,bf16 compiled")
ap.add_argument("--what", default="scan,training")
ap.add_argument("--against", nargs="*", help="PRECISION=MAP: marscan's probabilities, to be held against f32 here")
ap.add_argument("--tile", type=int, default=1024)
ap.add_argument("--overlap", type=int, default=64)
ap.add_argument("--batch", type=int, default=4)
args = ap.parse_args()
cuda = torch.cuda.is_available()
device = torch.device("cuda" if cuda else "cpu")
wait = torch.cuda.synchronize if cuda else lambda: None
# Name, type of the convolutions, TF32, compiled with channels last.
MODES = [("f32", None, False, False), ("tf32", None, True, False), ("f16", torch.float16, True, False),
         ("bf16 compiled", torch.bfloat16, True, True)]


def say(precision, what, value, unit):
    print("torch " + device.type, args.net, precision, what, value, unit, sep=",", flush=True)


def network(compiled, training):
    net = UNet(NETS[args.net], 0.0, logits=training)
    net.load_state_dict(load_file(f"weights/{args.net}.safetensors"))
    net = net.train(training).to(device)
    if compiled:
        net = torch.compile(net.to(memory_format=torch.channels_last))
    return net


def scan(net, dtype):
    """Seconds for the scene, from the mapped file to probabilities of 8 bits."""
    began = time.time()
    image = tifffile.memmap(args.scene, mode="r")
    rows, cols = image.shape
    answer, margin, step = np.zeros(image.shape, np.uint8), args.overlap // 2, args.tile - args.overlap
    starts = lambda n: sorted({min(k, max(n - args.tile, 0)) for k in range(0, max(n - args.overlap, 1), step)})
    places = [(r, c) for r in starts(rows) for c in starts(cols)]
    batch = np.zeros((args.batch, 1, args.tile, args.tile), np.uint8)
    for first in range(0, len(places), args.batch):
        now = places[first:first + args.batch]
        for k, (r, c) in enumerate(now):
            window = image[r:r + args.tile, c:c + args.tile]
            batch[k, 0, :window.shape[0], :window.shape[1]] = window
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            p = net(torch.from_numpy(batch).to(device).float() / 255)
            p = (p.float() * 255 + 0.5).to(torch.uint8).cpu().numpy()
        for k, (r, c) in enumerate(now):
            r0, c0 = r + (margin if r else 0), c + (margin if c else 0)
            h, w = min(rows - r0, args.tile - (r0 - r)), min(cols - c0, args.tile - (c0 - c))
            answer[r0:r0 + h, c0:c0 + w] = p[k, 0, r0 - r:r0 - r + h, c0 - c:c0 - c + w]
    wait()
    return time.time() - began, rows * cols / 1e6


def train(net, dtype):
    """Images a second of steps of 32 crops."""
    x = torch.rand(32, 1, 128, 128, device=device)
    y = (torch.rand(32, 1, 128, 128, device=device) > 0.95).float()
    optimiser, rates = torch.optim.NAdam(net.parameters(), lr=1e-4, foreach=True), []
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    for _ in range(30 if cuda else 3):
        began = time.time()
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            logits = net(x)
        loss = F.binary_cross_entropy_with_logits(logits.float(), y)
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        wait()
        rates.append(32 / (time.time() - began))
    return sorted(rates[len(rates) // 3:])[len(rates[len(rates) // 3:]) // 2]


def peak(dtype):
    """FLOP/s of a large product: what the card can do."""
    side = 8192 if cuda else 1024
    a = torch.rand(side, side, device=device, dtype=dtype)
    best = 0.0
    for _ in range(10):
        began = time.time()
        a @ a
        wait()
        best = max(best, 2 * side**3 / (time.time() - began))
    return best


def differences():
    """Of marscan's maps from f32 here, far from the scene's edges and where there is data."""
    torch.backends.cudnn.allow_tf32 = False
    image, inner = tifffile.imread(args.scene), np.s_[160:-160, 160:-160]
    with torch.inference_mode():
        p = network(False, False)(torch.from_numpy(image[None, None]).to(device).float() / 255)[0, 0].cpu().numpy()
    for precision, path in (pair.split("=") for pair in args.against):
        off = np.abs(tifffile.imread(path)[inner] / 255 - p[inner])[image[inner] != 0]
        for what, value in ("most", off.max()), ("mean", off.mean()):
            print("marscan", args.net, precision, what + " off PyTorch f32", round(float(value), 6), "", sep=",")


if args.against:
    differences()
    raise SystemExit
flops = flops_per_px(NETS[args.net])[0]
for name, dtype, tf32, compiled in [mode for mode in MODES if mode[0] in args.modes.split(",")]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        limit = peak(dtype or torch.float32)
        say(name, "peak of a product", round(limit / 1e12, 3), "TFLOP/s")
        if "scan" in args.what:
            net = network(compiled, False)
            scan(net, dtype)  # cold
            seconds, mpx = scan(net, dtype)
            say(name, "scan", round(mpx / seconds, 3), "Mpx/s")
            say(name, "share of the peak", round(mpx * 1e6 / seconds * flops / limit, 4), "")
        if "training" in args.what:
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            say(name, "training", round(train(network(compiled, True), dtype), 2), "images/s")
            if cuda:
                say(name, "training card memory", round(torch.cuda.max_memory_reserved() / 2**20), "MiB")
    except Exception as why:  # one mode that fails costs itself
        say(name, "failed", str(why).splitlines()[0].replace(",", ";")[:80], "")
