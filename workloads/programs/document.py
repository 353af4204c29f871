"""A JSON document is parsed and dropped again; records or an index of it stay.

document.py FILE records|index - it says `peak` and waits for a line, says `idle` and waits for
one more, and says what it kept.
"""
import gc
import json
import select
import sys

with open(sys.argv[1], encoding="ascii") as file:
    document = json.load(file)
if sys.argv[2] == "records":
    kept = document[::10]
else:
    kept = {}
    for record in document:
        kept[record["name"]] = record["id"]
        for tag in record["tags"]:
            kept.setdefault(tag, []).append(record["id"])
print("peak", len(document), flush=True)
sys.stdin.readline()
del document
record = tag = None
gc.collect()
print("idle", flush=True)
while not select.select([sys.stdin], [], [], 0.1)[0]:
    trickle = [str(n) * 3 for n in range(100)]
if sys.argv[2] == "records":
    print("kept", len(kept), sum(record["id"] for record in kept), flush=True)
else:
    print("kept", len(kept), sum(id for id in kept.values() if isinstance(id, int)), flush=True)
