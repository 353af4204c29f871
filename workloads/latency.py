"""Reads the histograms that probe.c leaves, and takes percentiles of them."""

import struct

# As in probe.c.
STEP_SHIFT = 3
STEPS = 1 << STEP_SHIFT
BUCKETS = (64 - STEP_SHIFT + 1) * STEPS
LANES = 16
KINDS = ("malloc", "free")

PERCENTILES = (50, 90, 99, 99.9, 99.99)


def bucket_start(bucket):
    """The least number of ticks that is counted there."""
    if bucket < STEPS:
        return bucket
    shift = bucket // STEPS - 1
    return (STEPS + bucket % STEPS) << shift


def read(path):
    """Counts by kind and bucket; empty lists when no process counted anything."""
    with open(path, "rb") as file:
        data = file.read()
    wanted = 8 + 8 * LANES * len(KINDS) * BUCKETS
    if len(data) != wanted:
        return {kind: [] for kind in KINDS}
    numbers = struct.unpack(f"={wanted // 8}Q", data)[1:]
    result = {}
    for index, kind in enumerate(KINDS):
        lanes = [numbers[(lane * len(KINDS) + index) * BUCKETS:][:BUCKETS]
                 for lane in range(LANES)]
        result[kind] = list(map(sum, zip(*lanes)))
    return result


def percentile_ticks(counts, percent):
    """Evenly spread inside a bucket; None where nothing was counted."""
    total = sum(counts)
    if not total:
        return None
    wanted, seen = total * percent / 100, 0
    for bucket, count in enumerate(counts):
        if count and seen + count >= wanted:
            start, end = bucket_start(bucket), bucket_start(bucket + 1)
            return start + (end - start) * (wanted - seen) / count
        seen += count
    return None


def figures(counts, ticks_per_s):
    """Per kind: how many, percentiles and the greatest, in nanoseconds."""
    result = {}
    for kind, buckets in counts.items():
        total = sum(buckets)
        if not total:
            continue
        entry = {"calls": total}
        for percent in PERCENTILES:
            # Of fewer calls the last one would be all there is to it.
            if total * (100 - percent) >= 100 * 5:
                entry[f"p{percent}"] = percentile_ticks(buckets, percent) * 1e9 / ticks_per_s
        greatest = max(bucket for bucket, count in enumerate(buckets) if count)
        entry["max"] = bucket_start(greatest + 1) * 1e9 / ticks_per_s
        # The curve for the plot: (share of the calls that took longer, ns).
        curve, left = [], total
        for bucket, count in enumerate(buckets):
            if count:
                left -= count
                curve.append((left / total,
                              round(bucket_start(bucket + 1) * 1e9 / ticks_per_s, 1)))
        entry["curve"] = curve
        result[kind] = entry
    return result
