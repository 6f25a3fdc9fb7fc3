#!/usr/bin/env python3
"""Makes the table of gpu.sh from its raw.csv."""
import csv
import sys

rows = list(csv.DictReader(open(sys.argv[1])))
value = {(r["system"].split()[0], r["network"], r["precision"], r["what"]): r["value"] for r in rows}
modes = list(dict.fromkeys((r["system"].split()[0], r["precision"]) for r in rows))
get = lambda *key: value.get(key, "")
number = lambda text: float(text) if text else None


def share(system, net, precision):
    """Of the fastest product of matrices that PyTorch does in this precision."""
    kind = precision.split()[0]
    peak = number(next((v for (s, n, p, w), v in value.items() if s == "torch" and w == "peak of a product" and p.split()[0] == kind), ""))
    rate = number(get(system, net, precision, "network"))
    if system == "torch":
        rate = peak * float(get(system, net, precision, "share of the peak") or 0) if peak else None
    return f"{100 * rate / peak:.0f} %" if peak and rate else ""


print("| | `unet1` scan, Mpx/s | of the product | `unet3` scan | of the product | most off f32 (`unet1`, `unet3`) | `unet1` training, images/s | MiB | `unet3` training | MiB |")
print("|---|---|---|---|---|---|---|---|---|---|")
for system, precision in modes:
    cells = [f"{'marscan' if system == 'marscan' else 'PyTorch'} {precision}"]
    for net in ("unet1", "unet3"):
        cells += [get(system, net, precision, "scan"), share(system, net, precision)]
    cells.append(", ".join(filter(None, (get(system, net, precision, "most off PyTorch f32") for net in ("unet1", "unet3")))))
    for net in ("unet1", "unet3"):
        cells += [get(system, net, precision, "training"), get(system, net, precision, "training card memory")]
    print("| " + " | ".join(cells) + " |")
