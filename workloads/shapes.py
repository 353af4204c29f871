"""The table of the shapes: what of workloads/shapes/ is run, and how."""

# name, program and arguments, what it is, MiB for warm.c where page faults are most of it,
# options: "family" several processes at once; "quick" is part of `make bench`
TABLE = [
    ("larson", "larson 2", "bleeding between threads", 0, "quick"),
    ("larson-64", "larson 64", "the same with 64 threads", 0, ""),
    ("xmalloc", "xmalloc 2 2", "producers and consumers", 0, "quick"),
    ("xmalloc-64", "xmalloc 32 32", "the same with 64 threads", 0, ""),
    ("free-only", "free_only", "one thread allocates, another one frees", 0, ""),
    ("cache-scratch", "false_sharing scratch", "passive false sharing", 0, ""),
    ("cache-thrash", "false_sharing thrash", "active false sharing", 0, ""),
    ("sh6bench", "shbench 1", "batches freed forwards and backwards", 0, "quick"),
    ("sh8bench", "shbench 8", "the same, 8 threads that swap blocks", 0, ""),
    ("mstress", "mstress 2", "a server in phases", 0, "quick"),
    ("mstress-16", "mstress 16", "the same with 16 threads", 0, ""),
    ("rptest", "rptest 2", "random sizes across threads", 0, "quick"),
    ("alloc-test", "alloc_test 1", "Pareto lifetimes, blocks used in full", 0, "quick"),
    ("alloc-test-2", "alloc_test 2", "the same with 2 threads", 0, ""),
    ("glibc-simple", "glibc_bench simple", "bursts of one size", 0, ""),
    ("glibc-thread", "glibc_bench thread", "a window of falling sizes", 0, ""),
    ("churn", "churn", "one thread, mixed sizes", 0, "quick"),
    ("large", "large", "blocks of 5 to 25 MiB", 300, "quick"),
    ("zeroed", "zeroed", "calloc of large blocks, used in part", 300, ""),
    ("grow", "grow", "growth by realloc", 300, "quick"),
    ("aligned", "aligned", "alignments of 32 bytes to 2 MiB", 0, ""),
    ("fill", "fill", "a gigabyte of small blocks", 1200, "quick"),
    ("threads", "threads", "short threads, live blocks left behind", 0, "quick"),
    ("mleak", "mleak", "is memory of ended threads found again?", 0, ""),
    ("fork-storm", "fork_storm", "a process with threads forks over and over", 0, "family"),
    ("uptime", "uptime", "days of a service, ending at night", 0, "quick"),
]


class Shape:
    """A program of workloads/shapes/, which checks itself and then idles if asked to."""

    kind = "shape"
    idles = True
    latency = True
    packages = ()

    def __init__(self, name, command, about, warm_mib, flags):
        self.name, self.about, self.warm_mib = name, about, warm_mib
        self.command = command.split()
        self.family = "family" in flags
        self.quick = "quick" in flags

    def missing(self):
        return None

    def prepare(self, preparation):
        pass

    def run(self, run):
        program, *arguments = self.command
        run.same("output", b"", run.batch([run.program(program), *arguments]))


def cases():
    return [Shape(*row) for row in TABLE]
