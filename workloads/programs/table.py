"""The real programs. Each makes its inputs once, and checks what comes out at every run.

What a program must say is either known beforehand or taken from a run without any library
when the inputs are made.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import threading
import time

import harness
from harness import Failure
from programs import inputs

HERE = os.path.dirname(os.path.abspath(__file__))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def file_sha256(path):
    with open(path, "rb") as file:
        return sha256(file.read())


def exchange(connection, request, wanted_bytes):
    """Sends all of it while reading so many bytes of replies."""
    failure = []

    def send():
        try:
            connection.sendall(request)
        except OSError as error:
            failure.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    got = bytearray()
    try:
        while len(got) < wanted_bytes:
            data = connection.recv(1 << 18)
            if not data:
                raise Failure("the server closed the connection")
            got += data
    except OSError as error:
        raise Failure(f"the server does not answer: {error}") from error
    sender.join()
    if failure:
        raise Failure(f"the server does not listen: {failure[0]}")
    return bytes(got)


class Program:
    """What all have; a subclass says the rest."""

    kind = "program"
    name = about = ""
    binaries = packages = ()
    family = False   # several processes at once
    idles = False    # stays, all but idle, after the work
    latency = False  # C, so that probe.so sees what it allocates
    quick = False    # part of `make bench`
    warm_mib = 0

    def missing(self):
        lacking = [binary for binary in self.binaries if not self.find(binary)]
        return f"there is no {', '.join(lacking)}" if lacking else None

    @staticmethod
    def find(binary):
        path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/usr/lib/postgresql/15/bin"
        return shutil.which(binary, path=path)

    def prepare(self, directory):
        """Makes the inputs in a directory that stays until the suite ends."""
        self.directory = directory

    def input(self, name, data):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        return path

    def reference(self, command, **options):
        """Standard output without any library."""
        done = subprocess.run(command, env=harness.clean_environment(), check=False,
                              stdin=options.pop("stdin", subprocess.DEVNULL),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=120, **options)
        if done.returncode:
            raise Failure(f"{command[0]} fails without any library too: "
                          + done.stderr.decode(errors="replace").strip()[-200:])
        return done.stdout


class Script(Program):
    """An interpreter that runs a file of this directory."""

    idles = True
    latency = True

    def __init__(self, name, binary, file, about, package, env=None, quick=False, idles=True):
        self.name, self.about, self.binaries, self.packages = name, about, (binary,), (package,)
        self.command = [binary, os.path.join(HERE, file)]
        self.env = env or {}
        self.quick = quick
        self.idles = idles

    def prepare(self, directory):
        super().prepare(directory)
        self.wanted = self.reference(self.command)

    def run(self, run):
        run.same("output", self.wanted, run.batch(self.command, env=self.env))


class Compiler(Program):
    """The object file must be the same, byte for byte."""

    latency = True

    def __init__(self, name, binary, source, flags, about, packages, quick=False):
        self.name, self.about, self.binaries, self.packages = name, about, (binary,), packages
        self.source, self.flags, self.quick = source, flags, quick

    def command(self, output):
        return [self.binaries[0], *self.flags, "-c", self.path, "-o", output]

    def prepare(self, directory):
        super().prepare(directory)
        text = inputs.cxx_source() if self.source == "cc" else inputs.c_source()
        self.path = self.input("source." + self.source, text)
        output = os.path.join(directory, "wanted.o")
        self.reference(self.command(output))
        self.wanted = file_sha256(output)

    def run(self, run):
        output = run.path("object")
        run.batch(self.command(output))
        run.same("object file", self.wanted, file_sha256(output))


class Sqlite(Program):
    name, about = "sqlite3", "tables, indexes, joins, in memory"
    binaries = packages = ("sqlite3",)
    latency = quick = True

    def prepare(self, directory):
        super().prepare(directory)
        self.path = self.input("script.sql", inputs.sql())
        with open(self.path, "rb") as script:
            self.wanted = sha256(self.reference(["sqlite3", "-batch", ":memory:"], stdin=script))

    def run(self, run):
        with open(self.path, "rb") as script:
            output = run.batch(["sqlite3", "-batch", ":memory:"], stdin=script)
        run.same("query results", self.wanted, sha256(output))


class Ghostscript(Program):
    name, about = "ghostscript", "renders a PDF of text, paths and images"
    binaries, packages = ("gs",), ("ghostscript",)
    latency = True

    def command(self, output):
        return ["gs", "-q", "-dNOPAUSE", "-dBATCH", "-dSAFER", "-sDEVICE=ppmraw", "-r60",
                "-sOutputFile=" + output, self.path]

    def prepare(self, directory):
        super().prepare(directory)
        self.path = self.input("input.pdf", inputs.pdf())
        output = os.path.join(directory, "wanted.ppm")
        self.reference(self.command(output))
        if os.path.getsize(output) < 1 << 20:
            raise Failure("ghostscript rendered nothing")
        self.wanted = file_sha256(output)

    def run(self, run):
        output = run.path("pages")
        run.batch(self.command(output))
        run.same("pages", self.wanted, file_sha256(output))


class Z3(Program):
    name, about = "z3", "pigeonholes, bit vectors, sums"
    binaries = packages = ("z3",)

    def prepare(self, directory):
        super().prepare(directory)
        text, answers = inputs.smt()
        self.path, self.wanted = self.input("input.smt2", text), answers.encode()

    def run(self, run):
        run.same("answers", self.wanted, run.batch(["z3", self.path]))


class GitGc(Program):
    name, about = "git gc", "packs a history of 700 commits"
    binaries = packages = ("git",)
    latency = True
    family = True

    def git(self, *words, directory=None):
        return ["git", "-C", directory or self.repository, *words]

    def prepare(self, directory):
        super().prepare(directory)
        self.repository = os.path.join(directory, "repository")
        self.reference(["git", "init", "-q", "--bare", "-b", "main", self.repository])
        for name, value in (("gc.auto", "0"), ("pack.threads", "2"), ("gc.autoDetach", "false"),
                            ("fastimport.unpackLimit", "1000000")):
            self.reference(self.git("config", name, value))
        stream = self.input("stream", inputs.git_stream())
        with open(stream, "rb") as file:
            self.reference(self.git("fast-import", "--quiet", "--done"), stdin=file)
        self.wanted = self.objects(self.repository)

    def objects(self, repository):
        return sha256(self.reference(self.git("rev-list", "--all", "--objects",
                                              directory=repository)))

    def run(self, run):
        copy = run.path("repository")
        shutil.copytree(self.repository, copy)
        run.batch(self.git("gc", "-q", "--prune=now", directory=copy))
        self.reference(self.git("fsck", "--full", "--strict", directory=copy))
        run.same("objects", self.wanted, self.objects(copy))
        if any(len(name) == 2 for name in os.listdir(os.path.join(copy, "objects"))):
            raise Failure("nothing was packed")


class Redis(Program):
    name, about = "redis", "fill, get, expire, BGSAVE, delete nine of ten"
    binaries, packages = ("redis-server",), ("redis-server",)
    family = idles = latency = quick = True
    KEYS = 150000

    def value(self, i):
        return (b"%d:" % i) * (1 + i * 7919 % 60)

    def prepare(self, directory):
        super().prepare(directory)
        command, keys = inputs.redis_command, range(self.KEYS)
        self.fill = b"".join(command("SET", f"key:{i}", self.value(i)) for i in keys)
        self.get = b"".join(command("GET", f"key:{i * 31 % self.KEYS}") for i in keys)
        self.got = sha256(b"".join(
            b"$%d\r\n%s\r\n" % (len(value), value)
            for value in (self.value(i * 31 % self.KEYS) for i in keys)))
        self.got_bytes = sum(len(value) + len(str(len(value))) + 5
                             for value in map(self.value, keys))
        self.brief = b"".join(command("SET", f"brief:{i}", self.value(i), "PX", 1)
                              for i in range(self.KEYS // 2))
        self.gone = b"".join(command("GET", f"brief:{i}") for i in range(self.KEYS // 2))
        self.hashes = b"".join(command("HSET", f"hash:{i % 500}", f"f{i}", self.value(i % 50))
                               for i in keys[:self.KEYS // 3])
        self.delete = b"".join(command("DEL", f"key:{i}") for i in keys if i % 10)

    def expect(self, run, connection, what, request, reply):
        run.same(what, reply, exchange(connection, request, len(reply)))

    def run(self, run):
        path = os.path.join(run.directory, "s")
        server = run.serve(["redis-server", "--port", "0", "--unixsocket", path, "--save", "",
                            "--dir", run.directory, "--hz", "100", "--appendonly", "no"])
        connection = server.connect(path)
        nr = self.KEYS
        with run.timed():
            self.expect(run, connection, "fill", self.fill, b"+OK\r\n" * nr)
            run.same("values", self.got, sha256(exchange(connection, self.get, self.got_bytes)))
            self.expect(run, connection, "hashes", self.hashes, b":1\r\n" * (nr // 3))
            self.expect(run, connection, "brief keys", self.brief, b"+OK\r\n" * (nr // 2))
        time.sleep(0.01)
        with run.timed():
            self.expect(run, connection, "expired keys", self.gone, b"$-1\r\n" * (nr // 2))
            self.save(run, connection)
            self.expect(run, connection, "delete", self.delete, b":1\r\n" * (nr * 9 // 10))
            self.expect(run, connection, "number of keys", b"DBSIZE\r\n",
                        b":%d\r\n" % (nr // 10 + 500))
        run.settle()
        connection.close()
        server.stop()

    def save(self, run, connection):
        wanted = b"+Background saving started\r\n"
        run.same("BGSAVE", wanted, exchange(connection, b"BGSAVE\r\n", len(wanted)))
        # While it saves, the parent is written to.
        self.expect(run, connection, "fill while saving", self.fill, b"+OK\r\n" * self.KEYS)
        deadline = time.monotonic() + run.limit_s
        while time.monotonic() < deadline:
            connection.sendall(b"INFO persistence\r\n")
            text = connection.recv(1 << 16)
            while not text.endswith(b"\r\n\r\n") and b"module_fork_last_cow_size" not in text:
                text += connection.recv(1 << 16)
            if b"rdb_bgsave_in_progress:0" in text:
                if b"rdb_last_bgsave_status:ok" not in text:
                    raise Failure("BGSAVE failed")
                return
            time.sleep(0.005)
        raise Failure("BGSAVE does not end")


class Memcached(Program):
    name, about = "memcached", "set, get, delete of 100,000 items, 2 threads"
    binaries = packages = ("memcached",)
    latency = idles = True
    ITEMS = 100000

    def value(self, i):
        return (b"%d;" % i) * (1 + i * 7919 % 80)

    def prepare(self, directory):
        super().prepare(directory)
        items = range(self.ITEMS)
        self.set = b"".join(b"set k%d 0 0 %d\r\n%s\r\n" % (i, len(self.value(i)), self.value(i))
                            for i in items)
        order = [i * 31 % self.ITEMS for i in items]
        self.get = b"".join(b"get k%d\r\n" % i for i in order)
        got = b"".join(b"VALUE k%d 0 %d\r\n%s\r\nEND\r\n" % (i, len(self.value(i)), self.value(i))
                       for i in order)
        self.got, self.got_bytes = sha256(got), len(got)
        self.delete = b"".join(b"delete k%d\r\n" % i for i in items if i % 10)

    def run(self, run):
        path = os.path.join(run.directory, "s")
        user = ["-u", "root"] if os.geteuid() == 0 else []
        server = run.serve(["memcached", *user, "-s", path, "-t", "2", "-m", "256"])
        one, other = server.connect(path), server.connect(path)
        with run.timed():
            reply = b"STORED\r\n" * self.ITEMS
            run.same("set", reply, exchange(one, self.set, len(reply)))
            for connection in (one, other):
                run.same("values", self.got,
                         sha256(exchange(connection, self.get, self.got_bytes)))
            reply = b"DELETED\r\n" * (self.ITEMS * 9 // 10)
            run.same("delete", reply, exchange(other, self.delete, len(reply)))
        run.settle()
        one.close()
        other.close()
        server.stop()


class Nginx(Program):
    name, about = "nginx", "2 workers, files, compression, a proxy"
    binaries = packages = ("nginx",)
    family = latency = idles = True
    REQUESTS = {"plain": (20000, 1000), "gzip": (2000, 20000), "proxy": (8000, 4000)}

    def conf(self, run, path):
        user = "user root;" if os.geteuid() == 0 else ""
        return f"""
daemon off; {user} worker_processes 2; pid {run.directory}/pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
	access_log off; keepalive_requests 1000000; types {{ text/plain txt; }}
	client_body_temp_path {run.directory}/t1; proxy_temp_path {run.directory}/t2;
	fastcgi_temp_path {run.directory}/t3; uwsgi_temp_path {run.directory}/t4;
	scgi_temp_path {run.directory}/t5;
	gzip_types text/plain; gzip_min_length 1;
	upstream back {{ server unix:{path}; keepalive 16; }}
	server {{
		listen unix:{path}; root {self.directory};
		location /gzip/ {{ gzip on; alias {self.directory}/; }}
		location /proxy/ {{ proxy_pass http://back/; proxy_http_version 1.1;
			proxy_set_header Connection ""; proxy_buffers 16 4k; }}
	}}
}}
"""

    def prepare(self, directory):
        super().prepare(directory)
        for name, (_, length) in self.REQUESTS.items():
            self.input(name + ".txt", "".join(f"line {i} of {name}, {i * 7919 % 1000}\n"
                                              for i in range(length // 20)))

    def fetch(self, connection, place, name, times):
        """So many requests at once; the replies' bodies, all the same, by checksum."""
        accept = "Accept-Encoding: gzip\r\n" if place == "gzip" else ""
        prefix = "" if place == "plain" else f"/{place}"
        request = f"GET {prefix}/{name}.txt HTTP/1.1\r\nHost: a\r\n{accept}\r\n".encode()
        with connection.makefile("rb") as replies:
            sender = threading.Thread(target=self.send, args=(connection, request * times),
                                      daemon=True)
            sender.start()
            bodies = {self.reply(replies) for _ in range(times)}
            sender.join()
        if len(bodies) != 1:
            raise Failure(f"{place}: replies differ")
        return bodies.pop()

    @staticmethod
    def send(connection, data):
        with contextlib.suppress(OSError):  # the reader sees that the server is gone
            connection.sendall(data)

    @staticmethod
    def reply(replies):
        status = replies.readline()
        if not status.startswith(b"HTTP/1.1 200 "):
            raise Failure(f"bad reply: {status[:60]!r}")
        length = None
        while True:
            line = replies.readline()
            if line in (b"\r\n", b""):
                break
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if length is not None:
            return replies.read(length)
        body = b""
        while True:
            size = int(replies.readline() or b"0", 16)
            body += replies.read(size + 2)[:size]
            if not size:
                return body

    def run(self, run):
        import zlib
        path = os.path.join(run.directory, "s")
        conf = run.path("conf")
        with open(conf, "w", encoding="ascii") as file:
            file.write(self.conf(run, path))
        server = run.serve(["nginx", "-p", run.directory, "-c", conf, "-e", "stderr"])
        connections = [server.connect(path) for _ in range(4)]
        with run.timed():
            for number in range(4):
                for place, (times, _) in self.REQUESTS.items():
                    try:
                        body = self.fetch(connections[number], place, place, times // 4)
                    except (OSError, ValueError) as error:
                        raise Failure(f"{place}: the server does not answer: {error}") from error
                    if place == "gzip":
                        body = zlib.decompress(body, 31)
                    with open(os.path.join(self.directory, place + ".txt"), "rb") as file:
                        run.same(place, file.read(), body)
        run.settle()
        for connection in connections:
            connection.close()
        server.stop(signal.SIGQUIT)


class Postgres(Program):
    name, about = "postgresql", "pgbench, 4 clients, TPC-B-like, prepared"
    binaries, packages = ("postgres", "initdb", "pgbench", "psql", "setpriv"), ("postgresql",)
    family = idles = latency = True
    TRANSACTIONS = 350  # of each of 4 clients

    def as_user(self, command):
        """PostgreSQL does not run as root."""
        if os.geteuid() != 0:
            return command
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]

    def give(self, path):
        if os.geteuid() == 0:
            shutil.chown(path, "nobody", "nogroup")

    def server_command(self, data, sockets):
        return self.as_user([self.find("postgres"), "-D", data, "-k", sockets, "-F", "-h", "",
                             "-c", "shared_buffers=32MB", "-c", "autovacuum=off",
                             "-c", "jit=off", "-c", "max_wal_size=4GB",
                             "-c", "synchronous_commit=off", "-c", "fsync=off"])

    def client(self, sockets, program, *words):
        return self.as_user([self.find(program), "-h", sockets, *words])

    def prepare(self, directory):
        super().prepare(directory)
        self.data = os.path.join(directory, "data")
        os.mkdir(self.data, 0o700)
        self.give(self.data)
        self.give(directory)
        self.reference(self.as_user([self.find("initdb"), "-D", self.data, "-A", "trust", "-N",
                                     "--no-locale", "-U", "bench"]), cwd="/")
        server = subprocess.Popen(self.server_command(self.data, directory), cwd="/",
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  env=harness.clean_environment())
        try:
            self.await_ready(directory)
            self.reference(self.client(directory, "pgbench", "-i", "-q", "-U", "bench",
                                       "postgres"), cwd="/")
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()

    def await_ready(self, sockets):
        deadline = time.monotonic() + 20
        while True:
            try:
                return self.ask(sockets, "select 1")
            except Failure:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def ask(self, sockets, query):
        return self.reference(self.client(sockets, "psql", "-U", "bench", "-qAt", "-c", query,
                                          "postgres"), cwd="/").decode().strip()

    def run(self, run):
        data = run.path("data")
        shutil.copytree(self.data, data)
        os.chmod(data, 0o700)
        self.give(run.directory)
        for place, directories, files in os.walk(data):
            for name in [".", *directories, *files]:
                self.give(os.path.join(place, name))
        server = run.serve(self.server_command(data, run.directory), cwd="/")
        self.await_ready(run.directory)
        with run.timed():
            self.reference(self.client(run.directory, "pgbench", "-n", "-c", "4", "-j", "1",
                                       "-M", "prepared", "-t", str(self.TRANSACTIONS),
                                       "--random-seed=1", "-U", "bench", "postgres"), cwd="/")
            self.ask(run.directory, "select count(*), sum(length(string_agg)) from (select "
                     "bid, aid % 1000, string_agg(aid::text || filler, ',' order by aid) from "
                     "pgbench_accounts group by 1, 2) a")
        run.same("number of transactions", str(4 * self.TRANSACTIONS),
                 self.ask(run.directory, "select count(*) from pgbench_history"))
        run.same("sums", "t", self.ask(
            run.directory, "select (select sum(abalance) from pgbench_accounts) = "
            "(select sum(delta) from pgbench_history) and (select sum(bbalance) from "
            "pgbench_branches) = (select sum(tbalance) from pgbench_tellers)"))
        run.settle()
        server.stop(signal.SIGINT)


class RocksDB(Program):
    name, about = "rocksdb", "db_bench: fill, read, delete at random"
    binaries, packages = ("db_bench",), ("rocksdb-tools",)
    NUMBER = 60000

    def command(self, database):
        return ["db_bench", "--benchmarks=fillrandom,readrandom,deleterandom,readseq",
                f"--num={self.NUMBER}", "--value_size=400", "--seed=1", "--threads=1",
                "--compression_type=none", "--disable_wal=1", "--db=" + database]

    @staticmethod
    def found(output):
        for line in output.decode(errors="replace").splitlines():
            if line.startswith("readrandom") and "found" in line:
                return line[line.index("("):].strip()
        raise Failure("db_bench read nothing")

    def prepare(self, directory):
        super().prepare(directory)
        database = os.path.join(directory, "database")
        self.wanted = self.found(self.reference(self.command(database), cwd=directory))
        shutil.rmtree(database)

    def run(self, run):
        database = run.path("database")
        run.same("keys found", self.wanted, self.found(run.batch(self.command(database))))


class Java(Program):
    name, about = "java", "a JVM starts and makes a key (keytool)"
    binaries, packages = ("keytool",), ("openjdk-17-jre-headless",)

    def run(self, run):
        store = run.path("store")
        common = ["-keystore", store, "-storepass", "changeit"]
        run.batch(["keytool", "-genkeypair", "-alias", "bench", "-keyalg", "EC", "-dname",
                   "CN=a", *common])
        output = run.batch(["keytool", "-list", *common])
        if b"bench, " not in output or b"PrivateKeyEntry" not in output:
            raise Failure("keytool made no key")


def cases():
    return [
        Redis(),
        Memcached(),
        Nginx(),
        Postgres(),
        Sqlite(),
        RocksDB(),
        Script("python3", "python3", "python3.py", "a document parsed, indexed, dropped",
               "python3"),
        Script("python3-malloc", "python3", "python3.py", "the same, all objects by malloc",
               "python3", env={"PYTHONMALLOC": "malloc"}, quick=True),
        Script("ruby", "ruby", "ruby.rb", "strings, hashes, a tree", "ruby"),
        Script("perl", "perl", "perl.pl", "words counted in hashes of hashes", "perl"),
        Script("lua", "lua5.4", "lua.lua", "tables and strings", "lua5.4", idles=False),
        Script("node", "node", "node.js", "JSON, buffers, compression", "nodejs"),
        Compiler("gcc", "gcc", "c", ["-O1"], "compiles 160 functions of C", ("gcc",),
                 quick=True),
        Compiler("g++", "g++", "cc", ["-O0"], "compiles 12 classes of C++", ("g++",)),
        Compiler("clang", "clang", "c", ["-O1"], "the same C", ("clang",)),
        Compiler("clang++", "clang++", "cc", ["-O0"], "the same C++", ("clang",)),
        GitGc(),
        Ghostscript(),
        Z3(),
        Java(),
    ]
