"""What the benchmark scripts share: finding libraries, running programs, statistics.

Needs nothing but Python's standard library, 3.8 or later.
"""

import glob
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# The peers by the name printed and the library that `ldconfig -p` lists.
PEERS = {
    "mimalloc": "libmimalloc.so.2",
    "jemalloc": "libjemalloc.so.2",
    "tcmalloc": "libtcmalloc_minimal.so.4",
    "tbb": "libtbbmalloc_proxy.so.2",
}
SUBJECT = "pageblock"
BASELINE = "glibc"
GLIBC = "libc.so.6"  # preloaded where a program might bring an allocator of its own

# Settings of other allocators that would make a run something else than the default.
# The library's own variables are kept: they are how a setting is measured.
FOREIGN_SETTINGS = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_", "MIMALLOC_", "TCMALLOC_",
                    "JE_MALLOC_CONF")


class Failure(Exception):
    """A run that did not do its work: what happened, in a few words."""


def say(text=""):
    print(text, flush=True)


def give_up(text):
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr)
    sys.exit(2)


def find_library(soname):
    """Path of a shared library of this machine, or None."""
    ldconfig = shutil.which("ldconfig", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if ldconfig:
        listed = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False)
        for line in listed.stdout.splitlines():
            words = line.split()
            if words and words[0] == soname and os.path.exists(words[-1]):
                return words[-1]
    for pattern in ("/usr/lib/*-linux-gnu/", "/usr/lib64/", "/usr/lib/", "/usr/local/lib/"):
        for path in sorted(glob.glob(pattern + soname)):
            return path
    return None


def add_common_options(parser):
    parser.add_argument("--build", default=os.path.join(HERE, os.pardir, "build"),
                        metavar="DIR", help="where make put the library and the programs")
    parser.add_argument("--alloc", action="append", default=[], metavar="NAME=PATH",
                        help="measure this library too (PATH `none` for glibc); may be repeated")
    parser.add_argument("--alone", action="store_true",
                        help="measure only what --alloc names, not pageblock, glibc and the "
                        "peers")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE too")


def libraries_and_missing(options):
    """Names to what is preloaded, and those that were wanted and are not there, with why."""
    libraries, missing = {}, {}
    wanted = {}
    if not options.alone:
        wanted = {SUBJECT: os.path.join(options.build, "libpageblock.so"), BASELINE: "none",
                  **{name: find_library(soname) or soname for name, soname in PEERS.items()}}
    for choice in options.alloc:
        name, separator, path = choice.partition("=")
        if not separator or not name or not path:
            give_up(f"--alloc wants NAME=PATH, not {choice!r}")
        wanted[name] = path
    for name, path in wanted.items():
        if path == "none":
            libraries[name] = GLIBC
        elif os.path.isfile(path):
            libraries[name] = os.path.abspath(path)
        else:
            missing[name] = f"there is no {path}"
            say(f"left out: {name}, because there is no {path}")
    return libraries, missing


def chosen_libraries(options):
    """Names to paths, the path of glibc being None; says which are missing."""
    libraries, _ = libraries_and_missing(options)
    return {name: None if path == GLIBC else path for name, path in libraries.items()}


def program_path(options, name):
    path = os.path.abspath(os.path.join(options.build, "workloads", name))
    if not os.access(path, os.X_OK):
        give_up(f"{name} is not built; run `make {os.path.relpath(path)}` first")
    return path


def clean_environment():
    return {name: value for name, value in os.environ.items()
            if not name.startswith(FOREIGN_SETTINGS)}


class Launcher:
    """Runs programs under a library by way of launch.c, whose header says why."""

    def __init__(self, options, limit_s=60):
        self.program = program_path(options, "launch")
        self.limit_s = limit_s
        self.environment = clean_environment()
        self.directory = tempfile.TemporaryDirectory(prefix="pageblock-bench-")

    def close(self):
        self.directory.cleanup()

    def run(self, command, library, exact=False):
        """One run: a dict of wall_s, cpu_s, peak_kib and, if exact, the processes."""
        report = os.path.join(self.directory.name, "report")
        arguments = [self.program, "-t", str(self.limit_s)]
        if library:
            arguments += ["-e", "LD_PRELOAD=" + library]
        if exact:
            arguments += ["-x"]
        done = subprocess.run(arguments + [report] + command, env=self.environment,
                              cwd=self.directory.name, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True, errors="replace", check=False)
        message = done.stderr.strip().splitlines()[:1]
        if done.returncode != 0:
            raise Failure("; ".join(["could not be launched"] + message))
        result = {"processes": []}
        with open(report, encoding="utf-8", errors="replace") as lines:
            for words in map(str.split, lines):
                if words[0] == "process":
                    result["processes"].append({
                        "name": words[1], "resident_kib": int(words[2]),
                        "anonymous_kib": int(words[3]), "peak_kib": int(words[4])})
                else:
                    status = words[1]
                    result["wall_s"] = int(words[2]) / 1e9
                    result["cpu_s"] = (int(words[3]) + int(words[4])) / 1e6
                    result["peak_kib"] = int(words[5])
        if status == "timeout":
            raise Failure(f"did not end within {self.limit_s} s")
        if status != "0":
            number = int(status)
            how = f"signal {number - 128}" if number > 128 else f"status {number}"
            raise Failure("; ".join([f"ended with {how}"] + message))
        # The dynamic linker only complains when it cannot preload, and goes on without.
        if message:
            raise Failure("wrote to standard error: " + message[0])
        return result


def markdown(head, rows):
    """Lines of a table; all columns but the first are of numbers."""
    return ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1),
            *("| " + " | ".join(row) + " |" for row in rows)]


def put_between(path, name, lines):
    """What stands between a file's markers NAME:begin and NAME:end becomes these lines."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise Failure(f"{path} has no markers of {name}")
    before, rest = text.split(begin)
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([before + begin, *lines, end + rest.split(end)[1]]))


def add_to_report(build, name, title, columns, rows, text, **more):
    """A section in the page that workloads/report makes; the path of what it is made from."""
    folder = os.path.join(build, "report", "extra")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name + ".json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"title": title, "columns": columns, "rows": rows, "text": text, **more}, file)
    return path


def first_line(path, otherwise="?"):
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip()
    except OSError:
        return otherwise


def machine():
    """What it was measured on."""
    model, is_virtual = "?", False
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    model = " ".join(line.split(":", 1)[1].split())
                is_virtual |= "hypervisor" in line.split()
    except OSError:
        pass
    commit = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"],
                            capture_output=True, text=True, check=False).stdout.strip()
    return {"processor": model, "processors": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "kernel": platform.release().split("-")[0],
            "virtual": is_virtual,
            "huge_pages": first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "commit": commit or "unknown"}


def in_words(about):
    """Of machine(), for whoever reads figures."""
    return (f"{about['processors']} {'virtual ' if about.get('virtual') else ''}processors "
            f"({about['processor']}), {about['memory_gib']} GiB, Linux {about['kernel']}, huge "
            f"pages {about['huge_pages']}; commit {about['commit']}, {about['date']}")


def geometric_mean(values):
    return math.exp(statistics.fmean(map(math.log, values))) if values else float("nan")


def quartile_spread(values):
    """Distance of the quartiles over the median: how far apart like runs are."""
    if len(values) < 3:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)


class OtherLoad:
    """The share of the machine that others use from start to stop."""

    def __init__(self):
        self.busy_start, self.all_start = self.read()
        self.own_start = self.own()

    @staticmethod
    def read():
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(word) for word in stat.readline().split()[1:9]]
        idle = ticks[3] + ticks[4]
        return sum(ticks) - idle, sum(ticks)

    @staticmethod
    def own():
        times = os.times()
        return sum(times[:4]) * os.sysconf("SC_CLK_TCK")

    def share(self):
        """Time stolen by the host counts, time of our own that was not waited for too."""
        busy, total = self.read()
        others = busy - self.busy_start - (self.own() - self.own_start)
        return max(0.0, others / max(1, total - self.all_start))
