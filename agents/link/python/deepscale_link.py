"""The link between a Python rank and the agent of its node: what agents/link/rank_link.h is to a C++ rank.

`deepscale launch` puts the folder of this file on the PYTHONPATH of Python programs:

    import deepscale_link
    for step in range(1, steps + 1):
        train_one_step()
        deepscale_link.heartbeat(step)          # once a step; see --heartbeat_timeout
        if deepscale_link.stop_requested():     # preemption: exit code 0 then becomes the 75 of the job
            save_and_leave()

Any thread may call these functions. Without an agent they do nothing. The first call connects, and a thread of the module answers the agent
from then on. The messages are those of agents/link/link_message.h.
"""
import faulthandler
import os
import socket
import struct
import threading

_HELLO, _HEARTBEAT, _ALIVE, _REST, _WATCHES_STOP, _FAILURE, _WELCOME, _REFUSED, _STOP, _FAILURE_RECEIVED, _DUMP_STACKS = range(11)
_STOP_REQUESTED = 0
_VERSION = 1
_HEADER = struct.Struct("<BBHq")
_JOIN_SECONDS, _REPORT_SECONDS, _ALIVE_SECONDS = 10, 2, 1
_MOST_TEXT_BYTES = 4096

# As in the header; the first when nothing better is known.
FAILURES = ("exception", "cuda", "collective_timeout", "peer_lost", "out_of_memory")

_lock = threading.Lock()
_agent = None


class _Agent:
    def __init__(self, address, generation):
        host_and_port, _, token = address.partition("/")
        host, _, port = host_and_port.rpartition(":")
        self.sending = threading.Lock()
        self.watches_stop = False
        self.stop = threading.Event()
        self.failure_received = threading.Event()
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=_JOIN_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_open = True
        self.send(_HELLO, generation, token.encode())
        kind, _, text = self.receive()
        if kind != _WELCOME:
            raise RuntimeError("the agent of this node refuses this rank: " + text.decode(errors="replace"))
        self.socket.settimeout(None)
        threading.Thread(target=self.listen, name="deepscale_link", daemon=True).start()
        threading.Thread(target=self.tell_alive, name="deepscale_alive", daemon=True).start()

    def send(self, kind, number=0, text=b""):
        text = text[:_MOST_TEXT_BYTES]
        try:
            with self.sending:
                if self.is_open:
                    self.socket.sendall(_HEADER.pack(kind, _VERSION, len(text), number) + text)
        except OSError:  # the agent has gone, and ends the rank if the job is over
            self.is_open = False

    def take(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionError("the agent of this node has closed the link")
            data += piece
        return data

    def receive(self):
        kind, version, size, number = _HEADER.unpack(self.take(_HEADER.size))
        if version != _VERSION:
            raise RuntimeError(f"the agent of this node speaks version {version} of the link, and this file version {_VERSION}")
        return kind, number, self.take(size)

    def listen(self):
        try:
            while True:
                kind, number, _ = self.receive()
                if kind == _STOP and number == _STOP_REQUESTED:
                    self.stop.set()
                elif kind == _FAILURE_RECEIVED:
                    self.failure_received.set()
                elif kind == _DUMP_STACKS:
                    faulthandler.dump_traceback(file=2, all_threads=True)
        except (OSError, RuntimeError):
            self.is_open = False

    def tell_alive(self):
        wait = threading.Event()
        while self.is_open:
            self.send(_ALIVE)
            wait.wait(_ALIVE_SECONDS)


def _connected():
    global _agent
    with _lock:
        if _agent is None:
            address = os.environ.get("DEEPSCALE_AGENT")
            if address:
                _agent = (os.getpid(), _Agent(address, int(os.environ.get("DEEPSCALE_GENERATION", "0"))))
        if _agent is None or _agent[0] != os.getpid():  # a child that was forked is no rank
            return None
        return _agent[1]


def heartbeat(steps):
    """The rank has done `steps` steps."""
    if agent := _connected():
        agent.send(_HEARTBEAT, int(steps))


def rest():
    """No step is to be expected until the next heartbeat: a long evaluation, an export."""
    if agent := _connected():
        agent.send(_REST)


def stop_requested():
    """The job is to end, and there is time to save and leave. A rank that has called this once is asked in this way alone."""
    agent = _connected()
    if agent is None:
        return False
    if not agent.watches_stop:
        agent.watches_stop = True
        agent.send(_WATCHES_STOP)
    return agent.stop.is_set()


def report_failure(message, kind="exception"):
    """Why this rank cannot go on; `kind` is one of FAILURES. Blocks until the agent has it, 2 s at most: whether it does."""
    agent = _connected()
    if agent is None:
        return False
    agent.failure_received.clear()
    agent.send(_FAILURE, FAILURES.index(kind), str(message).encode())
    return agent.failure_received.wait(_REPORT_SECONDS)
