"""The inputs of the real programs, made here: the same each time, from seeds."""

import random
import zlib


def c_source(nr_functions=160):
    """A C file of functions with loops, switches, structures and tables."""
    rng = random.Random(1)
    lines = ["#include <stdint.h>", "#include <string.h>", "#include <stdio.h>",
             "#include <stdlib.h>"]
    for i in range(nr_functions):
        fields = rng.randint(2, 9)
        lines += [f"struct s{i} {{ " + " ".join(
            f"{rng.choice(['int', 'long', 'char', 'double', 'uint16_t'])} f{k};"
            for k in range(fields)) + " };",
            f"static const int t{i}[] = {{{', '.join(str(rng.randint(0, 999)) for _ in range(20))}}};",
            f"long g{i}(struct s{i} *s, long a, long b)", "{", "\tlong r = a;"]
        for k in range(rng.randint(2, 6)):
            field = rng.randrange(fields)
            kind = rng.randrange(4)
            if kind == 0:
                lines.append(f"\tfor (long i = 0; i < b; i++) r += t{i}[i % 20] * "
                             f"(long)s->f{field} + (i ^ {rng.randint(1, 99)});")
            elif kind == 1:
                lines.append("\tswitch (r & 7) {")
                lines += [f"\tcase {c}: r = r * {rng.randint(2, 99)} + (long)s->f{field}; break;"
                          for c in range(6)]
                lines.append("\tdefault: r ^= a; }")
            elif kind == 2:
                lines.append(f"\tif (r > {rng.randint(0, 999)} && b) r -= (long)s->f{field}; "
                             f"else if (a < b) return r / (b | 1);")
            else:
                lines.append(f"\twhile (a --> {k}) {{ char text[32]; snprintf(text, sizeof(text),"
                             f" \"%ld\", r); r += (long)strlen(text); }}")
        if i:
            j = rng.randrange(i)
            lines.append(f"\tif (r & 1) {{ struct s{j} o; memset(&o, 0, sizeof(o)); "
                         f"r += g{j}(&o, r, b - 1); }}")
        lines += ["\treturn r;", "}"]
    return "\n".join(lines) + "\n"


def cxx_source(nr_classes=12):
    """A C++ file of classes, templates, containers and lambdas."""
    rng = random.Random(2)
    lines = ["#include <algorithm>", "#include <functional>", "#include <map>",
             "#include <memory>", "#include <string>", "#include <unordered_map>",
             "#include <vector>",
             "template <class T, int N> struct Ring { T a[N]; int at = 0;",
             "  template <class F> auto apply(F f) { std::vector<decltype(f(a[0]))> r;",
             "    for (auto &x : a) r.push_back(f(x)); return r; } };",
             "struct Base { virtual ~Base() = default; virtual std::string name() const = 0; };"]
    for i in range(nr_classes):
        n = rng.randint(2, 60)
        lines += [
            f"class C{i} : public Base {{",
            f"  std::map<std::string, std::vector<std::pair<int, C{max(i - 1, 0)} *>>> m;",
            f"  Ring<std::unordered_map<int, Ring<long, {n}>>, {i + 2}> ring;",
            "public:",
            f"  std::string name() const override {{ return \"C{i}\" + std::to_string(m.size()); }}",
            f"  int work(int k) {{ auto f = [this, k](auto &x) {{ return (int)x.size() + k; }};",
            "    auto v = ring.apply(f); std::sort(v.begin(), v.end(), std::greater<>());",
            f"    std::function<int(int)> g = [&](int q) {{ return q < 2 ? {n} : v[0] + q; }};",
            "    int s = 0; for (auto x : v) s += g(x); return s; }",
            f"  std::unique_ptr<Base> clone() {{ return std::make_unique<C{i}>(); }}",
            "};",
            f"int use{i}(int k) {{ C{i} c; return c.work(k) + (int)c.clone()->name().size(); }}"]
    return "\n".join(lines) + "\n"


def sql():
    """Tables, indexes, joins, updates, deletes; the selects are the result."""
    return """
.mode list
create table item(id integer primary key, name text, grp int, price real, note text);
create table sale(id integer primary key, item int, day int, nr int, comment text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
insert into item select i, 'item ' || i || ' ' || hex(i * 7919 % 65521), i * 31 % 97,
  i * 17 % 1000 / 10.0, substr('the quick brown fox jumps over the lazy dog', i % 20) from n;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 150000)
insert into sale select i, 1 + i * 7 % 60000, i % 365, 1 + i % 9, 'c' || i % 1000 from n;
create index item_grp on item(grp, price);
create index sale_item on sale(item);
create index item_name on item(name);
select grp, count(*), round(sum(price), 2), min(name), max(note) from item group by grp order by grp;
select i.grp, s.day % 30 d, sum(s.nr * i.price) from sale s join item i on i.id = s.item
  group by i.grp, d having d < 3 order by 3 desc, 1, 2 limit 50;
select group_concat(name, '|') from (select name from item where name like '%7F%' order by name);
update item set note = note || upper(name) where grp < 40;
delete from sale where day between 100 and 200;
select count(*), sum(length(note)) from item;
select count(distinct comment), total(nr) from sale;
vacuum;
select json_group_array(json_object('id', id, 'name', name)) from (select * from item limit 2000);
"""


def smt():
    """Problems whose answers are known: pigeonholes, bit vectors, sums."""
    lines, wanted = [], []
    for holes in (6, 7, 8):
        lines += ["(reset)"] + [f"(declare-const p{i}_{j} Bool)" for i in range(holes + 1)
                                for j in range(holes)]
        lines += ["(assert (or " + " ".join(f"p{i}_{j}" for j in range(holes)) + "))"
                  for i in range(holes + 1)]
        lines += [f"(assert (or (not p{i}_{j}) (not p{k}_{j})))" for j in range(holes)
                  for i in range(holes + 1) for k in range(i)]
        lines.append("(check-sat)")
        wanted.append("unsat")
    for product in (62615533, 1022117):  # 7907 * 7919, 1009 * 1013
        lines += ["(reset)", "(declare-const a (_ BitVec 32))", "(declare-const b (_ BitVec 32))",
                  "(assert (bvult a #x00004000))", "(assert (bvult b #x00004000))",
                  "(assert (bvugt a #x00000001))", "(assert (bvuge a b))",
                  f"(assert (= (bvmul a b) (_ bv{product} 32)))", "(check-sat)"]
        wanted.append("sat")
    rng = random.Random(4)
    lines.append("(reset)")
    lines += [f"(declare-const x{i} Int)" for i in range(120)]
    lines += [f"(assert (<= (+ " + " ".join(f"(* {rng.randint(1, 20)} x{rng.randrange(120)})"
                                            for _ in range(6)) + f") {rng.randint(500, 5000)}))"
              for _ in range(400)]
    lines += [f"(assert (>= x{i} 0))" for i in range(120)] + ["(check-sat)"]
    wanted.append("sat")
    return "\n".join(lines) + "\n", "\n".join(wanted) + "\n"


def pdf(nr_pages=24):
    """A PDF of text, paths, shadings' poor relations and compressed images."""
    rng = random.Random(3)
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", None,
               b"<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman >>"]
    kids = []
    for _ in range(nr_pages):
        parts = ["BT /F1 9 Tf 40 780 Td 11 TL"]
        for _ in range(60):
            text = " ".join("".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9)))
                            for _ in range(11))
            parts.append(f"({text}) Tj T*")
        parts.append("ET")
        for _ in range(400):
            parts.append("%.2f %.2f %.2f rg %d %d m %d %d %d %d %d %d c %d %d l h %s" % (
                rng.random(), rng.random(), rng.random(),
                *(rng.randint(0, 700) for _ in range(10)), rng.choice("fsB")))
        pixels = bytes(rng.randrange(256) for _ in range(64)) * (3 * 160 * 160 // 64)
        objects.append(b"<< /Type /XObject /Subtype /Image /Width 160 /Height 160 /ColorSpace "
                       b"/DeviceRGB /BitsPerComponent 8 /Filter /FlateDecode /Length %d >>\n"
                       b"stream\n%s\nendstream" % (len(zlib.compress(pixels)),
                                                  zlib.compress(pixels)))
        parts.append(f"q 200 0 0 200 300 100 cm /I{len(objects)} Do Q")
        content = zlib.compress("\n".join(parts).encode())
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream"
                       % (len(content), content))
        objects.append(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
                       b"/Resources << /Font << /F1 3 0 R >> /XObject << /I%d %d 0 R >> >> >>"
                       % (len(objects), len(objects) - 1, len(objects) - 1))
        kids.append(len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (
        len(kids), b" ".join(b"%d 0 R" % kid for kid in kids))
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1, start)
    return bytes(out)


def git_stream(nr_commits=700):
    """Of git fast-import: a history whose files grow and change."""
    rng = random.Random(5)
    files = {f"dir{i % 17}/file{i}.c": [f"line {k} of {i}: {rng.random()}" for k in range(80)]
             for i in range(250)}
    out = bytearray()
    for commit in range(nr_commits):
        message = f"commit {commit}\n".encode()
        out += b"commit refs/heads/main\ncommitter A <a@example.org> %d +0000\ndata %d\n%s" % (
            1600000000 + commit * 60, len(message), message)
        names = list(files) if commit == 0 else rng.sample(list(files), 5)
        for name in names:
            lines = files[name]
            for _ in range(4):
                lines[rng.randrange(len(lines))] = f"changed in {commit}: {rng.random()}"
            lines.insert(rng.randrange(len(lines)), f"new in {commit}: {rng.random()}")
            body = "\n".join(lines).encode()
            out += b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(body), body)
        out += b"\n"
    return bytes(out) + b"done\n"


def redis_command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word)
                                             for word in words)
