"""A document is written, parsed, indexed, searched and dropped; prints checksums."""
import collections
import gc
import hashlib
import json
import os
import random
import re
import time

rng = random.Random(1)
words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 12)))
         for _ in range(4000)]
records = [{"id": i, "name": " ".join(rng.choices(words, k=3)),
            "tags": rng.choices(words, k=rng.randint(0, 6)),
            "text": " ".join(rng.choices(words, k=rng.randint(5, 60))),
            "place": {"x": rng.random(), "y": rng.random()}} for i in range(20000)]
text = json.dumps(records)
print(len(text), hashlib.sha256(text.encode()).hexdigest())
del records

records = json.loads(text)
index = collections.defaultdict(list)
for record in records:
    for word in record["text"].split():
        index[word].append(record["id"])
print(len(index), max((len(ids), word) for word, ids in index.items()))
found = re.findall(r'"name": "(\w+) (\w+)', text)
print(len(found), hashlib.sha256(repr(sorted(found)).encode()).hexdigest())
longest = sorted(records, key=lambda record: (-len(record["text"]), record["id"]))[:1000]
print(sum(record["place"]["x"] for record in longest))
joined = "".join(sorted(" ".join(record["tags"]) for record in records))
print(hashlib.sha256(joined.encode()).hexdigest())

# What is left is an index of every hundredth record.
kept = {record["id"]: record["name"] for record in records[::100]}
del records, index, found, longest, joined, text
gc.collect()
print(len(kept), flush=True)
time.sleep(int(os.environ.get("WORKLOADS_IDLE_MS", "0")) / 1000)
