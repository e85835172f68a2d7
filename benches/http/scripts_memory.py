#!/usr/bin/env python3
"""Measures what an idle script takes: benches/http/scripts_memory.py [backend [lines of the global option]]

One Caddy with one script and one with a hundred: each script has answered one request. It prints what Linux charges to each process:
its private memory, and the memfds that hold snapshots, code and warm slots; and the difference for one script. It needs bin/caddy.
"""

import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

CADDY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bin", "caddy")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def measure(backend, options, count):
    """Private memory and memfds of a Caddy with so many scripts, in MiB."""
    port, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory:
        routes = []
        for i in range(count):
            with open(f"{directory}/f{i}.ts", "w") as file:
                file.write(f"export default async (request: Request) => Response.json({{ n: {i}, path: new URL(request.url).pathname }});")
            routes.append(f"\tgojinn /f{i} {directory}/f{i}.ts")
        with open(f"{directory}/Caddyfile", "w") as file:
            file.write(f"{{\n\tadmin localhost:{admin}\n\tgojinn {{\n\t\tbackend {backend}\n\t\t{options}\n\t}}\n}}\n"
                       f"http://127.0.0.1:{port} {{\n" + "\n".join(routes) + "\n}\n")
        with open(f"{directory}/log", "w") as log:
            server = subprocess.Popen([CADDY, "run", "--config", f"{directory}/Caddyfile"], stderr=log)
        try:
            while True:
                try:
                    get(port, "/f0")
                    break
                except OSError:
                    if server.poll() is not None:
                        sys.exit(open(f"{directory}/log").read()[-1000:])
                    time.sleep(0.1)
            for i in range(count):
                assert get(port, f"/f{i}") == (200, b'{"n":%d,"path":"/f%d"}' % (i, i))
            # What the deployments have left for Go's collector is not the scripts'.
            for _ in range(3):
                get(admin, "/debug/pprof/heap?gc=1")
                time.sleep(3)
            rollup = open(f"/proc/{server.pid}/smaps_rollup").read()
            private = int(re.search(r"Pss_Anon:\s+(\d+)", rollup)[1]) / 1024
            memfds = 0
            for name in os.listdir(f"/proc/{server.pid}/fd"):
                path = f"/proc/{server.pid}/fd/{name}"
                if "memfd:" in os.readlink(path):
                    memfds += os.stat(path).st_blocks * 512 / (1 << 20)
            return private, memfds
        finally:
            server.terminate()
            server.wait()


def main():
    backend = sys.argv[1] if len(sys.argv) > 1 else "wasmtime"
    options = " ".join(sys.argv[2:])
    many = 100
    one, all_ = measure(backend, options, 1), measure(backend, options, many)
    print("| scripts | private memory | memfds |\n|---|--:|--:|")
    for count, (private, memfds) in ((1, one), (many, all_)):
        print(f"| {count} | {private:.1f} MiB | {memfds:.1f} MiB |")
    each = [(b - a) / (many - 1) for a, b in zip(one, all_)]
    print(f"| each further one | {each[0]:.2f} MiB | {each[1]:.2f} MiB |")
    print(f"{backend} {options}: {sum(each):.2f} MiB for an idle script beyond the first")


main()
