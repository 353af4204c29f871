#!/usr/bin/env python3
"""Beside each other: two runs of the suite, or one and an earlier one.

    workloads/compare.py [--figures NAME,..] BEFORE.json AFTER.json

First the geometric means of the library's ratios to the best peer of each case, then and now:
for two runs on one commit they say whether the suite can tell a difference, which it can when
they are no more than 3 % apart.  Then the library's ratios to glibc's, case by case.

Exit status: 0 all means are within 3 %; 1 one is not; 2 a file cannot be read, or the two have
nothing in common.
"""

import sys

sys.dont_write_bytecode = True

import argparse

import harness
import results
from harness import BASELINE, SUBJECT, say

# What the verdict is about unless told otherwise: the figures a person looks for first.
FIGURES = ["wall_s", "cpu_s", "peak_kib", "final_kib"]


def say_comparison(data, before, path, figures=tuple(FIGURES)):
    """What changed since the run in the file at path; True if the means are the same."""
    commit = before.get("machine", {}).get("commit", "unknown")
    apart = []
    say(f"\nagainst {path} ({commit}): geometric means of {SUBJECT}'s ratios to the best peer")
    say(f"  {'':18} {'then':>7} {'now':>7} {'change':>8} {'cases':>6}")
    for key, (then, now, change, nr_cases) in results.repeats(data, before).items():
        judged = key in figures
        if judged and abs(change) > results.REPEATS:
            apart.append(f"{results.HEADINGS[key]} {change:+.1%}")
        say(f"  {results.HEADINGS[key]:18} {then:7.3f} {now:7.3f} {change:+8.1%} {nr_cases:6}"
            + ("" if judged else "  (not judged)"))
    say(f"the two runs differ by more than {results.REPEATS:.0%} in: {', '.join(apart)}" if apart
        else f"the two runs are the same within {results.REPEATS:.0%}")
    say(f"\n{SUBJECT}'s ratios to {BASELINE}'s, now over then")
    for key, (mean, nr_cases, worse, better) in results.compare(data, before).items():
        say(f"  {results.HEADINGS[key]:18} {mean:6.3f} over {nr_cases} cases"
            + "".join(f"; {word}: {', '.join(f'{name} {change:.2f}' for change, name in found[:6])}"
                      for word, found in (("worse", worse), ("better", better)) if found))
    return not apart


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", metavar="BEFORE.json")
    parser.add_argument("after", metavar="AFTER.json")
    parser.add_argument("--figures", metavar="NAME,..", default=",".join(FIGURES),
                        help=f"what is judged (default {','.join(FIGURES)})")
    options = parser.parse_args()
    figures = options.figures.split(",")
    if unknown := set(figures) - set(results.HEADINGS):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}; "
                     f"there are {', '.join(results.HEADINGS)}")
    try:
        before, after = results.load(options.before), results.load(options.after)
    except results.Unreadable as error:
        harness.give_up(str(error))
    for path, data in ((options.before, before), (options.after, after)):
        _, _, verdict = results.noise(data)
        if verdict:
            say(f"{path}: {verdict}")
    if not set(figures) & set(results.repeats(after, before)):
        harness.give_up("the two runs have no case in common")
    return 0 if say_comparison(after, before, options.before, figures) else 1


if __name__ == "__main__":
    sys.exit(main())
