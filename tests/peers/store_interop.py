"""Our store and torch.distributed's TCPStore, each as the other's server and client.

usage: store_interop.py STORE_PEER [unittest arguments]
Runs itself with the interpreter that DEEPSCALE_TORCH_PYTHON names, else python3. Ends with 77, and says why, where that has no torch.
"""
import datetime
import os
import subprocess
import sys
import threading
import unittest

STORE_PEER = os.path.abspath(sys.argv[1]) if __name__ == "__main__" else ""
RANK_PROGRAM = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo", init_method="env://")
rank, world = dist.get_rank(), dist.get_world_size()
total = torch.arange(5.0) + rank
dist.all_reduce(total)
assert torch.equal(total, world * torch.arange(5.0) + world * (world - 1) / 2), total
gathered = [None] * world
dist.all_gather_object(gathered, {"rank": rank})
assert [entry["rank"] for entry in gathered] == list(range(world)), gathered
dist.monitored_barrier()
dist.destroy_process_group()
"""


def seconds(count):
    return datetime.timedelta(seconds=count)


class OurServer:
    def __init__(self):
        self.process = subprocess.Popen([STORE_PEER, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


class TorchServer:
    """torch's own master, in a process of its own: some of its calls hold the interpreter while they block."""

    PROGRAM = ("import sys, torch.distributed as dist\n"
               "store = dist.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)\n"
               "print(store.port, flush=True)\n"
               "sys.stdin.read()\n")

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-c", self.PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.port = int(self.process.stdout.readline())

    __enter__ = OurServer.__enter__
    __exit__ = OurServer.__exit__


def connect(server, timeout=30):
    return dist.TCPStore("127.0.0.1", server.port, is_master=False, timeout=seconds(timeout))


class Recorder:
    """Calls a store and writes down what it returned or raised."""

    def __init__(self, store):
        self.store = store
        self.seen = []

    def __call__(self, method, *arguments):
        function = getattr(self.store, method, None)
        try:
            result = function(*arguments) if function else "this torch has no such method"
        except RuntimeError as error:
            result = type(error).__name__
        if isinstance(result, list) and method == "list_keys":
            result = sorted(result)
        self.seen.append((method, arguments, result))


def use_everything(record):
    record("set", "k", "value")
    record("get", "k")
    record("set", "k", "")
    record("get", "k")
    record("add", "n", 5)
    record("add", "n", -7)
    record("get", "n")
    record("compare_set", "absent", "expected", "x")
    record("compare_set", "new", "", "first")
    record("compare_set", "new", "other", "second")
    record("compare_set", "new", "first", "second")
    record("check", ["k", "n"])
    record("check", ["k", "missing"])
    record("check", [])
    record("wait", ["k", "n"], seconds(5))
    record("wait", ["k", "missing"], seconds(0.1))
    record("wait", ["missing"], seconds(0.1))
    record("get", "n")
    record("num_keys")
    record("delete_key", "n")
    record("delete_key", "n")
    record("append", "log", "12")
    record("append", "log", "34")
    record("get", "log")
    record("multi_set", ["a", "b"], ["1", "2"])
    record("multi_get", ["a", "b"])
    record("has_extended_api")
    record("queue_len", "q")
    record("queue_push", "q", "e1")
    record("queue_push", "q", "e2")
    record("queue_len", "q")
    record("num_keys")
    record("check", ["q"])
    record("delete_key", "q")
    record("queue_pop", "q")
    record("queue_pop", "q", False)
    record("queue_pop", "q", False)
    record("check", ["q"])
    record("num_keys")
    record("barrier", "alone", 1, seconds(5))
    record("barrier", "never", 2, seconds(0.1))
    record("barrier", "never", 2, seconds(5))
    record("list_keys")
    record("set", "large", "x" * 5_000_000)
    record("get", "large")
    record("add", "log", 1)
    record("set", "text", "no number")
    record("get", "text")
    record("add", "text", 1)  # ends the connection


class TorchClient(unittest.TestCase):
    def test_sees_what_it_sees_at_its_own_server(self):
        self.maxDiff = None
        seen = []
        for make in (TorchServer, OurServer):
            with make() as server:
                record = Recorder(connect(server))
                use_everything(record)
                seen.append(record.seen)
        for theirs, ours in zip(*seen):
            self.assertEqual(str(theirs)[:300], str(ours)[:300])

    def test_waits_for_another(self):
        with OurServer() as server:
            store, other = connect(server), connect(server)
            threading.Timer(0.1, lambda: other.set("later", "here")).start()
            self.assertEqual(store.get("later"), b"here")

    def test_a_timeout_leaves_the_connection_usable(self):
        with OurServer() as server:
            store, other = connect(server, timeout=0.2), connect(server)
            for _ in range(3):
                with self.assertRaises(RuntimeError):
                    store.get("later")
            other.set("later", "here")
            self.assertEqual(store.get("later"), b"here")

    def test_prefixes(self):
        with OurServer() as server:
            store = connect(server)
            outer = dist.PrefixStore("outer", store)
            inner = dist.PrefixStore("inner", outer)
            inner.set("k", "v")
            self.assertEqual(outer.get("inner/k"), b"v")
            self.assertEqual(store.get("outer/inner/k"), b"v")
            self.assertEqual(inner.add("n", 2), 2)

    def test_waits_for_workers(self):
        with OurServer() as server:
            stores = [dist.TCPStore("127.0.0.1", server.port, world_size=3, is_master=False) for _ in range(3)]
            stores[0].set("k", "v")
            self.assertEqual(stores[2].get("k"), b"v")

    def test_the_servers_end_is_an_error(self):
        with OurServer() as server:
            store = connect(server)
            store.set("k", "v")
        with self.assertRaises(RuntimeError):
            store.get("k")

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_process_groups(self):
        for world_size in (2, 4):
            with OurServer() as server:
                ranks = [subprocess.Popen([sys.executable, "-c", RANK_PROGRAM],
                                          env=os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.port),
                                                            "RANK": str(rank), "WORLD_SIZE": str(world_size),
                                                            "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
                                                            "TORCHELASTIC_USE_AGENT_STORE": "True",
                                                            "TORCHELASTIC_RESTART_COUNT": "0"})
                         for rank in range(world_size)]
                self.assertEqual([rank.wait(120) for rank in ranks], [0] * world_size)


class OurClient(unittest.TestCase):
    def check_against(self, make):
        with make() as server:
            store = connect(server)
            store.set("from_python", "hello from Python")
            subprocess.run([STORE_PEER, "use", "127.0.0.1", str(server.port)], check=True, timeout=60)
            self.assertEqual(store.get("from_cpp"), b"hello from C++")

    def test_at_torchs_server(self):
        self.check_against(TorchServer)

    def test_at_our_server_beside_torchs_client(self):
        self.check_against(OurServer)


def run_with_torch():
    """Replaces this process by one whose interpreter has torch, unless it is that one."""
    python = os.environ.get("DEEPSCALE_TORCH_PYTHON", "python3")
    if os.environ.get("STORE_INTEROP_PYTHON") == python:
        return
    found = subprocess.run([python, "-c", "import torch.distributed as dist; assert dist.is_available()"], capture_output=True,
                           text=True)
    if found.returncode != 0:
        why = (found.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"skipped: {python} cannot import torch.distributed ({why}); DEEPSCALE_TORCH_PYTHON names another interpreter")
        sys.exit(77)
    os.execvpe(python, [python] + sys.argv, os.environ | {"STORE_INTEROP_PYTHON": python})


if __name__ == "__main__":
    run_with_torch()
    import torch.distributed as dist

    unittest.main(argv=[sys.argv[0]] + sys.argv[2:], verbosity=2)
