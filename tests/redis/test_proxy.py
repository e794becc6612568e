"""The wire that other tests trust: it parts a server from some processes and from no others."""

from __future__ import annotations

import asyncio
import os
import sys

from support.proxy import proxy_to
from support.redis_servers import one_server
from support.valkey import redis_client

from chatkernel.redis_client import execute

ASK = """
import sys, redis
client = redis.Redis(port=int(sys.argv[1]), socket_timeout=20)
print(client.ping(), flush=True)
for line in sys.stdin:
    print(client.ping(), flush=True)
"""


async def test_a_split_holds_up_the_processes_that_it_names_until_it_is_joined() -> None:
    with one_server() as server:
        async with proxy_to(server.port) as wire:
            other = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", ASK, str(wire.port)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert other.stdin is not None and other.stdout is not None
            async with redis_client(f"redis://127.0.0.1:{wire.port}") as here:
                assert await other.stdout.readline() == b"True\n"
                wire.split([other.pid])
                other.stdin.write(b"ask\n")
                answer = asyncio.create_task(other.stdout.readline())
                assert await execute(here, [("PING",)]) == [b"PONG"]
                await asyncio.sleep(0.2)
                assert not answer.done()
                wire.join()
                assert await answer == b"True\n"
                wire.split([os.getpid()])
                asked = asyncio.create_task(execute(here, [("PING",)]))
                other.stdin.write(b"ask\n")
                assert await other.stdout.readline() == b"True\n"
                assert not asked.done()
                wire.join()
                assert await asked == [b"PONG"]
            other.stdin.close()
            await other.wait()
