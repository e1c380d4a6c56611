"""Collections of every kind on a real Milvus, made once and digested as often as asked.

usage: logical_session.py HOST:PORT fill
       logical_session.py HOST:PORT digest SUFFIX DATABASE.COLLECTION...
       logical_session.py HOST:PORT drop DATABASE.COLLECTION...
       logical_session.py HOST:PORT index DATABASE.COLLECTION...
       logical_session.py HOST:PORT forget
       logical_session.py HOST:PORT aliases DATABASE.COLLECTION
       logical_session.py HOST:PORT turns DATABASE.COLLECTION
       logical_session.py HOST:PORT list
       logical_session.py HOST:PORT rbac make|drop|show

`digest` prints one line of JSON: schema, partitions with their rows, indexes, every row and vector by key, and what searches
find. Names are left out, so that equal lines mean equal collections whatever they are called.
"""

import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterable

import numpy as np

logging.disable(logging.CRITICAL)
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, Role, connections, db, utility  # noqa: E402

DIM = 16
PATIENCE = 120
LIMIT = 16384
# What an array may hold beside texts, and a value that follows from a number.
ELEMENTS = {
    DataType.BOOL: lambda n: n % 3 == 0, DataType.INT8: lambda n: n % 100, DataType.INT16: lambda n: n % 1000,
    DataType.INT32: lambda n: n * 5, DataType.INT64: lambda n: n << 33, DataType.FLOAT: lambda n: n / 8,
    DataType.DOUBLE: lambda n: n / 7,
}


def vector(key):
    return np.random.default_rng(key).random(DIM, dtype=np.float32).tolist()


def bits(key):
    return np.random.default_rng(key).bytes(DIM * 4 // 8)


def birds():
    """Every scalar type, dynamic fields, partitions, deletes in memory and in logs, an alias; loaded."""
    fields = [
        FieldSchema("id", DataType.INT64, is_primary=True),
        FieldSchema("truth", DataType.BOOL),
        FieldSchema("tiny", DataType.INT8),
        FieldSchema("small", DataType.INT16),
        FieldSchema("middle", DataType.INT32),
        FieldSchema("large", DataType.INT64),
        FieldSchema("single", DataType.FLOAT),
        FieldSchema("double", DataType.DOUBLE),
        FieldSchema("name", DataType.VARCHAR, max_length=64),
        FieldSchema("nest", DataType.JSON),
        FieldSchema("calls", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=4, max_length=20),
        *(FieldSchema(f"of_{kind.name}", DataType.ARRAY, element_type=kind, max_capacity=8) for kind in ELEMENTS),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIM),
    ]
    schema = CollectionSchema(fields, description="birds of every kind", enable_dynamic_field=True)
    collection = Collection("birds", schema, shards_num=1, consistency_level="Strong")
    collection.create_partition("north")
    collection.create_partition("empty")

    def rows(keys):
        return [
            {
                "id": k, "truth": k % 2 == 0, "tiny": k % 100, "small": k % 1000, "middle": k * 3, "large": k << 33,
                "single": k / 4, "double": k / 7, "name": f"bird {k} ü", "nest": {"eggs": k % 5, "of": [k, str(k)]},
                "calls": [f"call {k % 3}", "ü"][: k % 3],
                **{f"of_{kind.name}": [of(k + i) for i in range(k % 7)] for kind, of in ELEMENTS.items()},
                "vector": vector(k), "colour": f"c{k % 7}", "wings": 2,
            }
            for k in keys
        ]

    collection.insert(rows(range(0, 1500)))
    collection.insert(rows(range(1500, 2000)), partition_name="north")
    collection.delete("id in [1, 2, 3]")
    collection.flush(timeout=PATIENCE)
    collection.delete(f"id in {list(range(100, 150))}")
    collection.delete("id in [1600, 1601]")
    # Deleted and written again: the new one counts.
    collection.delete("id in [200]")
    collection.insert(rows([200]))
    collection.insert(rows(range(2000, 2100)))
    collection.flush(timeout=PATIENCE)
    index = {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 8}}
    collection.create_index("vector", index, timeout=PATIENCE)
    collection.create_index("name", index_name="by_name", timeout=PATIENCE)
    utility.create_alias("birds", "fowl")
    collection.load(timeout=PATIENCE)
    # Not flushed: a backup has to see to that itself.
    collection.insert(rows(range(2100, 2110)))
    collection.delete("id in [2000]")


def keyed():
    """Text keys, a partition key, a binary vector, two shards, upserts; not loaded."""
    fields = [
        FieldSchema("key", DataType.VARCHAR, max_length=40, is_primary=True),
        FieldSchema("flock", DataType.INT64, is_partition_key=True),
        FieldSchema("bits", DataType.BINARY_VECTOR, dim=DIM * 4),
    ]
    collection = Collection("keyed", CollectionSchema(fields), num_partitions=2, shards_num=2)
    keys = list(range(0, 600))
    collection.insert([[f"k{k}" for k in keys], [k % 10 for k in keys], [bits(k) for k in keys]])
    collection.flush(timeout=PATIENCE)
    def upsert(keys, turn):
        collection.upsert([[f"k{k}" for k in keys], [k % 10 for k in keys], [bits(k + turn * 10**6) for k in keys]])

    upsert(keys[:50], 1)
    collection.flush(timeout=PATIENCE)
    # Twice within one segment.
    upsert(keys[50:60], 2)
    upsert(keys[50:60], 3)
    collection.flush(timeout=PATIENCE)
    collection.create_index("bits", {"index_type": "BIN_FLAT", "metric_type": "HAMMING", "params": {}}, timeout=PATIENCE)


def nests():
    """Another database, keys that Milvus gives, several flushes."""
    fields = [
        FieldSchema("id", DataType.INT64, is_primary=True, auto_id=True),
        FieldSchema("what", DataType.VARCHAR, max_length=20),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIM),
    ]
    collection = Collection("nests", CollectionSchema(fields), using="aviary", shards_num=1)
    for start in (0, 300):
        keys = range(start, start + 300)
        collection.insert([[f"nest {k}" for k in keys], [vector(k) for k in keys]])
        collection.flush(timeout=PATIENCE)
    index = {"index_type": "FLAT", "metric_type": "IP", "params": {}}
    collection.create_index("vector", index, timeout=PATIENCE)
    collection.load(timeout=PATIENCE)


# Rows that are deleted or replaced, and written again under the same key; `turn` says which writing of it a row is.
AGAIN = [
    # Within one segment: deleted and written again, slowly, at once, twice; and upserted twice.
    ("insert", range(0, 100), 1), ("delete", range(0, 10)), ("wait",), ("insert", range(0, 10), 2),
    ("delete", range(10, 15)), ("insert", range(10, 15), 3), ("delete", range(10, 15)), ("insert", range(10, 15), 4),
    ("upsert", range(15, 20), 5), ("upsert", range(15, 20), 6), ("flush",),
    # Again in a later segment: what was there, and what was not.
    ("delete", range(20, 30)), ("insert", range(20, 30), 7), ("upsert", range(30, 40), 8),
    ("delete", range(200, 210)), ("upsert", range(200, 205), 9), ("insert", range(210, 260), 10), ("flush",),
    # Written again, and then deleted for good; upserted once more, in a third segment.
    ("delete", range(5, 8)), ("upsert", range(30, 33), 11), ("upsert", range(300, 310), 12), ("upsert", range(300, 305), 13),
    ("delete", range(302, 304)), ("flush",),
    # The deletes of these come to segments that are stored already.
    ("delete", range(90, 100)),
]


def again():
    """No index: only then Milvus leaves the segments as they are, and does not compact them."""
    fields = [
        FieldSchema("id", DataType.INT64, is_primary=True),
        FieldSchema("turn", DataType.INT64),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIM),
    ]
    collection = Collection("again", CollectionSchema(fields), shards_num=1, consistency_level="Strong")
    for what, *args in AGAIN:
        if what == "wait":
            time.sleep(1)
        elif what == "flush":
            collection.flush(timeout=PATIENCE)
        elif what == "delete":
            collection.delete(f"id in {list(args[0])}")
        else:
            keys, turn = args
            getattr(collection, what)([list(keys), [turn] * len(keys), [vector(k * 100 + turn) for k in keys]])


def turns(full):
    """Whether a collection has each row of `again` that lives, in its last writing, and no other; else the differences."""
    wanted = {}
    for what, *args in AGAIN:
        if what == "delete":
            for key in args[0]:
                wanted.pop(key, None)
        elif what in ("insert", "upsert"):
            wanted.update((key, args[1]) for key in args[0])
    using, name = full.split(".")
    collection = Collection(name, using=using)
    if not collection.indexes:
        collection.create_index("vector", {"index_type": "FLAT", "metric_type": "L2", "params": {}}, timeout=PATIENCE)
    collection.load(timeout=PATIENCE)

    def look():
        rows = collection.query("id >= 0", output_fields=["id", "turn", "vector"], limit=LIMIT, consistency_level="Strong")
        return {row["id"]: row["turn"] for row in rows if np.array_equal(np.float32(row["vector"]), np.float32(vector(row["id"] * 100 + row["turn"])))}

    found = until(PATIENCE, look)
    wrong = {key: [found.get(key), turn] for key, turn in wanted.items() if found.get(key) != turn}
    print(json.dumps({"missing or old": wrong, "too many": sorted(set(found) - set(wanted)), "rows": len(found)}))


def empty():
    """No rows, no index."""
    fields = [
        FieldSchema("id", DataType.INT64, is_primary=True),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=4),
    ]
    Collection("empty", CollectionSchema(fields))


def rbac(what):
    """A role with grants in two databases, and a user who has it."""
    role = Role("keeper")
    grants = [("Collection", "birds", "Search", "default"), ("Collection", "nests", "Query", "aviary")]
    grants.append(("Global", "*", "CreateCollection", "default"))
    if what == "make":
        utility.create_user("warden", "Warden-1")
        role.create()
        for kind, name, privilege, database in grants:
            role.grant(kind, name, privilege, database)
        role.add_user("warden")
    elif what == "drop":
        role.remove_user("warden")
        for kind, name, privilege, database in grants:
            role.revoke(kind, name, privilege, database)
        role.drop()
    found = []
    for role in (group.role_name for group in utility.list_roles(True).groups):
        for database in db.list_database():
            for grant in Role(role).list_grants(database).groups:
                found.append([role, grant.db_name, grant.object, grant.object_name, grant.privilege])
    users = [[group.role_name, sorted(group.users)] for group in utility.list_roles(True).groups]
    unique = sorted(json.loads(text) for text in {json.dumps(grant) for grant in found})
    print(json.dumps({"grants": unique, "users": sorted(users)}))


def until(limit, act):
    end = time.time() + limit
    while True:
        try:
            return act()
        except Exception as error:  # pylint: disable=broad-except
            if time.time() > end:
                raise
            print(f"not yet: {str(error)[:160]}", file=sys.stderr)
            time.sleep(0.5)


def digest(suffix, full):
    using, name = full.split(".")
    collection = Collection(name, using=using)
    schema = collection.schema.to_dict()
    base = name.removesuffix(suffix) if suffix else name
    seen = {
        "fields": schema["fields"],
        "dynamic": schema.get("enable_dynamic_field", False),
        "description": schema.get("description", ""),
        "shards": collection.num_shards,
        "consistency": collection.describe()["consistency_level"],
        "partitions": sorted(p.name for p in collection.partitions),
        "indexes": sorted([i.field_name, i.index_name, json.dumps(i.params, sort_keys=True)] for i in collection.indexes),
        "loaded": str(utility.load_state(name, using=using)),
    }
    vectors = [f.name for f in collection.schema.fields if f.dtype in (DataType.FLOAT_VECTOR, DataType.BINARY_VECTOR)]
    if not any(i.field_name in vectors for i in collection.indexes):
        return base, seen
    was_loaded = seen["loaded"].endswith("Loaded")
    if not was_loaded:
        collection.load(timeout=PATIENCE)
    seen |= until(PATIENCE, lambda: contents(collection, vectors[0]))
    if not was_loaded:
        collection.release(timeout=PATIENCE)
    return base, seen


def contents(collection, field):
    key = collection.schema.primary_field.name
    some = f'{key} != ""' if collection.schema.primary_field.dtype == DataType.VARCHAR else f"{key} >= 0"
    fields = [f.name for f in collection.schema.fields] + (["colour", "wings"] if collection.schema.enable_dynamic_field else [])
    rows = collection.query(some, output_fields=fields, limit=LIMIT, consistency_level="Strong")
    whole = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row[key]):
        for name in sorted(row):
            value = row[name]
            if name == field:
                value = value[0].hex() if isinstance(value[0], bytes) else np.asarray(value, dtype=np.float32).tobytes().hex()
            elif isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict)):
                value = list(value)
            whole.update(f"{name}={json.dumps(value, sort_keys=True, default=str)}|".encode())
    queries = [vector(10**7 + i) if field == "vector" else bits(10**7 + i) for i in range(5)]
    params = {"vector": {"params": {"nprobe": 8}}, "bits": {"params": {}}}[field]
    found = collection.search(queries, field, params, limit=10, consistency_level="Strong")
    # Of those that are equally far as the last, any may be among the ten.
    near = [sorted((round(h.distance, 4), str(h.id) if h.distance != hits[-1].distance else "") for h in hits) for hits in found]
    counts = {}
    if not any(f.is_partition_key for f in collection.schema.fields):
        for partition in collection.partitions:
            answer = collection.query(some, output_fields=["count(*)"], partition_names=[partition.name])
            counts[partition.name] = answer[0]["count(*)"]
    return {
        "rows": len(rows),
        "count": collection.query("", output_fields=["count(*)"], consistency_level="Strong")[0]["count(*)"],
        "in_partitions": counts,
        "sha256": whole.hexdigest(),
        "nearest": hashlib.sha256(json.dumps(near).encode()).hexdigest(),
    }


def drop(using, name):
    for alias in utility.list_aliases(name, using=using):
        utility.drop_alias(alias, using=using)
    utility.drop_collection(name, using=using)


def main():
    address, what, *rest = sys.argv[1:]
    host, port = address.split(":")
    login = {"user": "root", "password": "Milvus"}
    connections.connect("default", host=host, port=port, timeout=60, **login)
    if "aviary" not in db.list_database():
        db.create_database("aviary")
    connections.connect("aviary", host=host, port=port, timeout=60, db_name="aviary", **login)
    if what == "forget":
        for using in ("default", "aviary"):
            for name in utility.list_collections(using=using):
                drop(using, name)
        db.drop_database("aviary")
    elif what == "aliases":
        using, name = rest[0].split(".")
        print(json.dumps(list(utility.list_aliases(name, using=using))))
    elif what == "turns":
        turns(rest[0])
    elif what == "fill":
        for make in (birds, keyed, nests, again, empty):
            make()
    elif what == "drop":
        for full in rest:
            drop(*full.split("."))
    elif what == "index":
        index = {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 8}}
        for full in rest:
            using, name = full.split(".")
            Collection(name, using=using).create_index("vector", index, timeout=PATIENCE)
    elif what == "list":
        names = [f"{using}.{name}" for using in ("default", "aviary") for name in utility.list_collections(using=using)]
        print(json.dumps(sorted(names)))
    elif what == "rbac":
        rbac(rest[0])
    elif what == "digest":
        suffix, *names = rest
        print(json.dumps(dict(digest(suffix, name) for name in names), sort_keys=True))


main()
