"""A small life on a real Milvus: one collection, filled, indexed and searched.

usage: milvus_session.py HOST:PORT create|more|unflushed|compact|drop|digest NAME
       milvus_session.py HOST:PORT state any

Every row is a function of its primary key, so any run can tell whether any row is right. `digest` prints one line of JSON: equal
lines mean equal collections, rows and search results. `state` prints the same of every collection.
"""

import hashlib
import json
import logging
import sys
import time

import numpy as np

logging.disable(logging.CRITICAL)
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility  # noqa: E402

DIM = 32
ROWS = 3000
MORE = 500
PATIENCE = 120


def vector(key):
    return np.random.default_rng(key).random(DIM, dtype=np.float32)


def schema():
    return CollectionSchema(
        [
            FieldSchema("id", DataType.INT64, is_primary=True, auto_id=False),
            FieldSchema("tag", DataType.VARCHAR, max_length=32),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIM),
        ]
    )


def insert(collection, first, count):
    for start in range(first, first + count, 1000):
        keys = range(start, min(start + 1000, first + count))
        collection.insert([list(keys), [f"row {k}" for k in keys], [vector(k).tolist() for k in keys]])


def create(name):
    collection = Collection(name, schema(), shards_num=1)
    insert(collection, 0, ROWS)
    collection.flush(timeout=PATIENCE)
    collection.create_index("vector", {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 16}}, timeout=PATIENCE)
    utility.wait_for_index_building_complete(name, timeout=PATIENCE)
    collection.load(timeout=PATIENCE)


def more(name):
    collection = Collection(name)
    insert(collection, ROWS, MORE)
    collection.flush(timeout=PATIENCE)
    wait_for_rows(collection, ROWS + MORE)


def unflushed(name):
    """Rows that are in the message queue alone, for now."""
    collection = Collection(name)
    insert(collection, 1_000_000, 20)
    wait_for_rows(collection, rows(collection))


def compact(name):
    collection = Collection(name)
    collection.compact(timeout=PATIENCE)
    collection.wait_for_compaction_completed(timeout=PATIENCE)


def state():
    """What every collection is, as soon as each is loaded."""
    all_of_them = {name: digest(name) for name in sorted(utility.list_collections())}
    for one in all_of_them.values():
        del one["collections"]
    return {"state": all_of_them, "wrong": sum(one.pop("wrong") for one in all_of_them.values())}


def wait_for_rows(collection, count):
    end = time.time() + PATIENCE
    while True:
        seen = rows(collection)
        if seen == count:
            return
        if time.time() > end:
            sys.exit(f"{seen} rows instead of {count}")
        time.sleep(0.5)


def rows(collection):
    return int(collection.query("id >= 0", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"])


def digest(name):
    """A healthy Milvus may still be loading the collection, so this asks until it gets an answer."""
    end = time.time() + PATIENCE
    while True:
        try:
            return digest_now(name)
        except Exception as error:  # pylint: disable=broad-except
            if time.time() > end:
                raise
            last = str(error)
            print(f"not yet: {last[:160]}", file=sys.stderr)
            time.sleep(1)


def digest_now(name):
    collection = Collection(name)
    count = rows(collection)
    wrong, whole = 0, hashlib.sha256()
    for start in range(0, count, 1000):
        part = collection.query(
            f"id >= {start} and id < {start + 1000}", output_fields=["id", "tag", "vector"], consistency_level="Strong"
        )
        for row in sorted(part, key=lambda r: r["id"]):
            got = np.asarray(row["vector"], dtype=np.float32)
            wrong += row["tag"] != f"row {row['id']}" or not np.array_equal(got, vector(row["id"]))
            whole.update(f"{row['id']}|{row['tag']}|".encode() + got.tobytes())
    queries = [vector(10_000_000 + i).tolist() for i in range(5)]
    found = collection.search(
        queries, "vector", {"metric_type": "L2", "params": {"nprobe": 16}}, limit=10, consistency_level="Strong"
    )
    nearest = [[int(i) for i in hits.ids] for hits in found]
    return {
        "collections": sorted(utility.list_collections()),
        "rows": count,
        "wrong": wrong,
        "sha256": whole.hexdigest(),
        "nearest": hashlib.sha256(json.dumps(nearest).encode()).hexdigest(),
    }


def main():
    address, what, name = sys.argv[1:]
    host, port = address.split(":")
    connections.connect(host=host, port=port, timeout=60)
    if what == "create":
        create(name)
    elif what == "more":
        more(name)
    elif what == "unflushed":
        unflushed(name)
    elif what == "compact":
        compact(name)
    elif what == "drop":
        utility.drop_collection(name, timeout=PATIENCE)
    if what in ("state", "drop", "unflushed", "compact"):
        print(json.dumps(state() if what == "state" else {"wrong": 0}))
    else:
        print(json.dumps(digest(name)))


main()
