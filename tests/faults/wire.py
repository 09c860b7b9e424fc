#!/usr/bin/env python3
"""A TCP proxy that is told by lines on its standard input what goes wrong: wire.py LISTEN_PORT HOST:PORT

    well            bytes go through; `well cut` ends the connections that there are as well
    delay MS        each way takes half of it longer
    cut BYTES       each connection is reset after so many more bytes, which are passed on
    deaf            requests go through, answers are swallowed: what was asked may be done, and nobody hears of it
    blackhole       nothing goes through, either way, and nothing ends
    refuse          connections are reset, new ones too
    drip            bytes go through one by one: of a packet, a record of TLS or a frame of WebSocket only parts arrive

With port 0 it takes a free one and prints it.
What was swallowed is gone: such a connection stays open and never says anything sensible again, until somebody ends it.
"""

import asyncio
import socket
import struct
import sys

CHUNK = 1 << 16
DRIP_TURNS = 2  # of the event loop between two bytes, so that the first is read before the second is there


class Link:
    """One connection: two directions, and whether bytes of it were lost."""

    def __init__(self, wire: "Wire", near: tuple, far: tuple):
        self.wire, self.near, self.far = wire, near, far
        self.left: int | None = None  # bytes until the cut
        self.broken = [False, False]  # requests, answers: once bytes are lost, the rest is not passed on

    async def carry(self, answers: bool) -> None:
        reader, writer = (self.far[0], self.near[1]) if answers else (self.near[0], self.far[1])
        try:
            while data := await reader.read(CHUNK):
                wire = self.wire
                if wire.mode == "blackhole" or (wire.mode == "deaf" and answers):
                    self.broken[answers] = True
                if self.broken[answers]:
                    continue
                if wire.delay_s:
                    await asyncio.sleep(wire.delay_s)
                if self.left is not None:
                    data, self.left = data[: self.left], self.left - len(data)
                await self.write(writer, data)
                if self.left is not None and self.left <= 0:
                    return self.reset()
            if not self.broken[answers]:
                writer.write_eof()
        except OSError:
            self.reset()

    async def write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        size = 1 if self.wire.mode == "drip" else len(data)
        for at in range(0, len(data), size):
            writer.write(data[at : at + size])  # at once: asyncio has set TCP_NODELAY
            await writer.drain()
            for _ in range(DRIP_TURNS if size < len(data) else 0):
                await asyncio.sleep(0)

    def reset(self) -> None:
        for _, writer in (self.near, self.far):
            if (sock := writer.get_extra_info("socket")) is not None:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                except OSError:
                    pass
            writer.transport.abort()


class Wire:
    def __init__(self, host: str, port: int):
        self.host, self.port = host, port
        self.mode, self.delay_s, self.cut_after = "well", 0.0, 0
        self.links: set[Link] = set()

    def order(self, line: str) -> None:
        """Follows one line."""
        word, _, rest = line.strip().partition(" ")
        if word not in ("well", "delay", "cut", "deaf", "blackhole", "refuse", "drip"):
            raise ValueError(f"{line!r} is no order")
        self.mode, self.delay_s = word, int(rest) / 2000 if word == "delay" else 0.0
        self.cut_after = int(rest) if word == "cut" else 0
        for link in list(self.links):
            link.left = self.cut_after or None
            if word == "refuse" or (word, rest) == ("well", "cut"):
                link.reset()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, (reader, writer), there)
        if self.mode == "refuse":
            return link.reset()
        link.left = self.cut_after or None
        self.links.add(link)
        try:
            await asyncio.gather(link.carry(False), link.carry(True))
        finally:
            self.links.discard(link)
            writer.close()
            there[1].close()

    async def orders(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self.order(line.decode())


async def main() -> None:
    host, _, port = sys.argv[2].rpartition(":")
    wire = Wire(host, int(port))
    async with await asyncio.start_server(wire.connected, "127.0.0.1", int(sys.argv[1])) as server:
        if sys.argv[1] == "0":
            print(server.sockets[0].getsockname()[1], flush=True)
        await wire.orders()  # its end is ours


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    asyncio.run(main())
