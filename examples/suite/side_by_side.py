#!/usr/bin/env python3
"""Echo servers side by side: each round starts every server in turn (pinned to CPU 0), loads it
from CPU 1, and the table gives medians over the rounds and the ratio to a reference server.

usage: side_by_side.py [--rounds 3] [--ref mio] [--only a,b] [--ours CMD] [--work echo64,...]
CMD holds {port}. Server CPU per message (cpu_us) is the figure to trust: throughput on a shared
two-core machine is bounded by the load generator too.
"""

import argparse, json, os, re, shlex, signal, socket, statistics as st, subprocess, sys, time

B = os.path.dirname(os.path.abspath(__file__))
R = os.environ.get("BENCH_TARGET", f"{B}/../../target") + "/release"
SERVERS = {
    "c": f"{R}/echo_c {{port}}",
    "mio": f"{R}/echo_mio 127.0.0.1:{{port}}",
    "lines_mio": f"{R}/lines_mio 127.0.0.1:{{port}}",
    "lines_tokio": f"{R}/lines_tokio_bytes 127.0.0.1:{{port}}",
    "lines": f"{R}/echo_lines tcp:{{port}}:interface=127.0.0.1:backlog=4096",
    "tokio": f"{R}/echo_tokio 127.0.0.1:{{port}}",
    "monoio": f"{R}/echo_monoio 127.0.0.1:{{port}}",
    "node": f"node {B}/other/echo_node.js {{port}}",
    "uvloop": f"python3 {B}/other/echo_uvloop.py {{port}}",
    "twisted": f"python3 {B}/other/echo_twisted.py tcp:{{port}}:interface=127.0.0.1:backlog=4096",
}


def load(work, port):
    return [f"{R}/load", f"127.0.0.1:{port}"] + WORK[work].split()


WORK = {
    "echo64": "echo conns=50 size=64 depth=1",
    "lines64": "echo conns=50 size=64 depth=1 lines=1",
    "lines64_16": "echo conns=50 size=64 depth=16 lines=1",
    "echo64_c1": "echo conns=1 size=64 depth=1",
    "echo64_c1000": "echo conns=1000 size=64 depth=1",
    "pipe64": "echo conns=50 size=64 depth=32",
    "bulk64k": "echo conns=4 size=65536 depth=4",
    "churn": "churn conns=20 size=64 depth=1",
    "idle": "idle conns=5000",
}


def port():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    p = s.getsockname()[1]
    s.close()
    return p


def run(cmd, work, secs):
    p = port()
    srv = subprocess.Popen(
        ["taskset", "-c", "0"] + shlex.split(cmd.format(port=p)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", p), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            return None
        time.sleep(0.2)
        o = subprocess.run(
            ["taskset", "-c", "1"] + load(work, p) + [f"secs={secs}", f"pid={srv.pid}"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        return json.loads(o.stdout) if o.stdout.strip() else {"error": o.stderr[-200:]}
    finally:
        srv.kill()
        srv.wait()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--ref", default="mio")
    a.add_argument("--only", default="")
    a.add_argument("--ours", default="")
    a.add_argument("--work", default="echo64,echo64_c1000,pipe64,bulk64k,churn,idle")
    a.add_argument("--secs", type=float, default=2.0)
    a.add_argument("--json", default="")
    a = a.parse_args()
    servers = dict(SERVERS)
    if a.only:
        servers = {k: v for k, v in servers.items() if k in a.only.split(",")}
    if a.ours:
        servers["ours"] = a.ours
    out = {}
    for w in a.work.split(","):
        rows = {k: [] for k in servers}
        for _ in range(a.rounds):
            for k, c in servers.items():
                r = run(c, w, a.secs)
                if r:
                    rows[k].append(r)
        print(f"\n{w}: {WORK[w]}")
        med = lambda k, f: (
            st.median([r[f] for r in rows[k] if f in r])
            if any(f in r for r in rows[k])
            else float("nan")
        )
        ratio = lambda k, f: med(k, f) / med(a.ref, f) if rows.get(a.ref) else float("nan")
        for k in servers:
            if w == "idle":
                print(
                    f"  {k:8} bytes/conn {med(k,'bytes_per_conn'):9.0f}  "
                    f"({ratio(k,'bytes_per_conn'):5.2f}x {a.ref})  conns {med(k,'conns'):.0f}"
                )
            else:
                print(
                    f"  {k:8} {med(k,'rps'):10.0f} msg/s  {med(k,'mb_s'):8.1f} MB/s  "
                    f"p50 {med(k,'p50_us'):8.1f}  p99 {med(k,'p99_us'):8.1f}  "
                    f"p999 {med(k,'p999_us'):8.1f} us  cpu {med(k,'cpu_us'):7.3f} us/msg "
                    f"({ratio(k,'cpu_us'):5.2f}x {a.ref})  "
                    f"util {med(k,'srv_util'):.2f}  err {med(k,'errors'):.0f}"
                )
        out[w] = {k: rows[k] for k in servers}
        sys.stdout.flush()
    if a.json:
        json.dump(out, open(a.json, "w"), indent=1)


if __name__ == "__main__":
    main()
