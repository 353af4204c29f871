"""What the runs come to: medians, ratios to the best peer, geometric means, losses.

A results file (build/workloads/run.json) is a dictionary:

  format      2; another number is not understood
  machine     name, processors, memory, kernel, huge pages, date, commit, of the run
  libraries   {name: path}; missing  {library: why}; skipped  {case: why}
  cases       {name: {kind, about}} in the order of the tables
  runs        {case: {library: [one dictionary for each measured round]}}
  memory      {case: {library: figures of the memory run, timeline included}}
  latency     {case: {library: {malloc|free: calls, percentiles, curve}}}
  failures    {case: {library: what happened}}
  rounds, seconds, load_of_others

All else is computed from these, by rows() and means().
"""

import json
import statistics

import harness
from harness import BASELINE, SUBJECT

FORMAT = 2

# key, heading, unit, how much is as good as nothing (ratios are made of sums with it)
METRICS = [
    ("wall_s", "time", "s", 0.0),
    ("cpu_s", "processor time", "s", 0.0),
    ("peak_kib", "peak resident", "KiB", 0.0),
    ("final_kib", "final resident", "KiB", 512),
    ("faults", "page faults", "", 100),
    ("system_s", "system time", "s", 0.004),
    ("malloc_p50", "malloc, median", "ns", 2),
    ("malloc_p99", "malloc, 99 %", "ns", 2),
    ("malloc_p99.9", "malloc, 99.9 %", "ns", 2),
    ("malloc_p99.99", "malloc, 99.99 %", "ns", 2),
    ("free_p50", "free, median", "ns", 2),
    ("free_p99", "free, 99 %", "ns", 2),
    ("free_p99.9", "free, 99.9 %", "ns", 2),
]
HEADINGS = {key: heading for key, heading, _, _ in METRICS}
SLACK = {key: slack for key, _, _, slack in METRICS}

# A difference of less is none, however little the runs differ.
SAME = 0.03
# A row is noisy when the middle half of like runs is further apart than this.
NOISY_SPREAD = 0.10
NOISY_LOAD = 0.10


class Unreadable(Exception):
    """A results file that is none; the text names it and says why."""


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Unreadable(f"{path}: not JSON, perhaps truncated: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise Unreadable(f"{path}: not a results file of format {FORMAT}")
    wanted = ("libraries", "cases", "runs", "memory", "latency", "failures", "rounds")
    lacking = [key for key in wanted if key not in data]
    if lacking:
        raise Unreadable(f"{path}: lacks {', '.join(lacking)}")
    return data


def series(data, case, library, key):
    """The values of one figure over the rounds; of memory and latency there is only one."""
    runs = data["runs"].get(case, {}).get(library, [])
    memory = data["memory"].get(case, {}).get(library, {})
    if key in memory:  # the peak of several processes at once stands there too
        return [memory[key]]
    kind, _, percentile = key.partition("_")
    if kind in ("malloc", "free"):
        value = data["latency"].get(case, {}).get(library, {}).get(kind, {}).get(percentile)
        return [value] if value is not None else []
    if key == "cpu_s":
        return [run["user_s"] + run["system_s"] for run in runs]
    return [run[key] for run in runs if key in run]


def middle_memory(runs):
    """Of several memory runs the one in the middle, the lower of two, by what is left; and what
    is left the mean of the middle half: it falls into two heaps where a decay was just over or
    was not, and a median would be of the one or the other."""
    runs = sorted(runs, key=lambda figures: figures.get("final_kib", 0))
    found = dict(runs[(len(runs) - 1) // 2])
    if "final_kib" in found:
        outer = len(runs) // 4
        middle = runs[outer:len(runs) - outer]
        found["final_kib"] = statistics.fmean(figures.get("final_kib", 0) for figures in middle)
    return found


def works(data, case, library):
    return library not in data["failures"].get(case, {})


def row(data, case, library, key):
    """One figure of one case under one library, beside the best of the peers; or None."""
    values = series(data, case, library, key) if works(data, case, library) else []
    if not values:
        return None
    result = {"value": statistics.median(values), "min": min(values), "max": max(values),
              "spread": harness.quartile_spread(values) if min(values) > 0 else 0.0}
    peers = {}
    for other in data["libraries"]:
        if other in (library, SUBJECT) or not works(data, case, other):
            continue
        others = series(data, case, other, key)
        if others:
            peers[other] = others
    slack = SLACK.get(key, 0.0)
    if peers:
        best = min(peers, key=lambda name: statistics.median(peers[name]))
        result.update(ratio_to(values, peers[best], slack))
        result["best_peer"] = best
    if BASELINE in peers:
        result["to_baseline"] = ratio_to(values, peers[BASELINE], slack)["ratio"]
    elif library == BASELINE:
        result["to_baseline"] = 1.0
    return result


def ratio_to(values, others, slack):
    """Of runs of one round to each other, where there are rounds; median, least, greatest."""
    ratios = [(one + slack) / (other + slack) for one, other in zip(values, others)
              if other + slack > 0]
    if not ratios:
        return {"ratio": None, "ratio_min": None, "ratio_max": None}
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    if len(ratios) >= 5:  # the middle half: an outlier says something of the machine only
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"ratio": middle, "ratio_min": low, "ratio_max": high}


def rows(data, key):
    """{case: {library: row}} of one figure."""
    return {case: {library: found for library in data["libraries"]
                   if (found := row(data, case, library, key))}
            for case in data["cases"]}


def means(data, key, kinds=("shape", "program")):
    """For each library the geometric mean of its ratios to the best peer, and of how many."""
    result = {}
    for library in data["libraries"]:
        found = [row(data, case, library, key) for case, about in data["cases"].items()
                 if about["kind"] in kinds]
        for name, ratio in (("best", "ratio"), ("baseline", "to_baseline")):
            ratios = [entry[ratio] for entry in found if entry and entry.get(ratio)]
            if ratios:
                result.setdefault(library, {})[name] = harness.geometric_mean(ratios)
                result[library].setdefault("cases", len(ratios))
    return result


def losses_and_wins(data, key, library=SUBJECT):
    """Cases in which the library is clearly behind the best peer, and clearly ahead."""
    losses, wins = [], []
    for case in data["cases"]:
        entry = row(data, case, library, key)
        if not entry or entry.get("ratio") is None:
            continue
        if entry["ratio"] > 1 + SAME and entry["ratio_min"] > 1:
            losses.append((entry["ratio"], case, entry))
        elif entry["ratio"] < 1 - SAME and entry["ratio_max"] < 1:
            wins.append((entry["ratio"], case, entry))
    return sorted(losses, reverse=True, key=lambda loss: loss[0]), sorted(
        wins, key=lambda win: win[0])


def noise(data):
    """(number of noisy rows, of all, a verdict or None)."""
    spreads = [entry["spread"] for by_library in rows(data, "wall_s").values()
               for entry in by_library.values()]
    noisy = sum(spread > NOISY_SPREAD for spread in spreads)
    verdict = None
    if data["rounds"] < 3:
        verdict = "TOO FEW ROUNDS to tell noise from difference"
    elif data.get("load_of_others", 0) > NOISY_LOAD or noisy * 3 > len(spreads):
        verdict = "TOO NOISY to tell small differences of time: repeat it on a quiet machine"
    return noisy, len(spreads), verdict


def compare(data, before):
    """Beside an earlier run: {figure: (geometric mean of now over then, cases, worse, better)}.

    What is compared are the library's ratios to the baseline's in the same run, so that a
    faster machine alone is no progress.
    """
    result = {}
    for key, *_ in METRICS:
        changes = []
        for case in data["cases"]:
            now, then = row(data, case, SUBJECT, key), row(before, case, SUBJECT, key)
            if now and then and now.get("to_baseline") and then.get("to_baseline"):
                changes.append((now["to_baseline"] / then["to_baseline"], case))
        if changes:
            changes.sort()
            mean = harness.geometric_mean([change for change, _ in changes])
            result[key] = (mean, len(changes),
                           [change for change in reversed(changes) if change[0] > 1 + SAME],
                           [change for change in changes if change[0] < 1 - SAME])
    return result


# Of two runs of one commit, the geometric means of ratios are to be no further apart.
REPEATS = 0.03


def repeats(data, before):
    """Two runs' geometric means of the library's ratios to the best peer: {figure: (then,
    now, change, cases)}, over the cases that both have."""
    result = {}
    for key, *_ in METRICS:
        found = [(then["ratio"], now["ratio"]) for case in data["cases"]
                 if (now := row(data, case, SUBJECT, key)) and now.get("ratio")
                 and (then := row(before, case, SUBJECT, key)) and then.get("ratio")]
        if found:
            then, now = (harness.geometric_mean(values) for values in zip(*found))
            result[key] = (then, now, now / then - 1, len(found))
    return result
