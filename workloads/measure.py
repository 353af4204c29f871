"""One run of a case: programs started under a library, and what they took.

A case's run function gets a Run. It starts the programs to be measured with batch() or
serve(), checks what they say, and raises harness.Failure if that is wrong. What is not
measured (clients, checks) it runs as it likes. There are three kinds of runs:

  time     nothing is added; wall time, processor time, page faults, peak of the largest process
  memory   a thread reads the sizes of all processes every few milliseconds; programs idle
           before they end (WORKLOADS_IDLE_MS), so that one sees what they give back
  latency  probe.so stands in front of the library

Time is what batch() took, or what passes inside `with run.timed():`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import harness
from harness import Failure

IDLE_MS = 2000
SAMPLE_S = 0.010
LAST = 10  # samples at the end, of which the median is taken

TIME, MEMORY, LATENCY = "time", "memory", "latency"


def descendants(pid):
    """The processes below this one, as far as they can be seen."""
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as file:
                    waiting += map(int, file.read().split())
        found.append(parent)
    return found[1:]


def process_sizes(pid):
    """(proportional, anonymous, in huge pages) in KiB; zeros when it is gone."""
    sizes = {b"Pss:": 0, b"Anonymous:": 0, b"AnonHugePages:": 0}
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/smaps_rollup", "rb", buffering=0) as file:
            for line in file.read().splitlines()[1:]:
                name, number, *_ = line.split()
                if name in sizes:
                    sizes[name] = int(number)
    return tuple(sizes.values())


class Sampler(threading.Thread):
    """Sizes over time of all processes below one."""

    def __init__(self, launcher_pid):
        super().__init__(daemon=True)
        self.pid = launcher_pid
        self.samples = []  # (seconds, proportional, anonymous, in huge pages, processes)
        self.ended = threading.Event()
        self.start()

    def run(self):
        start = time.monotonic()
        while not self.ended.is_set():
            pids = descendants(self.pid)
            sizes = [size for size in map(process_sizes, pids) if size[0]]
            if sizes:
                self.samples.append((time.monotonic() - start,
                                     *map(sum, zip(*sizes)), len(sizes)))
            # A sample of a large process takes a while itself.
            self.ended.wait(SAMPLE_S)

    def stop(self):
        self.ended.set()
        self.join()


class Process:
    """A program started by way of launch.c."""

    def __init__(self, run, command, cwd, stdin, env):
        self.run = run
        self.report = run.path("report")
        self.stdout_path = run.path("stdout")
        self.stderr_path = run.path("stderr")
        self.name = os.path.basename(command[0])
        arguments = [run.launch, "-t", str(run.limit_s)]
        if run.preload:
            arguments += ["-e", "LD_PRELOAD=" + run.preload]
        environment = dict(run.environment, **(env or {}))
        with open(self.stdout_path, "wb") as out, open(self.stderr_path, "wb") as err:
            self.launcher = subprocess.Popen(
                arguments + [self.report] + command, env=environment, stdout=out, stderr=err,
                stdin=stdin or subprocess.DEVNULL, cwd=cwd or run.directory)
        self.sampler = Sampler(self.launcher.pid) if run.kind == MEMORY else None

    @property
    def pid(self):
        """The program's own process."""
        with open(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children",
                  encoding="ascii") as file:
            children = file.read().split()
        if not children:
            raise Failure(f"{self.name} is gone")
        return int(children[0])

    def stdout(self):
        with open(self.stdout_path, "rb") as file:
            return file.read()

    def complaint(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
        # The dynamic linker only complains when it cannot preload, and goes on without.
        for line in lines:
            if "cannot be preloaded" in line:
                return line
        return lines[-1][:200] if lines else ""

    def end(self, statuses=(0,)):
        """Waits for its end, which must be one of these; its figures are added to the run's."""
        self.launcher.wait()
        if self.sampler:
            self.sampler.stop()
        complaint = self.complaint()
        if self.launcher.returncode:
            raise Failure(f"{self.name} could not be launched: {complaint}")
        with open(self.report, encoding="ascii") as file:
            _, status, *words = file.readline().split()
        if status == "timeout":
            raise Failure(f"{self.name} did not end within {self.run.limit_s} s")
        number = int(status)
        if number not in statuses:
            how = f"signal {number - 128}" if number > 128 else f"status {number}"
            raise Failure("; ".join(filter(None, [f"{self.name} ended with {how}", complaint])))
        if "cannot be preloaded" in complaint:
            raise Failure(complaint)
        wall_ns, user_us, system_us, peak_kib, minor, major, ticks = map(int, words)
        self.run.add(wall_ns / 1e9, user_us / 1e6, system_us / 1e6, peak_kib, minor + major,
                     ticks, self.sampler.samples if self.sampler else [])

    def kill(self):
        """For when something went wrong: all of it, at once."""
        if self.launcher.poll() is None:
            pids = descendants(self.launcher.pid)
            self.launcher.send_signal(signal.SIGTERM)  # it kills the program's group
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.launcher.wait()
        if self.sampler:
            self.sampler.stop()


class Server(Process):
    """A program that runs until told to stop."""

    def connect(self, path_or_port, seconds=20):
        """A connected socket, as soon as the program listens."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if isinstance(path_or_port, str):
                    connection = socket.socket(socket.AF_UNIX)
                    connection.connect(path_or_port)
                else:
                    connection = socket.create_connection(("127.0.0.1", path_or_port))
                connection.settimeout(self.run.limit_s)
                return connection
            except OSError as error:
                if self.launcher.poll() is not None:
                    self.end(statuses=())
                if time.monotonic() > deadline:
                    raise Failure(f"{self.name} does not listen: {error}") from error
                time.sleep(0.01)

    def stop(self, signal_number=signal.SIGTERM, statuses=(0,)):
        os.kill(self.pid, signal_number)
        self.end(statuses)


class Run:
    """One run of one case under one library."""

    def __init__(self, build, library, kind=TIME, limit_s=60, directory=None):
        self.build = build
        self.kind = kind
        self.nr_files = 0
        self.limit_s = limit_s
        self.launch = os.path.join(build, "workloads", "launch")
        self.directory = tempfile.mkdtemp(prefix="run-", dir=directory)
        os.chmod(self.directory, 0o755)
        self.environment = harness.clean_environment()
        self.preload = library
        self.probe_path = None
        if kind == MEMORY:
            self.environment["WORKLOADS_IDLE_MS"] = str(IDLE_MS)
        if kind == LATENCY:
            self.probe_path = self.path("probe")
            with open(self.probe_path, "wb"):
                os.chmod(self.probe_path, 0o666)
            self.environment["PROBE_FILE"] = self.probe_path
            self.preload = os.path.join(build, "workloads", "probe.so") + \
                (":" + library if library else "")
        self.processes = []
        self.timed_s = None
        self.figures = {"wall_s": 0.0, "user_s": 0.0, "system_s": 0.0, "faults": 0,
                        "peak_kib": 0}
        self.samples = []
        self.settled = None  # the last samples before it was told to stop
        self.ticks_per_s = 1e9

    def path(self, name):
        """A new path in the run's directory."""
        self.nr_files += 1
        return os.path.join(self.directory, f"{name}.{self.nr_files}")

    def program(self, name):
        return os.path.join(self.build, "workloads", name)

    def batch(self, command, cwd=None, stdin=None, env=None, statuses=(0,)):
        """Runs a program to its end; returns its standard output."""
        process = Process(self, command, cwd, stdin, env)
        self.processes.append(process)
        process.end(statuses)
        return process.stdout()

    def serve(self, command, cwd=None, env=None):
        server = Server(self, command, cwd, None, env)
        self.processes.append(server)
        return server

    @contextlib.contextmanager
    def timed(self):
        start = time.monotonic()
        yield
        self.timed_s = (self.timed_s or 0.0) + time.monotonic() - start

    def settle(self):
        """What the program no longer needs it could give back now."""
        if self.kind == MEMORY:
            time.sleep(IDLE_MS / 1000)
            self.settled = self.processes[-1].sampler.samples[-LAST:]

    def same(self, what, wanted, got):
        if wanted != got:
            raise Failure(f"{what}: wanted {str(wanted)[:60]!r}, got {str(got)[:60]!r}")

    def add(self, wall_s, user_s, system_s, peak_kib, faults, ticks_per_s, samples):
        figures = self.figures
        figures["wall_s"] += wall_s
        figures["user_s"] += user_s
        figures["system_s"] += system_s
        figures["faults"] += faults
        figures["peak_kib"] = max(figures["peak_kib"], peak_kib)
        self.ticks_per_s = ticks_per_s
        offset = self.samples[-1][0] if self.samples else 0.0
        self.samples += [(offset + sample[0], *sample[1:]) for sample in samples]

    def result(self):
        figures = dict(self.figures)
        if self.timed_s is not None:
            figures["wall_s"] = self.timed_s
        return figures

    def close(self):
        for process in self.processes:
            process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def memory_figures(run, family, idles):
    """What the samples of a memory run tell; family: of several processes at once."""
    samples = run.samples
    if not samples:
        return {}
    peak = max(samples, key=lambda sample: sample[1])
    result = {"huge_share": peak[3] / peak[2] if peak[2] else 0.0, "timeline": thin(samples)}
    if family:
        result["peak_kib"] = peak[1]
    if idles:
        # Not the very last one: the process may have been taken down already.
        last = sorted(run.settled or samples[-LAST:], key=lambda sample: sample[1])
        last = last[len(last) // 2]
        result["final_kib"] = last[1]
        result["final_huge_share"] = last[3] / last[2] if last[2] else 0.0
    return result


def thin(samples, most=160):
    """The timeline in at most so many points, peaks kept: (seconds, KiB)."""
    if len(samples) <= most:
        return [(round(sample[0], 3), sample[1]) for sample in samples]
    width = samples[-1][0] / most or 1.0
    buckets = {}
    for sample in samples:
        at = int(sample[0] / width)
        if at not in buckets or sample[1] > buckets[at][1]:
            buckets[at] = (round(sample[0], 3), sample[1])
    return [buckets[at] for at in sorted(buckets)]
