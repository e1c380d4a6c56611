"""Writes, reads, watches and keeps a lease through the endpoints in argv while members come and go, with the client `etcd3`.

One line on stdout for each thing: `put KEY VALUE REVISION`, `got KEY VALUE`, `event REVISION KEY VALUE`, `lease ID`, `failed
WHAT`. It ends some time after stdin has, when its watch has heard of the last write. This client knows one endpoint; gRPC itself
takes several in its name, and goes to the next when one is gone.
"""

import os
import sys
import threading
import time

import etcd3

TTL = 5
PAUSE = 0.02
OPTIONS = {
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.min_reconnect_backoff_ms": 50,
    "grpc.max_reconnect_backoff_ms": 200,
    "grpc.keepalive_time_ms": 1000,
    "grpc.keepalive_timeout_ms": 1000,
    # Else all addresses together are the host that is asked for, which HTTP/2 has no room for.
    "grpc.default_authority": "cluster.test",
    # Channels of one process would else share one connection.
    "grpc.use_local_subchannel_pool": 1,
}
over = threading.Event()
saying = threading.Lock()


def say(*words):
    with saying:
        print(*words, flush=True)


def fail(error):
    cause = error.__cause__ or error.__context__
    say("failed", type(error).__name__, " ".join(str(cause.details()).split()) if hasattr(cause, "details") else "")


def connect():
    rest, (host, port) = sys.argv[1:-1], sys.argv[-1].split(":")
    return etcd3.client(host="ipv4:" + ",".join(rest + [host]), port=int(port), timeout=3, grpc_options=OPTIONS.items())


def again(call):
    """Tries until it is done; only for what may be done twice."""
    while True:
        try:
            return call()
        except Exception as error:
            fail(error)
            time.sleep(PAUSE)


def write():
    client, n = connect(), 0
    while not over.is_set():
        n += 1
        key = f"s/{n}"
        try:
            say("put", key, n, client.put(key, str(n)).header.revision)
            value, _ = client.get(key)
            say("got", key, "nothing" if value is None else value.decode())
        except Exception as error:
            fail(error)
        time.sleep(PAUSE)
    again(lambda: client.put("s/end", "end"))


def watch():
    """Goes on after the last revision it has heard of, on a new connection, whenever its stream ends."""
    following = 1
    while True:
        client = connect()
        try:
            answers, _ = client.watch_prefix_response("s/", start_revision=following)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
                for event in answer.events:
                    deleted = isinstance(event, etcd3.events.DeleteEvent)
                    say("event", event.mod_revision, event.key.decode(), "deleted" if deleted else event.value.decode())
                    following = event.mod_revision + 1
                    if event.key == b"s/end":
                        return
        except Exception as error:
            fail(error)
        finally:
            client.close()
        time.sleep(PAUSE)


def keep(lease):
    client = connect()
    while True:
        try:
            for answer in client.refresh_lease(lease):
                if answer.TTL == 0:
                    say("failed", "the lease is gone")
        except Exception:
            time.sleep(PAUSE)
            continue
        time.sleep(0.5)


def main():
    client = connect()
    lease = again(lambda: client.lease(TTL)).id
    say("lease", lease)
    again(lambda: client.put("s/leased", "here", lease=lease))
    watching = threading.Thread(target=watch, daemon=True)
    threading.Thread(target=keep, args=(lease,), daemon=True).start()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    watching.start()
    write()
    watching.join()
    # Threads of the client itself may still hang on streams.
    os._exit(0)


main()
