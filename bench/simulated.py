# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Thousands of WireGuard clients in one process: real handshakes, both ways, and no tunnel behind them.

Each has a key pair, an address and a port of its own, as WireGuard's own clients behind many routers. It begins one
handshake, confirms the session with an empty packet, and from then on answers whoever begins one with it. None of
WireGuard's timers runs here: what these clients notice, the cluster has done.

The protocol is that of https://www.wireguard.com/protocol/, whose names are used here.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

INITIATION, RESPONSE, DATA = 1, 2, 4
INITIATION_SIZE, RESPONSE_SIZE = 148, 92
RETRY = 5.0  # seconds, WireGuard's REKEY_TIMEOUT
SPEAKING = 5.0  # seconds between two packets of a client that is not idle
TICK = 0.02  # seconds

TAI = 0x400000000000000A  # TAI64's label of 1970, and ten seconds
NO_PSK = bytes(32)


def blake(*parts: bytes) -> bytes:
    return hashlib.blake2s(b"".join(parts)).digest()


CHAIN = blake(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
HASH = blake(CHAIN, b"WireGuard v1 zx2c4 Jason@zx2c4.com")


def kdf(key: bytes, data: bytes, count: int) -> list[bytes]:
    secret = hmac.digest(key, data, "blake2s")
    outputs = [b""]
    for number in range(1, count + 1):
        outputs.append(hmac.digest(secret, outputs[-1] + bytes([number]), "blake2s"))
    return outputs[1:]


def seal(key: bytes, counter: int, text: bytes, aad: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(struct.pack("<4xQ", counter), text, aad)


def unseal(key: bytes, counter: int, text: bytes, aad: bytes) -> bytes:
    """Raise InvalidTag."""
    return ChaCha20Poly1305(key).decrypt(struct.pack("<4xQ", counter), text, aad)


def tai64n(now: float) -> bytes:
    return struct.pack(">QI", TAI + int(now), int(now % 1 * 1e9))


class Keys:
    """A private key, and what is often needed of it."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self.private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def numbered(cls, number: int) -> Keys:
        """The same key for the same number at any time: these clients protect nothing."""
        return cls(X25519PrivateKey.from_private_bytes(blake(b"wirefleet bench client", number.to_bytes(4, "big"))))

    def shared(self, public: bytes) -> bytes:
        return self.private.exchange(X25519PublicKey.from_public_bytes(public))


class Client:
    """One client, which speaks to ``service`` (its public key) only.

    ``answered``: when it last answered a handshake that somebody else began, on the monotonic clock.
    """

    def __init__(self, keys: Keys, service: bytes) -> None:
        self.keys, self.service = keys, service
        self.answered: float | None = None
        self.connected = False
        self._static = keys.shared(service)
        self._mac1_out, self._mac1_in = blake(b"mac1----", service), blake(b"mac1----", keys.public)
        self._greatest = b""
        self._key, self._peer_index, self._counter = b"", b"", 0

    def initiation(self) -> bytes:
        self._index, self._ephemeral = os.urandom(4), Keys(X25519PrivateKey.generate())
        ephemeral = self._ephemeral.public
        digest = blake(blake(HASH, self.service), ephemeral)
        chain, key = kdf(kdf(CHAIN, ephemeral, 1)[0], self._ephemeral.shared(self.service), 2)
        static = seal(key, 0, self.keys.public, digest)
        digest = blake(digest, static)
        chain, key = kdf(chain, self._static, 2)
        stamp = seal(key, 0, tai64n(time.time()), digest)
        self._chain, self._digest = chain, blake(digest, stamp)
        return self._finished(struct.pack("<I", INITIATION) + self._index + ephemeral + static + stamp)

    def receive(self, message: bytes) -> bytes | None:
        """Return what there is to say to that. Raises InvalidTag when it is from somebody else."""
        kind = message[0] if message else 0
        if kind == RESPONSE and len(message) == RESPONSE_SIZE and message[8:12] == self._index:
            return self._receive_response(message)
        if kind == INITIATION and len(message) == INITIATION_SIZE:
            return self._receive_initiation(message)
        return None

    def speak(self) -> bytes:
        """An empty packet of data, which is WireGuard's keepalive."""
        counter, self._counter = self._counter, self._counter + 1
        return struct.pack("<I4sQ", DATA, self._peer_index, counter) + seal(self._key, counter, b"", b"")

    def _receive_response(self, message: bytes) -> bytes:
        sender, ephemeral, empty = message[4:8], message[12:44], message[44:60]
        digest = blake(self._digest, ephemeral)
        chain = kdf(self._chain, ephemeral, 1)[0]
        chain = kdf(chain, self._ephemeral.shared(ephemeral), 1)[0]
        chain = kdf(chain, self.keys.shared(ephemeral), 1)[0]
        chain, temporary, key = kdf(chain, NO_PSK, 3)
        unseal(key, 0, empty, blake(digest, temporary))
        self._key, _receiving = kdf(chain, b"", 2)
        self._peer_index, self._counter, self.connected = sender, 0, True
        return self.speak()

    def _receive_initiation(self, message: bytes) -> bytes | None:
        mac1 = hashlib.blake2s(message[:116], key=self._mac1_in, digest_size=16).digest()
        if mac1 != message[116:132]:
            return None
        sender, ephemeral, static, stamp = message[4:8], message[8:40], message[40:88], message[88:116]
        digest = blake(blake(HASH, self.keys.public), ephemeral)
        chain, key = kdf(kdf(CHAIN, ephemeral, 1)[0], self.keys.shared(ephemeral), 2)
        if unseal(key, 0, static, digest) != self.service:
            return None
        digest = blake(digest, static)
        chain, key = kdf(chain, self._static, 2)
        said = unseal(key, 0, stamp, digest)
        if said <= self._greatest:  # a replay, or a node whose clock is behind
            return None
        self._greatest, digest = said, blake(digest, stamp)

        answer = Keys(X25519PrivateKey.generate())
        digest = blake(digest, answer.public)
        chain = kdf(chain, answer.public, 1)[0]
        chain = kdf(chain, answer.shared(ephemeral), 1)[0]
        chain = kdf(chain, answer.shared(self.service), 1)[0]
        chain, temporary, key = kdf(chain, NO_PSK, 3)
        empty = seal(key, 0, b"", blake(digest, temporary))
        _receiving, self._key = kdf(chain, b"", 2)
        self._index, self._peer_index, self._counter = os.urandom(4), sender, 0
        self.answered = time.monotonic()
        return self._finished(struct.pack("<I", RESPONSE) + self._index + sender + answer.public + empty)

    def _finished(self, message: bytes) -> bytes:
        """Add both macs; the second would answer a cookie, which nobody under these loads sends."""
        return message + hashlib.blake2s(message, key=self._mac1_out, digest_size=16).digest() + bytes(16)


class Crowd:
    """Clients that live in a thread, from ``start`` to ``close``; every second one is idle."""

    def __init__(self, count: int, service: bytes, sources: Sequence[str], server: tuple[str, int]) -> None:
        """Open a socket for each; to be called in the clients' network namespace."""
        self.clients = [Client(Keys.numbered(number), service) for number in range(count)]
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        for number, client in enumerate(self.clients):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            sock.bind((sources[number % len(sources)], 0))
            sock.connect(server)
            self._sockets.append(sock)
            self._selector.register(sock, selectors.EVENT_READ, client)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._live, name="crowd", daemon=True)

    def start(self, rate: float) -> None:
        """Connect, ``rate`` clients a second."""
        self._rate = rate
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._selector.close()
        for sock in self._sockets:
            sock.close()

    @property
    def connected(self) -> int:
        return sum(client.connected for client in self.clients)

    def _live(self) -> None:
        # What each does next, and when: times only grow within one of the queues.
        begin = time.monotonic()
        connecting = deque((begin + number / self._rate, number) for number in range(len(self.clients)))
        speaking: deque[tuple[float, int]] = deque()
        while not self._ending.is_set():
            for key, _ in self._selector.select(TICK):
                self._listen(key.fileobj, key.data)  # type: ignore[arg-type]
            now = time.monotonic()
            while connecting and connecting[0][0] <= now:
                _, number = connecting.popleft()
                client = self.clients[number]
                if not client.connected:
                    self._send(number, client.initiation())
                    connecting.append((max(now + RETRY, connecting[-1][0] if connecting else 0), number))
                elif number % 2:
                    speaking.append((now + SPEAKING, number))
            while speaking and speaking[0][0] <= now:
                _, number = speaking.popleft()
                self._send(number, self.clients[number].speak())
                speaking.append((now + SPEAKING, number))

    def _listen(self, sock: socket.socket, client: Client) -> None:
        try:
            message = sock.recv(2048)
            answer = client.receive(message)
        except (InvalidTag, OSError):  # an ICMP error is one, too
            return
        if answer:
            sock.send(answer)

    def _send(self, number: int, message: bytes) -> None:
        try:
            self._sockets[number].send(message)
        except OSError:  # the last one's ICMP error
            self._sockets[number].send(message)
