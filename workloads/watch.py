"""Programs watched from outside, over a peak to a tail: resident size, huge pages, time.

A Watcher samples one process through /proc.  A Session is one run of a real program (see
programs/peaks.py) under a library: it starts it, a thread samples it, and the program's case
says when the peak is reached and when all is freed.
"""

import contextlib
import os
import select
import signal
import struct
import subprocess
import tempfile
import threading
import time

import harness
import measure
from harness import Failure

PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_S = 0.05
HUGE_EVERY = 10


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * PAGE


def peak_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next((int(line.split()[1]) * 1024 for line in lines
                     if line.startswith("VmHWM:")), 0)


def rollup(pid, *keys):
    """Of all its mappings, exact, in bytes."""
    found = dict.fromkeys(keys, 0)
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        for line in lines:
            key, _, rest = line.partition(":")
            if key in found:
                found[key] = int(rest.split()[0]) * 1024
    return tuple(found.values())


def processor_seconds(pid):
    """Of all its threads, also those that have ended: the process's own clock."""
    return time.clock_gettime(~pid << 3 | 2)


class Watcher:
    """Samples a process: [seconds since start, resident, live or None, huge or None]."""

    def __init__(self, pid, shown=None):
        self.pid = pid
        self.shown = shown
        self.start_ns = time.monotonic_ns()
        self.samples = []
        self.cpu = {}           # CPU seconds used when a phase first began
        self.ticks = 0
        self.live_peak = 0      # as the program says at each phase
        self.own_at_peak = 0    # memory of its own at that time that is not from malloc
        self.resident_peak = 0  # as the kernel says
        self.lock = threading.Lock()

    def seconds(self, ns=None):
        return ((time.monotonic_ns() if ns is None else ns) - self.start_ns) / 1e9

    def live(self):
        return struct.unpack_from("Q", self.shown)[0] if self.shown else None

    def sample(self, exact=False):
        with self.lock:
            now = self.seconds()
            try:
                self.resident_peak = max(self.resident_peak, peak_bytes(self.pid))
                if exact or self.ticks % HUGE_EVERY == 0:
                    resident, huge = rollup(self.pid, "Rss", "AnonHugePages")
                else:
                    resident, huge = resident_bytes(self.pid), None
            except (OSError, IndexError):
                return None
            self.ticks += 1
            if resident == 0:  # it is ending
                return None
            self.samples.append([round(now, 4), resident, self.live(), huge])
            return self.samples[-1]


def environment_of(library, variables=None):
    """library: what is preloaded; behind a `?` settings of PAGEBLOCK_CONF, or nothing."""
    environment = {**harness.clean_environment(), **(variables or {})}
    path, _, conf = (library or "").partition("?")
    if conf:
        before = environment.get("PAGEBLOCK_CONF")
        environment["PAGEBLOCK_CONF"] = f"{before},{conf}" if before else conf
    if path:
        environment["LD_PRELOAD"] = path
    return environment


def kill(process):
    """And what it has started, of which some may lead groups of their own."""
    if process.poll() is None:
        for pid in [process.pid, *measure.descendants(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


class Stream:
    """What a program says: lines, and so many bytes, in time."""

    def __init__(self, fd, deadline):
        self.fd, self.deadline = fd, deadline
        self.buffer = bytearray()

    def more(self):
        left = self.deadline - time.monotonic()
        if left <= 0 or not select.select([self.fd], [], [], left)[0]:
            raise Failure("does not answer in time")
        try:
            chunk = os.read(self.fd, 1 << 16)
        except OSError:  # a terminal whose other end is closed
            chunk = b""
        if not chunk:
            raise Failure("has ended")
        self.buffer += chunk

    def line(self):
        while b"\n" not in self.buffer:
            self.more()
        line, _, rest = bytes(self.buffer).partition(b"\n")
        self.buffer[:] = rest
        return line.rstrip(b"\r").decode(errors="replace")

    def exactly(self, nr_bytes):
        while len(self.buffer) < nr_bytes:
            self.more()
        found = bytes(self.buffer[:nr_bytes])
        del self.buffer[:nr_bytes]
        return found


class Recorded(Exception):
    """The trace of a run that is recorded ends at its trough; nothing is left to do."""


class Session:
    """One run.  The case calls start(), peak(), idle() and finish(), in this order.

    directory  the run's own, taken away with the session
    points     seconds after the end of freeing at which exact figures are taken
    turn       a lock that is held except while the program idles, or None: sessions that
               idle may overlap, sessions that work do not
    look       called with the process's id at the end of idling, or None
    record     makes a trace of it: what stands before the command; it is killed at its trough
    """

    def __init__(self, preload, idle_s=0.0, points=(), limit_s=120, turn=None, look=None,
                 record=()):
        self.preload, self.idle_s, self.limit_s = preload, idle_s, limit_s
        self.points = [point for point in points if point <= idle_s]
        self.turn = turn or contextlib.nullcontext()
        self.look, self.record = look, list(record)
        self.deadline = time.monotonic() + limit_s
        self.scratch = tempfile.TemporaryDirectory(prefix="pageblock-peak-")
        self.directory = self.scratch.name
        os.chmod(self.directory, 0o755)
        self.started, self.phases, self.exact, self.looked = [], [], {}, None
        self.watcher = self.process = self.stdout = self.sampler = None
        self.ended = threading.Event()

    def path(self, name):
        return os.path.join(self.directory, name)

    # --- what a case calls ----------------------------------------------------------------

    def start(self, command, variables=None, stdout=None, watched=True, cwd=None):
        """The program under the library.  It is talked to by say() and self.stdout."""
        self.process = self.spawn(self.record + command,
                                  environment_of("" if self.record else self.preload,
                                                 variables), stdout, cwd)
        if stdout is None:
            self.stdout = Stream(self.process.stdout.fileno(), self.deadline)
        if watched:
            self.watch(self.process.pid)
        return self.process

    def client(self, command, cwd=None):
        """A program that is not measured."""
        process = self.spawn(command, environment_of(None), None, cwd)
        return process, Stream(process.stdout.fileno(), self.deadline)

    def spawn(self, command, environment, stdout, cwd):
        with open(self.path(f"stderr.{len(self.started)}"), "wb") as err:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stderr=err, bufsize=0,
                stdout=subprocess.PIPE if stdout is None else stdout,
                start_new_session=True, cwd=cwd or self.directory)
        self.started.append(process)
        return process

    def watch(self, pid):
        self.watcher = Watcher(pid)
        self.sampler = threading.Thread(target=self.keep_sampling, daemon=True)
        self.sampler.start()

    def keep_sampling(self):
        while not self.ended.wait(SAMPLE_S):
            self.watcher.sample()

    def say(self, text="\n", process=None):
        try:
            (process or self.process).stdin.write(text.encode())
        except OSError as error:
            raise Failure(f"does not listen: {error.strerror}") from None

    def expect(self, what, wanted, got):
        if wanted != got:
            raise Failure(f"{what}: wanted {str(wanted)[:60]!r}, got {str(got)[:60]!r}")

    def phase(self, name):
        self.watcher.sample(exact=True)
        self.phases.append((name, round(self.watcher.seconds(), 4)))
        with contextlib.suppress(OSError):
            self.watcher.cpu[name] = processor_seconds(self.watcher.pid)

    def peak(self):
        """Most is alive; freeing begins."""
        self.phase("free")

    def idle(self, trickle=None):
        """All that goes is freed.  The program idles; trickle is called now and then."""
        self.phase("idle")
        if self.record:
            raise Recorded
        if not self.idle_s:
            return
        self.turn.__exit__(None, None, None)
        try:
            self.wait(trickle)
        finally:
            self.turn.__enter__()

    def wait(self, trickle):
        begin = time.monotonic()
        for point in sorted({*self.points, self.idle_s}):
            while (left := begin + point - time.monotonic()) > 0:
                if trickle:
                    trickle()
                time.sleep(min(left, 0.2))
            if point in self.points:
                self.exact[point] = self.watcher.sample(exact=True)
                if self.exact[point] is None:
                    raise Failure("ended while it was watched")
        self.phase("end")
        if self.look:
            self.looked = self.look(self.watcher.pid)

    def finish(self, process=None, seconds=20):
        """It shall end well by itself."""
        process = process or self.process
        try:
            process.stdin.close()
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failure("does not end") from None
        if process.returncode != 0:
            raise Failure(f"ended with status {process.returncode}")

    # --- what the driver calls --------------------------------------------------------------

    def run(self, case):
        """The result of a run: its samples, phases and metrics, as far as the case itself
        does not say what they are."""
        try:
            with self.turn:
                self.deadline += max(0.0, time.monotonic() + self.limit_s - self.deadline)
                own = case.run(self) or {}
        except Failure as failure:
            raise Failure("; ".join([str(failure), *self.complaint()])) from None
        finally:
            self.close()
        return {"samples": self.watcher.samples, "phases": self.phases,
                "metrics": self.metrics(), "looked": self.looked, **own}

    def complaint(self):
        if not self.started:
            return []
        with open(self.path("stderr.0"), encoding="utf-8", errors="replace") as lines:
            return [line.strip()[:200] for line in lines if line.strip()][-1:]

    def metrics(self):
        cpu = self.watcher.cpu
        found = {"peak_mib": self.watcher.resident_peak / 2**20}
        if "idle" in cpu:
            found["cpu_s"] = cpu["idle"]
        if "end" in cpu:
            found["idle_cpu_s"] = cpu["end"] - cpu["idle"]
        for point, sample in self.exact.items():
            found[f"mib_{point:.0f}s"] = sample[1] / 2**20
            found[f"huge_{point:.0f}s"] = sample[3] / max(1, sample[1])
        return found

    def close(self):
        self.ended.set()
        if self.sampler:
            self.sampler.join()
        for process in reversed(self.started):
            kill(process)
            for end in (process.stdin, process.stdout):
                if end:
                    end.close()
        self.scratch.cleanup()
