"""The campaign of hostile inputs, kills, signals and full disks: nothing lost, nothing hangs, nothing silent.

python notebooks/experiments/robustness/run.py [--cases 10000] [--seed 0] [--jobs 2]

Writes results.json, and the table in README.md, into the folder of this file, or another. An interrupted run goes on
where it was: outcomes are kept in unfinished.jsonl. One case again, with what it wrote:

python notebooks/experiments/robustness/run.py --kinds templates --index 17
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"  # processes are forked, and each takes one core
ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from tests.helpers.campaign.case import FAULTS, Outcome  # noqa: E402
from tests.helpers.campaign.runner import KINDS, campaign, table, tasks  # noqa: E402

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
COLUMNS = ("cases", "done", "refused", *FAULTS)
MOST_FAULTS = 100
"""That are written down; the table counts all of them."""


def commit():
    """Hash of the commit that is checked out, with + for a tree that differs from it."""
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
    try:
        found = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "--", "textdiff"], capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip() + "+" * bool(changed.stdout.strip())


def hardware():
    """The processor, and how many cores there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    return f"{os.cpu_count()} cores of {name}"


def page(found):
    """The table of README.md, and the faults."""
    lines = [
        f"{found['table']['all']['cases']:,} cases of seed {found['seed']} on {found['hardware']}, {found['jobs']} at "
        f"once; commit {found['commit']}, {found['date']}.",
        "",
        f"| kind | {' | '.join(COLUMNS)} |",
        f"|---|{'---:|' * len(COLUMNS)}",
        *(f"| {kind} | {' | '.join(f'{row[name]:,}' for name in COLUMNS)} |" for kind, row in found["table"].items()),
    ]
    if found["faults"]:
        lines += ["", f"Faults: {len(found['faults'])}, see results.json."]
    return "\n".join(lines)


def write(found, folder):
    """results.json, and README.md with the table between its markers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{page(found)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def outcomes(todo, options, unfinished):
    """Outcomes of all tasks: those of an interrupted run, and then new ones, which are kept in a file at once."""
    key = [options.seed, commit()]
    kept = {}
    if unfinished.exists():
        for line in unfinished.read_text(encoding="utf-8").split("\n")[:-1]:
            of, outcome = json.loads(line)
            if of == key:
                kept[outcome["kind"], outcome["index"]] = Outcome(**outcome)
    yield from (kept[task] for task in todo if task in kept)
    missing = [task for task in todo if task not in kept]
    if not missing:
        return
    with unfinished.open("a" if kept else "w", encoding="utf-8") as file:
        for outcome in campaign(missing, options.seed, options.jobs):
            file.write(json.dumps([key, asdict(outcome)]) + "\n")
            file.flush()
            yield outcome


def main(arguments=None):
    """Run the campaign; the exit status is 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_600, help="in all; of each kind its share")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes at once")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--kill-share", type=float, default=1.0, help="of the kills")
    parser.add_argument("--index", type=int, help="only the case of this number of each kind, and write nothing")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, help="folder of the results")
    options = parser.parse_args(arguments)
    if options.index is not None:
        found = list(campaign([(kind, options.index) for kind in options.kinds], options.seed, options.jobs))
        print("\n".join(f"{one.kind} {one.index}: {one.what}\n  {one.outcome}: {one.why}" for one in found))
        return int(any(one.outcome in FAULTS for one in found))

    todo, started, found = tasks(options.cases, options.kinds, options.kill_share), time.time(), []
    options.to.mkdir(parents=True, exist_ok=True)
    unfinished = options.to / "unfinished.jsonl"
    for outcome in outcomes(todo, options, unfinished):
        found.append(outcome)
        if outcome.outcome in FAULTS:
            print(f"{outcome.kind} {outcome.index}, {outcome.outcome}: {outcome.what}\n  {outcome.why}", flush=True)
        elif len(found) % 500 == 0:
            print(f"{len(found)} of {len(todo)} after {time.time() - started:.0f} s", flush=True)
    faults = [asdict(one) for one in found if one.outcome in FAULTS]
    results = {
        "commit": commit(),
        "date": date.today().isoformat(),
        "seed": options.seed,
        "jobs": options.jobs,
        "hardware": hardware(),
        "seconds": round(time.time() - started, 1),
        "table": table(found),
        "faults": faults[:MOST_FAULTS],
    }
    write(results, options.to)
    unfinished.unlink(missing_ok=True)
    print(page(results))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
