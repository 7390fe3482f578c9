"""What a query costs: `stories` fills gaps on one device, measured; on 8 and 64 by arithmetic.

python notebooks/experiments/cost/run.py HELD-OUT.txt [--device cuda] [--price 2.50]

A query is a text of 128 tokens with a gap of 32, filled once as `textdiff predict` does. Writes README.md and
results.json into the folder of this file, or another.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import textdiff as td
from textdiff.data import Row, documents
from textdiff.training.fill_rows import FillOptions, fill_rows

LENGTH, GAP = 128, 32
FLEETS = (1, 8, 64)
MILLION = 10**6


@dataclass(frozen=True)
class Cost:
    """Of one way to fill.

    Attributes:
        steps, batch: denoising steps, and queries side by side.
        seconds: of the device for a query; on a CPU time of one core in which the process ran.
        flops: of a query's products with weights, as they run; attention's own, some 8 % beside these, are left out.
    """

    steps: int
    batch: int
    seconds: float
    flops: float

    def utilisation(self, peak):
        """Share of the device's measured FLOP/s."""
        return self.flops / self.seconds / peak


class Clock:
    """Seconds of a device: of the CPU core only those in which this process had it."""

    def __init__(self, device):
        self.cuda, self.now = device.type == "cuda", self._wall if device.type == "cuda" else time.process_time

    @staticmethod
    def _wall():
        torch.cuda.synchronize()
        return time.perf_counter()

    def of(self, work):
        """Of one piece of work."""
        started = self.now()
        work()
        return self.now() - started


def queries(file, tokenizer, count):
    """Rows to fill, cut out of texts that are long enough, no two of one: equal evidence would be encoded but once."""
    found = []
    for text in documents([file]):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= LENGTH:
            left, right = (LENGTH - GAP) // 2, (LENGTH + GAP) // 2
            before, after = tokenizer.decode(ids[:left]), tokenizer.decode(ids[right:LENGTH])
            found.append(f"{before} [gap:{GAP}]{after}".replace("\n", " "))
        if len(found) == count:
            break
    if len(found) < count:
        sys.exit(f"{file} has {len(found)} texts of {LENGTH} tokens, expected {count}: give another file, or --rows")
    return [Row(index, template, {}) for index, template in enumerate(found)]


def fill(prior, rows, steps, batch):
    """Fill all rows, so many side by side."""
    options = FillOptions(steps=steps)
    for start in range(0, len(rows), batch):
        records = fill_rows(options.configured(prior), rows[start : start + batch], options)
        assert all("samples" in record for record in records), records


def cost(prior, rows, steps, batch):
    """Measured; the first batch is not timed."""
    rows = rows[: len(rows) // batch * batch]
    with FlopCounterMode(display=False) as counted:
        fill(prior, rows[:batch], steps, batch)
    seconds = Clock(prior.device).of(lambda: fill(prior, rows, steps, batch))
    flops = {str(of): count for of, count in counted.get_flop_counts()["Global"].items()}
    with_weights = flops.get("aten.mm", 0) + flops.get("aten.addmm", 0)
    return Cost(steps, batch, seconds / len(rows), with_weights / batch)


def peak(device, size=1024, repeats=8):
    """FLOP/s of products of large float32 matrices."""
    one = torch.rand(size, size, device=device)
    clock = Clock(device)
    return 2 * size**3 / min(clock.of(lambda: one @ one) for _ in range(repeats))


def side_by_side(file, rows, steps, batch, processes):
    """Queries per wall second of all of so many processes at once, and seconds of a core for a query."""
    with tempfile.TemporaryDirectory() as meeting:
        command = [sys.executable, __file__, file, f"--rows={rows}", f"--worker={steps},{batch},{processes},{meeting}"]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
        results = [json.loads(process.communicate()[0]) for process in started]
    wall = max(end for _, end, _ in results) - min(begin for begin, _, _ in results)
    return processes * rows / wall, sum(seconds for _, _, seconds in results) / (processes * rows)


def worker(prior, rows, steps, batch, processes, meeting):
    """Begin when the others are ready; begin, end, and seconds of the core."""
    fill(prior, rows[:batch], steps, batch)
    tempfile.mkstemp(dir=meeting)
    while len(list(Path(meeting).iterdir())) < processes:
        time.sleep(0.01)
    begin = time.time()
    seconds = Clock(prior.device).of(lambda: fill(prior, rows, steps, batch))
    print(json.dumps([begin, time.time(), seconds]))


def table(head, rows):
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def page(found, price):
    """The README of what was measured."""
    costs, top, kind = [Cost(**row) for row in found["costs"]], found["peak"], found["device"]
    largest = max(one.batch for one in costs)
    best = [one for one in costs if one.batch == largest]
    measured = table(
        ["steps", "side by side", "queries/s", "seconds per query", "tokens/s", "GFLOP per query", "utilisation"],
        [
            [
                one.steps,
                one.batch,
                f"{1 / one.seconds:.2f}",
                f"{one.seconds:.4f}",
                f"{GAP / one.seconds:.0f}",
                f"{one.flops / 1e9:.2f}",
                f"{one.utilisation(top):.0%}",
            ]
            for one in costs
        ],
    )
    fleet = table(
        [
            "steps",
            "device-seconds per query",
            "per 1,000 tokens",
            f"price of a million at {price:g} per device-hour",
            *(f"hours for a million, {count} device{'s' * (count > 1)}" for count in FLEETS),
        ],
        [
            [
                one.steps,
                f"{one.seconds:.4f}",
                f"{1000 * one.seconds / GAP:.2f}",
                f"{MILLION * one.seconds / 3600 * price:.2f}",
                *(f"{MILLION * one.seconds / 3600 / count:.2f}" for count in FLEETS),
            ]
            for one in best
        ],
    )
    if (scaling := found["scaling"]) is None:
        shared = "Two processes at once were not measured here."
    else:
        (one_rate, one_core), (two_rate, two_core) = scaling
        shared = (
            f"Two processes at once ({costs[0].steps} steps, {largest} side by side), measured beside other work: "
            f"{two_rate:.2f} queries per second of the clock against {one_rate:.2f} of one alone "
            f"({two_rate / one_rate:.2f} times), and {two_core:.4f} seconds of a core for a query against "
            f"{one_core:.4f}: a core does {one_core / two_core:.0%} of what it does alone. What the clock says depends "
            "on who else had the cores."
        )
    other = "A GPU" if kind.startswith("one CPU core") else "A CPU"
    return f"""\
# What a query costs

`stories` ({found["parameters"]:,} parameters, float32) fills a gap of {GAP} tokens in a text of {LENGTH}, as
`textdiff predict` does. Written by `python notebooks/experiments/cost/run.py HELD-OUT.txt`, {found["rows"]} queries.

Device: {kind}, torch {found["torch"]}; {top / 1e9:.0f} GFLOP/s with large float32 matrices, measured. On a CPU
seconds are those of one core in which the process ran, not those of the clock; other work ran beside it.

## Measured on one device

{measured}

Tokens are those filled. FLOP are those of the products with weights that ran (attention's own, some 8 % beside these,
are left out): evidence is encoded once, and each pass encodes the slots.

## A million queries

{fleet}

From the seconds with {largest} side by side. **One device is measured; 8 and 64 are arithmetic**: `predict` shares
nothing between devices, so the device-seconds of a query stay and the hours are divided. That leaves out the start of
each process, and the last shards, when not all devices have work.

{shared}

**{other} has not been measured**, and no figure for it is inferred here: the same command with
`--device {"cuda" if other == "A GPU" else "cpu"}` measures it. `--price` takes yours per device-hour.
"""


def named(device):
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = next((line for line in _cpuinfo() if line.startswith("model name")), "of unknown kind")
    return f"one CPU core ({model.partition(':')[2].strip() or model})"


def _cpuinfo():
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", help="held-out text")
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--price", default=1.0, type=float, help="of an hour of a device, in any currency")
    parser.add_argument("--rows", default=64, type=int, help="queries of each measurement")
    parser.add_argument("--steps", default=[4, 8, 16, 32], nargs="+", type=int)
    parser.add_argument("--batch", default=[1, 8, 32], nargs="+", type=int, help="queries side by side")
    parser.add_argument("--to", default=Path(__file__).parent, type=Path, help="folder of README.md and results.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.device.type == "cpu":
        torch.set_num_threads(1)
    prior = td.load("stories", device=options.device)
    rows = queries(options.file, prior.tokenizer, options.rows)
    if options.worker is not None:
        steps, batch, processes, meeting = options.worker.split(",", 3)
        return worker(prior, rows, int(steps), int(batch), int(processes), meeting)
    batches = [batch for batch in options.batch if batch <= len(rows)]
    shape = (options.file, len(rows), options.steps[0], batches[-1])
    found = {
        "device": named(options.device),
        "torch": torch.__version__,
        "parameters": prior.network.num_parameters(),
        "rows": len(rows),
        "peak": peak(options.device),
        "costs": [asdict(cost(prior, rows, steps, batch)) for steps in options.steps for batch in batches],
        "scaling": None,
    }
    if options.device.type == "cpu":
        found["scaling"] = [side_by_side(*shape, processes) for processes in (1, 2)]
    options.to.mkdir(parents=True, exist_ok=True)
    (options.to / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.to / "README.md").write_text(page(found, options.price), encoding="utf-8")
    print(page(found, options.price))


if __name__ == "__main__":
    main()
