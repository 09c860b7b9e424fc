#!/usr/bin/env python3
"""A TCP proxy that makes a round trip longer: proxy.py LISTEN_PORT HOST:PORT DELAY_MS

Half of the delay is put on each way. Bytes are not held up by those before them (a long way, not a narrow one)."""

import asyncio
import sys

CHUNK = 1 << 18
HELD_MAX = 4_096  # chunks under way in one direction: then nothing more is read


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_MAX)

    async def read() -> None:
        data = b"-"
        while data:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                data = b""
            await held.put((loop.time() + delay_s, data))

    source = asyncio.create_task(read())
    try:
        while True:
            when, data = await held.get()
            await asyncio.sleep(max(0, when - loop.time()))
            if not data:
                writer.write_eof()  # the other direction may have something to say yet
                return
            writer.write(data)
            await writer.drain()
    except OSError:
        writer.close()
    finally:
        source.cancel()


async def serve(port: int, host: str, target: int, delay_s: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(host, target)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(carry(reader, there[1], delay_s), carry(there[0], writer, delay_s))
        finally:
            there[1].close()
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    where, _, target_port = sys.argv[2].rpartition(":")
    try:
        asyncio.run(serve(int(sys.argv[1]), where, int(target_port), float(sys.argv[3]) / 2000))
    except KeyboardInterrupt:
        pass
