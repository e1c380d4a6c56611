"""Collections whose bucket is salvaged later, on a real Milvus: several flushes, deletes, upserts, a compaction.

usage: salvage_session.py HOST:PORT fill
       salvage_session.py HOST:PORT digest COLLECTION...

`digest` makes an index if there is none, loads, and prints one line of JSON: every row, vectors by their bits.
"""

import hashlib
import json
import logging
import sys
import time

import numpy as np

logging.disable(logging.CRITICAL)
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections  # noqa: E402

DIM = 16
PATIENCE = 120
INDEX = {"index_type": "FLAT", "metric_type": "L2", "params": {}}


def vector(key):
    return np.random.default_rng(key).random(DIM, dtype=np.float32).tolist()


def numbers():
    """Number keys, dynamic fields, one shard; deletes and upserts before and behind a compaction, and within one flush."""
    fields = [
        FieldSchema("id", DataType.INT64, is_primary=True),
        FieldSchema("name", DataType.VARCHAR, max_length=64),
        FieldSchema("truth", DataType.BOOL),
        FieldSchema("tiny", DataType.INT8),
        FieldSchema("single", DataType.FLOAT),
        FieldSchema("double", DataType.DOUBLE),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIM),
    ]
    schema = CollectionSchema(fields, enable_dynamic_field=True)
    collection = Collection("numbers", schema, shards_num=1, consistency_level="Strong")
    collection.create_index("vector", INDEX, timeout=PATIENCE)
    collection.load(timeout=PATIENCE)

    def rows(keys, salt=0):
        return [
            {
                "id": k, "name": f"row {k} ü {salt}", "truth": k % 3 == 0, "tiny": k % 100 - 50, "single": k / 4, "double": k / 7,
                "vector": vector(k + salt), "colour": k % 5, "note": {"salt": salt},
            }
            for k in keys
        ]

    collection.insert(rows(range(0, 300)))
    collection.flush(timeout=PATIENCE)
    collection.insert(rows(range(300, 600)))
    collection.flush(timeout=PATIENCE)
    collection.delete("id in " + str(list(range(0, 50))))
    collection.upsert(rows(range(100, 150), salt=10**6))
    collection.flush(timeout=PATIENCE)
    collection.compact(timeout=PATIENCE)
    collection.wait_for_compaction_completed(timeout=PATIENCE)
    collection.delete("id in [200, 201, 202]")
    collection.insert(rows(range(600, 700)))
    # Written, changed and flushed at once: rows, their deletes and the new rows lie in one segment.
    collection.upsert(rows(range(600, 620), salt=2 * 10**6))
    # A key that was deleted comes again.
    collection.insert(rows(range(0, 5), salt=3 * 10**6))
    collection.flush(timeout=PATIENCE)


def texts():
    """Text keys, two shards, two partitions; no deletes in one of them."""
    fields = [
        FieldSchema("key", DataType.VARCHAR, max_length=40, is_primary=True),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIM),
    ]
    collection = Collection("texts", CollectionSchema(fields), shards_num=2, consistency_level="Strong")
    collection.create_partition("north")
    for partition, keys in (("_default", range(0, 200)), ("north", range(1000, 1100))):
        collection.insert([[f"k{k}" for k in keys], [vector(k) for k in keys]], partition_name=partition)
    collection.flush(timeout=PATIENCE)
    collection.create_index("vector", INDEX, timeout=PATIENCE)
    collection.load(timeout=PATIENCE)
    collection.delete('key in ["k7", "k8", "k1000"]')
    collection.flush(timeout=PATIENCE)


def keyed():
    """A key that decides the partition."""
    fields = [
        FieldSchema("id", DataType.INT64, is_primary=True),
        FieldSchema("flock", DataType.INT64, is_partition_key=True),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIM),
    ]
    collection = Collection("keyed", CollectionSchema(fields), num_partitions=4, shards_num=1, consistency_level="Strong")
    keys = list(range(100))
    collection.insert([keys, [k % 3 for k in keys], [vector(k) for k in keys]])
    collection.flush(timeout=PATIENCE)


def digest(name):
    collection = Collection(name)
    if not collection.indexes:
        collection.create_index("vector", INDEX, timeout=PATIENCE)
    collection.load(timeout=PATIENCE)
    key = collection.schema.primary_field.name
    some = f'{key} != ""' if collection.schema.primary_field.dtype == DataType.VARCHAR else f"{key} >= 0"
    fields = [f.name for f in collection.schema.fields] + (["colour", "note"] if collection.schema.enable_dynamic_field else [])
    end = time.time() + PATIENCE
    while True:
        try:
            found = collection.query(some, output_fields=fields, limit=16384, consistency_level="Strong")
            count = collection.query("", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"]
            break
        except Exception:  # pylint: disable=broad-except
            if time.time() > end:
                raise
            time.sleep(0.5)
    whole = hashlib.sha256()
    for row in sorted(found, key=lambda row: row[key]):
        row["vector"] = np.asarray(row["vector"], dtype=np.float32).tobytes().hex()
        whole.update(json.dumps(row, sort_keys=True, default=str).encode())
    counts = {}
    for partition in collection.partitions:
        of = {} if name == "keyed" else {"partition_names": [partition.name]}
        counts[partition.name] = len(collection.query(some, output_fields=[key], limit=16384, **of))
    if name == "keyed":
        # A search by the key looks into one partition alone.
        counts = [len(collection.query(f"flock == {n}", output_fields=[key], limit=16384)) for n in range(4)]
    return {"rows": len(found), "count": count, "in_partitions": counts, "sha256": whole.hexdigest()}


def main():
    address, what, *names = sys.argv[1:]
    host, port = address.split(":")
    connections.connect("default", host=host, port=port, timeout=60)
    if what == "fill":
        numbers()
        texts()
        keyed()
    elif what == "digest":
        print(json.dumps({name: digest(name) for name in names}, sort_keys=True))


main()
