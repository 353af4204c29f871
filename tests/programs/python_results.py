"""Prints each test of a JUnit file of Python's own test runner with how it ended.

usage: python_results.py [--failed] FILE [AGAIN...]

What failed in FILE and was good in one of the others, which are of runs of that alone, is good.
--failed: only the names of what failed, for the runner's -m.
"""
import sys
import xml.etree.ElementTree


def ending(case):
    kinds = {element.tag for element in case}
    return "failed" if kinds & {"error", "failure"} else "skipped" if "skipped" in kinds else "good"


def endings(path):
    return [(case.get("name"), ending(case))
            for case in xml.etree.ElementTree.parse(path).iter("testcase")]


only_failed = sys.argv[1] == "--failed"
first, *again = sys.argv[1 + only_failed:]
good_again = {name for path in again for name, how in endings(path) if how == "good"}
found = [(name, "good" if how == "failed" and name in good_again else how)
         for name, how in endings(first)]
if only_failed:
    # Behind the name stands what a subtest was about.
    for line in sorted({name.split()[0] for name, how in found if how == "failed"}):
        print(line)
else:
    for line in sorted(f"{name} {how}" for name, how in found):
        print(line)
