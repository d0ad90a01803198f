"""Relays that stand for a bad network: between a client of the tests and a forwarded port. What they do is decided by a
seed, so that a failure comes again."""

import random
import socket
import threading
import time


class SlowRelay:
    """TCP that comes late and in pieces, and stands still at times; nothing is lost, as TCP promises."""

    def __init__(self, port, seed=1):
        self.port_behind, self.seed = port, seed
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            behind = socket.create_connection(("127.0.0.1", self.port_behind))
            for number, (source, target) in enumerate(((client, behind), (behind, client))):
                threading.Thread(target=self._move, args=(source, target, random.Random(self.seed + number)),
                                 daemon=True).start()

    @staticmethod
    def _move(source, target, chance):
        try:
            while piece := source.recv(chance.choice((1, 100, 1460, 40_000))):
                if chance.random() < 0.05:
                    time.sleep(chance.uniform(0, 0.03))
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.close()


class LossyRelay:
    """UDP that is lost, late, doubled and out of order, on the way there and on the way back."""

    def __init__(self, port, loss, seed=1):
        self.loss, self.chance = loss, random.Random(seed)
        self.inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inside.connect(("127.0.0.1", port))
        self.outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.outside.bind(("127.0.0.1", 0))
        self.port = self.outside.getsockname()[1]
        self.client = None
        self.dropped = 0
        self.lock = threading.Lock()
        for move in (self._there, self._back):
            threading.Thread(target=move, daemon=True).start()

    def _there(self):
        try:
            while True:
                datagram, self.client = self.outside.recvfrom(65_536)
                self._pass(lambda: self.inside.send(datagram))
        except OSError:
            pass

    def _back(self):
        try:
            while True:
                datagram = self.inside.recv(65_536)
                self._pass(lambda: self.outside.sendto(datagram, self.client))
        except OSError:
            pass

    def _pass(self, send):
        with self.lock:
            fate = self.chance.random()
            late = self.chance.uniform(0, 0.02)
        if fate < self.loss:
            self.dropped += 1
        elif fate < self.loss + 0.1:
            timer = threading.Timer(late, send)
            timer.daemon = True
            timer.start()
        else:
            send()
            if fate > 0.95:
                send()

    def close(self):
        self.inside.close()
        self.outside.close()
