"""Real programs with a peak and a tail, for workloads/return and workloads/lifetimes.

Each fills itself up, drops most of it, and idles; what it says afterwards is checked.  A
scale of 1 is a peak of some hundred MiB and a few seconds of work; inputs are made once, by
prepare().  A case talks to its program through a watch.Session.
"""

import json
import os
import random
import shutil
import socket
import sys
import time
import tty

import watch
from harness import Failure
from programs import inputs
from programs import table
from programs.table import HERE, Program, exchange


class Peak:
    """What all have; a subclass says the rest."""

    name = about = ""
    binaries = packages = ()
    scale = 1.0
    note = ""           # what whoever reads its figures should know
    records = False     # it can be recorded: one process, whose allocations are all its own

    def missing(self):
        lacking = [binary for binary in self.binaries if not Program.find(binary)]
        return f"there is no {', '.join(lacking)}" if lacking else None

    def prepare(self, directory, scale):
        """Inputs, in a directory that stays, for a work of this size from now on."""
        self.directory, self.scale = directory, scale

    def number(self, of_full_size):
        return max(100, int(of_full_size * self.scale))

    def input(self, name, make):
        """A file's path; it is made if it is not there yet."""
        path = os.path.join(self.directory, name)
        if not os.path.exists(path):
            with open(path, "wb") as file:
                make(file)
        return path


def read(path):
    with open(path, "rb") as file:
        return file.read()


# --- redis ------------------------------------------------------------------------------------

class Redis(Peak):
    """A server at a socket; requests are files of commands, replies are known."""

    binaries = packages = ("redis-server",)
    records = True

    def serve(self, session):
        path = session.path("socket")
        session.start(["redis-server", "--port", "0", "--unixsocket", path, "--save", "",
                       "--appendonly", "no", "--enable-debug-command", "yes", "--hz", "100",
                       "--active-expire-effort", "10", "--dir", session.directory])
        return connect(session, path)

    def ask(self, connection, *words):
        connection.sendall(inputs.redis_command(*words))
        reply = bytearray()
        while not reply.endswith(b"\r\n"):
            reply += connection.recv(4096) or b"(closed)\r\n"
        if reply[:1] not in b"+:":
            raise Failure("redis answers " + reply.decode(errors="replace").strip())
        return reply[1:-2].decode()

    def stop(self, session, connection):
        connection.sendall(inputs.redis_command("SHUTDOWN", "NOSAVE"))
        connection.close()
        session.finish()

    def run(self, session):
        connection = self.serve(session)
        self.fill(session, connection)
        session.peak()
        self.drop(session, connection)
        session.idle(lambda: self.ask(connection, "PING"))
        session.expect("number of keys", str(self.nr_kept), self.ask(connection, "DBSIZE"))
        self.check(session, connection)
        self.stop(session, connection)

    def check(self, session, connection):
        pass


def connect(session, path, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            connection.settimeout(session.limit_s)
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > deadline or session.process.poll() is not None:
                raise Failure("does not listen") from None
            time.sleep(0.02)


class RedisDelete(Redis):
    name, about = "redis", "5 million keys, 90 % of them deleted"

    def prepare(self, directory, scale):
        super().prepare(directory, scale)
        self.nr_keys = self.number(5_000_000)
        self.nr_kept = self.nr_keys // 10
        order = list(range(self.nr_keys))
        random.Random(1).shuffle(order)
        gone = order[self.nr_kept:]
        self.parts = [gone[i:i + 500] for i in range(0, len(gone), 500)]

    def fill(self, session, connection):
        self.ask(connection, "DEBUG", "POPULATE", self.nr_keys, "key", 100)

    def drop(self, session, connection):
        """All but a tenth, at random; commands of 500 keys, 20 on their way."""
        for i in range(0, len(self.parts), 20):
            parts = self.parts[i:i + 20]
            request = b"".join(inputs.redis_command("DEL", *(b"key:%d" % key for key in part))
                               for part in parts)
            reply = b"".join(b":%d\r\n" % len(part) for part in parts)
            session.expect("deleted", reply, exchange(connection, request, len(reply)))


class RedisSave(RedisDelete):
    """What is copied because of writes while a child saves: the child's private pages.

    A page that the parent writes to is the parent's new one from then on, and the old one the
    child's alone.  The child is slowed down so that all writes come while it saves; the
    same keys are written, at the same pace, under every library.
    """

    name, about = "bgsave", "redis: a fiftieth of a million keys is written to while a child saves"
    # Written to in so many steps, one every so often.
    STEPS, STEP_S = 80, 0.05
    # Redis sleeps at one key in so many, some 60 us: 8 s or more in all.
    SLOWNESS = -7

    def prepare(self, directory, scale):
        Peak.prepare(self, directory, scale)
        self.nr_keys = self.nr_kept = self.number(1_000_000)
        order = random.Random(1).sample(range(self.nr_keys), self.nr_keys // 50)
        step = len(order) // max(1, round(self.STEPS * scale))
        self.parts = [order[i:i + step] for i in range(0, len(order), step)]

    def drop(self, session, connection):
        """Nothing goes; this is where it is written to."""
        pid = session.process.pid
        self.ask(connection, "CONFIG", "SET", "rdb-key-save-delay", self.SLOWNESS)
        [self.before] = watch.rollup(pid, "Pss")
        self.ask(connection, "BGSAVE")
        child, begin = child_of(pid), time.monotonic()
        self.private = [private_sample(child, 0.0)]
        for step, keys in enumerate(self.parts):
            words = (word for key in keys for word in (b"key:%d" % key, b"y" * 100))
            self.ask(connection, "MSET", *words)
            time.sleep(max(0.0, begin + (step + 1) * self.STEP_S - time.monotonic()))
            self.private.append(private_sample(child, time.monotonic() - begin))
        self.both = sum(watch.rollup(pid, "Pss") + watch.rollup(child, "Pss"))

    def check(self, session, connection):
        deadline = time.monotonic() + session.limit_s
        while (found := persistence(connection))["rdb_bgsave_in_progress"] != "0":
            if time.monotonic() > deadline:
                raise Failure("the child does not end")
            time.sleep(0.2)
        session.expect("status of saving", "ok", found["rdb_last_bgsave_status"])
        self.copied = int(found["rdb_last_cow_size"])

    def run(self, session):
        super().run(session)
        bytes_of = {"before_mib": self.before, "begin_mib": self.private[0][1],
                    "half_mib": self.private[len(self.private) // 2][1],
                    "written_mib": self.private[-1][1], "grown_mib": self.both - self.before,
                    "copied_mib": self.copied}
        return {"samples": self.private, "phases": [("idle", 0.0)],
                "metrics": {name: value / 2**20 for name, value in bytes_of.items()}}


def private_sample(child, at):
    try:
        [private] = watch.rollup(child, "Private_Dirty")
    except (OSError, ValueError):
        raise Failure("the child ended before all was written") from None
    return [round(at, 4), private, None, None]


def persistence(connection):
    """What redis says of its saving."""
    connection.sendall(inputs.redis_command("INFO", "persistence"))
    with connection.makefile("rb") as answer:
        text = answer.read(int(answer.readline()[1:]) + 2).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def child_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        found = children.read().split()
    if not found:
        raise Failure("there is no child")
    return int(found[0])


class RedisExpire(Redis):
    """Keys of two lifetimes come as they come; the short ones expire."""

    name, about = "redis", "keys with a short and with a long time to live, 9 to 1, mixed"

    def is_short(self, i):
        return i * 7919 % 10 != 0

    def value(self, i):
        return (b"%d:" % i) * (2 + i * 7907 % 50)

    def commands(self, i):
        life = ("PX", 1000) if self.is_short(i) else ("EX", 86400)
        return inputs.redis_command("SET", f"key:{i}", self.value(i), *life), b"+OK\r\n"

    def prepare(self, directory, scale):
        super().prepare(directory, scale)
        self.nr_keys = self.number(1_000_000)
        self.nr_kept = sum(not self.is_short(i) for i in range(self.nr_keys))
        self.reply = b"".join(self.commands(i)[1] for i in range(self.nr_keys))
        self.fill_path = self.input("commands", lambda file: file.writelines(
            self.commands(i)[0] for i in range(self.nr_keys)))

    def fill(self, session, connection):
        # A peak and a tail, and not both at once: nothing expires until all is there.
        self.ask(connection, "DEBUG", "SET-ACTIVE-EXPIRE", 0)
        session.expect("fill", self.reply,
                       exchange(connection, read(self.fill_path), len(self.reply)))

    def drop(self, session, connection):
        time.sleep(1.0)
        self.ask(connection, "DEBUG", "SET-ACTIVE-EXPIRE", 1)
        while int(self.ask(connection, "DBSIZE")) > self.nr_kept:
            if time.monotonic() > session.deadline:
                raise Failure("keys do not expire")
            time.sleep(0.02)

    def check(self, session, connection):
        """The keys that stay are as they were."""
        kept = [i for i in range(self.nr_keys) if not self.is_short(i)][:1000]
        wanted = b"".join(b"$%d\r\n%s\r\n" % (len(self.value(i)), self.value(i)) for i in kept)
        got = exchange(connection, b"".join(inputs.redis_command("GET", f"key:{i}")
                                            for i in kept), len(wanted))
        session.expect("values", wanted, got)


class RedisSessions(RedisExpire):
    """What goes is made by another command than what stays."""

    name, about = "redis-sessions", "hashes that expire among strings that stay, 9 to 1"

    def commands(self, i):
        if not self.is_short(i):
            return inputs.redis_command("SET", f"key:{i}", self.value(i)), b"+OK\r\n"
        return (inputs.redis_command("HSET", f"session:{i}", "user", f"u{i}", "data",
                                     self.value(i), "seen", i)
                + inputs.redis_command("PEXPIRE", f"session:{i}", 1000), b":3\r\n:1\r\n")


# --- python3, ruby, node: scripts beside this file ----------------------------------------------

def write_document(file, nr_records):
    rng = random.Random(1)
    file.write(b"[")
    for i in range(nr_records):
        record = {"id": i, "name": "n%d.%d" % (i, rng.randrange(10**9)),
                  "text": "x" * rng.randrange(200),
                  "values": [rng.random() for _ in range(rng.randrange(8))],
                  "tags": {"t%d" % rng.randrange(50): rng.randrange(10**6)
                           for _ in range(rng.randrange(4))}}
        file.write((",\n" if i else "").encode() + json.dumps(record).encode())
    file.write(b"]")


class Document(Peak):
    """A script that says peak, idle and what it has kept."""

    RECORDS = 250_000
    records = True
    variables = None

    def prepare(self, directory, scale):
        super().prepare(directory, scale)
        self.nr_records = self.number(self.RECORDS)
        self.path = self.input("document.json",
                               lambda file: write_document(file, self.nr_records))

    def ids(self):
        """Of a tenth, and their sum."""
        kept = range(0, self.nr_records, 10)
        return len(kept), sum(kept)

    def run(self, session):
        session.start(self.command(), variables=self.variables)
        session.expect("peak", f"peak {self.nr_records}", session.stdout.line())
        session.peak()
        session.say()
        session.expect("idle", "idle", session.stdout.line())
        session.idle()
        session.say()
        self.check(session, session.stdout.line())
        session.finish()

    def check(self, session, line):
        session.expect("kept", self.kept(), line)


class Python(Document):
    binaries = packages = ("python3",)

    def __init__(self, name, keeps, by_malloc, records=Document.RECORDS):
        self.name, self.keeps, self.RECORDS = name, keeps, records
        self.about = ("a large JSON document parsed, "
                      + ("a tenth kept" if keeps == "records" else "an index of it kept")
                      + (" (PYTHONMALLOC=malloc)" if by_malloc else ""))
        self.variables = {"PYTHONMALLOC": "malloc"} if by_malloc else {}
        self.records = by_malloc
        if not by_malloc:
            self.note = "small objects are in pymalloc's arenas, which are mapped, not malloc's"

    def command(self):
        # The real interpreter: a wrapper script would be what is watched.
        return [os.path.realpath(sys.executable), os.path.join(HERE, "document.py"), self.path,
                self.keeps]

    def check(self, session, line):
        nr, total = self.ids()
        if self.keeps == "records":
            session.expect("kept", f"kept {nr} {total}", line)
        else:
            # Every name is another one, and there are 50 tags.
            session.expect("kept", f"kept {self.nr_records + 50} "
                           f"{sum(range(self.nr_records))}", line)


class Ruby(Document):
    name, about = "ruby", "a JSON document made into objects, a tenth and an index kept"
    binaries = packages = ("ruby",)
    RECORDS = 150_000

    def command(self):
        return [os.path.realpath(Program.find("ruby")), os.path.join(HERE, "document.rb"),
                self.path]

    def kept(self):
        nr, total = self.ids()
        return f"kept {nr} {total} {self.nr_records}"


class Node(Document):
    name, about = "node", "a cache of bodies of which nine of ten expire"
    binaries, packages = ("node",), ("nodejs",)
    note = "JavaScript objects are in V8's own heap; the bodies are malloc's"
    RECORDS = 120_000

    def prepare(self, directory, scale):
        Peak.prepare(self, directory, scale)
        self.nr_records = self.number(self.RECORDS)

    def command(self):
        return [os.path.realpath(Program.find("node")), "--expose-gc",
                os.path.join(HERE, "bodies.js"), str(self.nr_records)]

    def kept(self):
        nr, _ = self.ids()
        return (f"kept {nr} {sum(i & 255 for i in range(0, self.nr_records, 10))} "
                f"{self.nr_records - nr}")


# --- clangd ----------------------------------------------------------------------------------

SOURCE_HEAD = "".join(f"#include <{name}>\n" for name in (
    "algorithm", "functional", "future", "iostream", "map", "memory", "regex", "set", "string",
    "unordered_map", "vector"))


def cxx_source(number):
    rng = random.Random(number)
    lines = [SOURCE_HEAD]
    for i in range(1500):
        lines.append(f"struct S{i} {{ std::map<std::string, std::vector<int>> m; int v = {i}; }};\n"
                     f"inline int f{i}(S{i} &s, int a) {{ s.m[\"k{i}\"].push_back(a * "
                     f"{rng.randrange(100)}); return s.v + (int)s.m.size(); }}\n")
    lines.append("int main() { return 0; }\n")
    return "".join(lines)


class Clangd(Peak):
    name, about = "clangd", "a compiler server: C++ sources opened, checked, closed"
    binaries = packages = ("clangd",)

    def __init__(self, nr_sources=6):
        self.nr_sources = nr_sources

    def prepare(self, directory, scale):
        super().prepare(directory, scale)
        self.sources = [cxx_source(i) for i in range(max(2, round(self.nr_sources * scale)))]

    def run(self, session):
        session.start([os.path.realpath(Program.find("clangd")), "--background-index=false",
                       "--pch-storage=memory", "-j=2", "--log=error"])
        self.ask(session, 1, "initialize",
                 {"processId": None, "rootUri": None, "capabilities": {}})
        self.send(session, "initialized", {})
        uris = [f"file://{session.directory}/source{i}.cc" for i in range(len(self.sources))]
        for uri, source in zip(uris, self.sources):
            self.open(session, uri, source)
        session.peak()
        for uri in uris:
            self.send(session, "textDocument/didClose", {"textDocument": {"uri": uri}})
        # The answer to a request says that what was before it is done.
        self.ask(session, 2, "workspace/symbol", {"query": "S1"})
        session.idle()
        self.ask(session, 3, "shutdown", None)
        self.send(session, "exit", None)
        session.finish()

    def open(self, session, uri, source):
        self.send(session, "textDocument/didOpen", {"textDocument": {
            "uri": uri, "languageId": "cpp", "version": 1, "text": source}})
        message = self.await_message(
            session, lambda m: m.get("method") == "textDocument/publishDiagnostics"
            and m["params"]["uri"] == uri)
        for diagnostic in message["params"]["diagnostics"]:
            if diagnostic["severity"] == 1:
                raise Failure("clangd finds an error: " + diagnostic["message"])

    def send(self, session, method, params, **more):
        text = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **more})
        session.say(f"Content-Length: {len(text)}\r\n\r\n{text}")

    def ask(self, session, number, method, params):
        self.send(session, method, params, id=number)
        self.await_message(session, lambda message: message.get("id") == number)

    def await_message(self, session, fits):
        while True:
            length = 0
            while line := session.stdout.line():
                if line.lower().startswith("content-length:"):
                    length = int(line.split(":")[1])
            message = json.loads(session.stdout.exactly(length))
            if fits(message):
                return message


# --- databases ----------------------------------------------------------------------------------

class Sqlite(Peak):
    name, about = "sqlite3", "a database in memory, nine of ten rows deleted, VACUUM"
    binaries = packages = ("sqlite3",)
    records = True

    def run(self, session):
        # On a terminal it says a line as soon as it has it.
        ours, its = os.openpty()
        try:
            tty.setraw(its)
            session.start(["sqlite3", "-batch", ":memory:"], stdout=its)
            os.close(its)
            its = -1
            session.stdout = watch.Stream(ours, session.deadline)
            self.work(session)
        finally:
            for fd in (ours, its):
                if fd >= 0:
                    os.close(fd)

    def work(self, session):
        nr = self.number(500_000)
        session.say(f"""
create table item(id integer primary key, name text, note text);
create table word(word text, item int);
with recursive n(i) as (select 0 union all select i + 1 from n where i < {nr - 1})
insert into item select i, 'item ' || hex(i * 7919 % 65521) || i,
  substr('the quick brown fox jumps over the lazy dog', i % 20) || hex(zeroblob(i % 97)) from n;
insert into word select substr(name, 6, 4), id from item;
create index item_name on item(name);
create index word_word on word(word, item);
select 'peak', count(*) from item;
""")
        session.expect("peak", f"peak|{nr}", session.stdout.line())
        session.peak()
        session.say("delete from item where id % 10 <> 0; delete from word where item % 10 <> 0;\n"
                    "vacuum; pragma shrink_memory; select 'idle', count(*) from item;\n")
        kept = len(range(0, nr, 10))
        session.expect("idle", f"idle|{kept}", session.stdout.line())
        session.idle(lambda: session.say("select 1 where 0;\n"))
        session.say("pragma integrity_check; select count(*), sum(id), sum(item) from item "
                    "join word on item = id;\n.quit\n")
        session.expect("check", "ok", session.stdout.line())
        total = sum(range(0, nr, 10))
        session.expect("rows", f"{kept}|{total}|{total}", session.stdout.line())
        session.finish()


class PostgresBackend(Peak):
    name, about = "postgresql", "a backend: prepared statements, a hash aggregate, nine of " \
        "ten statements dropped"
    binaries, packages = table.Postgres.binaries, table.Postgres.packages
    note = "its memory contexts take blocks of 1 KiB to 8 MiB from malloc"
    USER = ["-U", "bench"]

    def prepare(self, directory, scale):
        super().prepare(directory, scale)
        self.server = table.Postgres()
        self.data = os.path.join(directory, "data")
        os.mkdir(self.data, 0o700)
        self.server.give(self.data)
        self.server.reference(self.server.as_user(
            [Program.find("initdb"), "-D", self.data, "-A", "trust", "-N", "--no-locale",
             *self.USER]), cwd="/")

    def run(self, session):
        data = session.path("data")
        shutil.copytree(self.data, data)
        os.chmod(data, 0o700)
        for place, _, files in os.walk(data):
            for name in [".", *files]:
                self.server.give(os.path.join(place, name))
        self.server.give(session.directory)
        postmaster = session.start(self.server.server_command(data, session.directory),
                                   watched=False, cwd="/")
        self.server.await_ready(session.directory)
        client, answers = session.client(self.server.client(
            session.directory, "psql", *self.USER, "-qAtX", "-v", "ON_ERROR_STOP=1",
            "postgres"), cwd="/")

        def ask(sql):
            session.say(sql + "\n", client)
            return answers.line()

        session.watch(int(ask("select pg_backend_pid();")))
        self.work(session, ask)
        session.finish(client)
        postmaster.terminate()
        session.finish(postmaster)

    def work(self, session, ask):
        nr = self.number(6000)
        groups = self.number(200_000)
        ask("""set plan_cache_mode = force_generic_plan; set work_mem = '1GB'; set jit = off;
create temp table item as select i id, i % 100 a, md5(i::text) b from generate_series(1, 1000) i;
create index on item(id); analyze item; select 'ready';""")
        session.expect("statements", "0", ask(f"""do $$ begin for i in 1..{nr} loop
execute format('prepare q%s(int) as select t.a + %s, count(*), string_agg(u.b, %L) from item t '
  'join item u on u.a = t.a where t.id = $1 and u.id < %s group by 1 order by 2', i, i, ',', i);
execute format('execute q%s(%s)', i, 1 + i % 1000); end loop; end $$;
select count(*) - {nr} from pg_prepared_statements;"""))
        session.expect("sums", f"{groups} {groups * 10 * 33}", ask(
            "select count(*) || ' ' || sum(length(s)) from (select g % " f"{groups} k, "
            f"string_agg(md5(g::text), ',') || ' ' s from generate_series(1, {groups * 10}) g "
            "group by 1) q;"))
        session.peak()
        session.expect("statements left", str(nr // 10), ask(
            f"do $$ begin for i in 1..{nr} loop if i % 10 <> 0 then "
            "execute format('deallocate q%s', i); end if; end loop; end $$; "
            "select count(*) from pg_prepared_statements;"))
        session.idle(lambda: ask("select 1;"))
        ask("execute q10(7);")


class Memcached(Peak):
    name, about = "memcached", "items with a short and with a long time to live, 9 to 1, mixed"
    binaries = packages = ("memcached",)
    note = "its items are in slabs of its own, which it never gives back"
    LIFE_S = 3

    def is_short(self, i):
        return i * 7919 % 10 != 0

    def value(self, i):
        return (b"%d;" % i) * (1 + i * 7907 % 100)

    def prepare(self, directory, scale):
        super().prepare(directory, scale)
        self.nr_items = self.number(500_000)
        self.kept = [i for i in range(self.nr_items) if not self.is_short(i)]
        self.ask = b"".join(b"get k%d\r\n" % i for i in range(self.nr_items)
                            if self.is_short(i))
        self.fill_path = self.input("commands", lambda file: file.writelines(
            b"set k%d 0 %d %d noreply\r\n%s\r\n" % (
                i, self.LIFE_S if self.is_short(i) else 0, len(self.value(i)), self.value(i))
            for i in range(self.nr_items)))

    def run(self, session):
        path = session.path("socket")
        user = ["-u", "root"] if os.geteuid() == 0 else []
        session.start(["memcached", *user, "-s", path, "-t", "2", "-m", "1024"])
        connection = connect(session, path)
        connection.sendall(read(self.fill_path))
        if self.number_of_items(connection) < len(self.kept):
            raise Failure("items are missing")
        session.peak()
        # What has expired goes when it is asked for.
        time.sleep(self.LIFE_S + 1.1)
        wanted = b"END\r\n" * (self.nr_items - len(self.kept))
        session.expect("expired items", wanted, exchange(connection, self.ask, len(wanted)))
        session.expect("items left", len(self.kept), self.number_of_items(connection))
        session.idle(lambda: self.number_of_items(connection))
        kept = self.kept[:1000]
        wanted = b"".join(b"VALUE k%d 0 %d\r\n%s\r\nEND\r\n" % (i, len(self.value(i)),
                                                              self.value(i)) for i in kept)
        session.expect("values", wanted, exchange(
            connection, b"".join(b"get k%d\r\n" % i for i in kept), len(wanted)))
        connection.close()
        session.process.terminate()
        session.finish()

    @staticmethod
    def number_of_items(connection):
        connection.sendall(b"stats\r\n")
        text = bytearray()
        while not text.endswith(b"END\r\n"):
            part = connection.recv(1 << 16)
            if not part:
                raise Failure("memcached has ended")
            text += part
        return next(int(line.split()[2]) for line in text.splitlines()
                    if line.startswith(b"STAT curr_items "))


def of_return():
    """As workloads/return has had them: nine of ten go by name, or all at once."""
    return [RedisDelete(), RedisSave(),
            Python("python", "records", True, records=500_000), Clangd()]


def of_lifetimes():
    return [RedisExpire(), RedisSessions(), Python("python", "index", False),
            Python("python-malloc", "index", True), Ruby(), Node(), Clangd(4), PostgresBackend(),
            Sqlite(), Memcached()]
