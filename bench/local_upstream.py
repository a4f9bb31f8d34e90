"""Not a benchmark: an upstream that costs next to nothing, in a process of its own."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["upstream"]

BODY = b'{"id":42,"name":"a small thing","price":1999,"tags":["a","b","c"],"in_stock":true}'
_CONFIG = """
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server {{ listen 127.0.0.1:{port};
    location / {{ return 200 '{body}'; }}
    location /unique {{ add_header X-Request-Id $request_id; return 200 '{body}'; }}
  }}
}}
"""


@contextmanager
def upstream() -> Iterator[str]:
    """nginx where it is installed, else a bare protocol on uvloop. Gives the URL that it has, without a slash at its
    end. Below ``/unique`` no two answers of nginx have the same head."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
    with tempfile.TemporaryDirectory() as folder:
        if nginx is None:
            command = [sys.executable, "-m", "bench.local_upstream", str(port)]
        else:
            Path(folder, "nginx.conf").write_text(_CONFIG.format(port=port, body=BODY.decode()))
            command = [nginx, "-p", folder, "-c", "nginx.conf"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            _await(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(5)


def _await(port: int) -> None:
    end = time.monotonic() + 5
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


class _Answer(asyncio.Protocol):
    """Answers whatever comes."""

    _HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write((self._HEAD + BODY) * data.count(b"\r\n\r\n"))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Answer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1])))
