"""The table of bench/peers.sh: medians over the rounds, their range, ratios and GFLOP/s.

    peers_table.py RAW.CSV ROWS VALID_MPX PEAK_GFLOPS MFLOP_UNET1 MFLOP_UNET3"""
import csv, datetime, statistics, sys

COLS = 4096
rows, megapixels = list(csv.DictReader(open(sys.argv[1]))), int(sys.argv[2]) * COLS / 1e6
cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
rounds, networks = max(int(row["round"]) for row in rows), list(dict.fromkeys(row["network"] for row in rows))
runs = {}
for row in rows:
    runs.setdefault((row["system"], row["precision"]), {}).setdefault(row["network"], []).append(row)
valid, peak, flop = float(sys.argv[3]), float(sys.argv[4]), dict(zip(networks, map(float, sys.argv[5:])))
ours = [key for key in runs if key[0].startswith("marscan")]
precisions = " and ".join(key[1] for key in ours)


def rates(key, network):
    return [megapixels / float(row["seconds"]) for row in runs[key][network]]


print(f"""# Whole pipelines beside Python's

`ROWS={sys.argv[2]} ROUNDS={rounds} bench/peers.sh PEERS PYTHON OUT`, {datetime.date.today()}: one striped scene of {sys.argv[2]} x {COLS} px
({megapixels:.1f} Mpx) with slanted borders, one file of random weights a network, 2 threads, on {cpu}. In turn, {rounds} rounds; seconds of the
whole command, from its start to the catalogue. Mpx/s: median (lowest to highest). The ratios are marscan's medians in {precisions} over that of the row.
GFLOP/s: what the network's convolutions take as they are defined for the {valid} valid Mpx, {' and '.join(f'{name} {value} MFLOP a pixel' for name, value in flop.items())},
and of PyTorch's f32 matrix product here in the same run, {peak} GFLOP/s; Winograd's products are fewer than the definition's.
""")
heads = [f"{network}, Mpx/s | marscan {precisions} is | GFLOP/s | MiB | impacts" for network in networks]
print(f"| system | {' | '.join(heads)} |")
print("|---" * (1 + 5 * len(networks)) + "|")
for key in runs:
    cells = []
    for network in networks:
        theirs = statistics.median(rates(key, network))
        ratios = ", ".join(f"{statistics.median(rates(mine, network)) / theirs:.2f}" for mine in ours)
        low, high = min(rates(key, network)), max(rates(key, network))
        memory = max(int(row["peak_mib"]) for row in runs[key][network])
        rate = 1e3 * theirs / megapixels * valid * flop[network]
        impacts = ", ".join(sorted({row["impacts"] for row in runs[key][network]}, key=int))
        cells += [f"{theirs:.3f} ({low:.3f} to {high:.3f})", f"{ratios} x", f"{rate:.0f}, {rate / peak:.0%}", str(memory), impacts]
    print(f"| {key[0]} {key[1]} | {' | '.join(cells)} |")
print("""
Impacts differ in bf16, and between marscan and all others: near the scene's edges, which these pad with zeros, and, of `unet3`, near the
seams of their windows, which overlap by less than the network sees. Two counts in a cell are of two rounds. ncnn runs with its input kept
alive, see `bench/peers.sh`. Every run is in `raw.csv`.""")
