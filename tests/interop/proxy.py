"""A TCP proxy that stands between a replica and its master and misbehaves on request.

    replica --connects--> Proxy.port --connects--> target port (the master)
                UP bytes -->                 <-- DOWN bytes

Faults:
    cut()          every connection at once; with reset=True by RST, else by FIN
    refuse()       new connections are closed as soon as they are accepted, until accept()
    stall(D)       nothing passes in a direction, nothing is closed, until resume()
    trickle(n, s)  n bytes at a time with s seconds between
    cut_after(n)   exactly n more bytes pass in a direction, then every connection is cut
    corrupt_next() the last byte of the next piece is changed

Two threads a connection, blocking sockets, one condition that guards all settings. A pump never
holds the lock while it sends or receives. Bytes are never reordered, and changed by corrupt_next
alone.
"""

from __future__ import annotations

import enum
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from tests.interop.harness import free_port, wait_until

CHUNK_BYTES: Final = 64 * 1024
LOOK_S: Final = 0.25
"""A send blocked by a stopped peer looks this often whether its link was cut meanwhile."""
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER, on, 0 s: close() sends RST


class Direction(enum.Enum):
    """Which way bytes go, as the replica sees it."""

    UP = "replica to master"
    DOWN = "master to replica"


class _Link:
    """One proxied connection: the accepted socket and the one to the target."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.dead = False

    def cut(self, *, reset: bool = False) -> None:
        """Wake both pumps and make them end; the last one out closes the sockets."""
        self.dead = True
        for end in (self.near, self.far):
            try:
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                # Shutting down only the reading half wakes recv() and sends no FIN before the RST.
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            except OSError:
                pass  # that end has gone already


class Proxy:
    """Forward 127.0.0.1:port to 127.0.0.1:target_port until close().

    Args:
        target_port: where connections go; may be changed later for the next ones.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = free_port()
        self.connections = 0
        """Connections accepted so far, refused ones included."""
        self.passed_bytes = dict.fromkeys(Direction, 0)
        self._changed = threading.Condition()
        self._links: set[_Link] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._refusing = False
        self._corrupting: Direction | None = None
        self._stalled: set[Direction] = set()
        self._budget_bytes: dict[Direction, int] = {}
        self._trickle: tuple[int, float] | None = None
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._spawn(self._accept_forever)

    # ---- faults

    @property
    def alive(self) -> int:
        """Connections open now."""
        with self._changed:
            return len(self._links)

    def wait_reconnected(self, seen: int) -> None:
        """Wait until more than `seen` connections have come and exactly one stands."""
        wait_until(
            lambda: self.connections > seen and self.alive == 1,
            f"a new connection through the proxy after {seen}",
        )

    def cut(self, *, reset: bool = False) -> int:
        """Cut every connection; give how many there were."""
        with self._changed:
            links = list(self._links)
            for link in links:
                link.cut(reset=reset)
            self._changed.notify_all()
        return len(links)

    def cut_after(self, passed_bytes: int, direction: Direction = Direction.DOWN) -> None:
        """Let exactly this many more bytes pass in a direction, then cut every connection once."""
        with self._changed:
            self._budget_bytes[direction] = passed_bytes

    def corrupt_next(self, direction: Direction = Direction.DOWN) -> None:
        """Change the last byte of the next piece that passes."""
        with self._changed:
            self._corrupting = direction

    def refuse(self) -> None:
        """Close new connections as soon as they come; those that stand go on."""
        with self._changed:
            self._refusing = True

    def accept(self) -> None:
        """Undo refuse()."""
        with self._changed:
            self._refusing = False

    def stall(self, *directions: Direction) -> None:
        """Hold back everything in these directions (both by default), closing nothing."""
        with self._changed:
            self._stalled |= set(directions or Direction)

    def trickle(self, chunk_bytes: int, pause_s: float) -> None:
        """Pass at most chunk_bytes at a time, pause_s seconds apart, in both directions."""
        with self._changed:
            self._trickle = (chunk_bytes, pause_s)

    def resume(self) -> None:
        """Undo stall() and trickle()."""
        with self._changed:
            self._stalled.clear()
            self._trickle = None
            self._changed.notify_all()

    def close(self) -> None:
        """Cut everything, stop listening and wait for the threads."""
        with self._changed:
            self._closed = True
        self.cut()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        except OSError:
            pass
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- threads

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept_forever(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # close() shut the listener down
            with self._changed:
                self.connections += 1
                refused = self._refusing or self._closed
            if refused:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
            except OSError:
                near.close()  # the master is down: the replica sees its connection end
                continue
            for end in (near, far):
                end.settimeout(LOOK_S)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(near, far)
            with self._changed:
                self._links.add(link)
                if self._closed:
                    link.cut()
            self._spawn(self._carry, link)

    def _carry(self, link: _Link) -> None:
        down = threading.Thread(
            target=self._pump, args=(link, link.far, link.near, Direction.DOWN), daemon=True
        )
        down.start()
        self._pump(link, link.near, link.far, Direction.UP)
        down.join()
        link.near.close()
        link.far.close()
        with self._changed:
            self._links.discard(link)

    def _pump(
        self, link: _Link, source: socket.socket, sink: socket.socket, direction: Direction
    ) -> None:
        try:
            while not link.dead:
                try:
                    data = source.recv(CHUNK_BYTES)
                except TimeoutError:
                    continue
                if not data:
                    break
                while data and not link.dead:
                    piece, pause_s, last = self._take(link, data, direction)
                    data = data[len(piece) :]
                    self._send(link, sink, piece, direction)
                    if last:
                        self.cut()
                    elif pause_s:
                        with self._changed:
                            self._changed.wait_for(lambda: link.dead, pause_s)
        except OSError:
            pass  # one end is gone; the link goes as a whole
        finally:
            if not link.dead:
                link.cut()
            with self._changed:
                self._changed.notify_all()

    def _send(self, link: _Link, sink: socket.socket, piece: bytes, direction: Direction) -> None:
        while piece and not link.dead:
            try:
                piece = piece[sink.send(piece) :]
            except TimeoutError:
                continue

    def _take(self, link: _Link, data: bytes, direction: Direction) -> tuple[bytes, float, bool]:
        """Say which bytes may pass now, how long to pause after, and whether to cut then."""
        with self._changed:
            self._changed.wait_for(lambda: link.dead or direction not in self._stalled)
            if link.dead:
                return data[:0], 0, False
            chunk_bytes, pause_s = self._trickle or (len(data), 0)
            budget_bytes = self._budget_bytes.get(direction)
            piece = data[: chunk_bytes if budget_bytes is None else min(chunk_bytes, budget_bytes)]
            self.passed_bytes[direction] += len(piece)
            if self._corrupting is direction:
                self._corrupting = None
                piece = piece[:-1] + bytes([piece[-1] ^ 1])
            if budget_bytes is None:
                return piece, pause_s, False
            self._budget_bytes[direction] = budget_bytes - len(piece)
            if self._budget_bytes[direction] > 0:
                return piece, pause_s, False
            del self._budget_bytes[direction]
            return piece, pause_s, True
