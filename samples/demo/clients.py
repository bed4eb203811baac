#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""clients.py PORT COUNT BYTES: that many clients of an echo server at once.

All are connected before the first byte is sent. Each sends random bytes and
reads them back at the same time, then compares. Prints a line of summary.
"""
import asyncio
import os
import sys


async def client(port, count, arrived, start, payload):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    arrived.append(writer)
    if len(arrived) == count:
        start.set()
    await start.wait()

    async def send():
        writer.write(payload)
        await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    echoed = await reader.read(-1)
    await sending
    writer.close()
    await writer.wait_closed()
    return echoed == payload


async def main(port, count, total):
    arrived, start = [], asyncio.Event()
    sizes = [total // count + (1 if i < total % count else 0) for i in range(count)]
    equal = await asyncio.gather(
        *(client(port, count, arrived, start, os.urandom(size)) for size in sizes)
    )
    print(f"clients: {count} connected at once, {total} bytes sent, {sum(equal)} of {count} got theirs back")
    return 0 if all(equal) else 1


sys.exit(asyncio.run(main(*map(int, sys.argv[1:4]))))
