#!/usr/bin/env python3
"""Deterministic cost of an echo server: user-space instructions and system calls per message.

Each server runs under callgrind (then strace -c) and answers two different message counts. The
difference divided by the extra messages is the marginal cost, free of start-up and of this
machine's speed. The number of events in one wait still depends on how the load arrives, most of
all for bulk64k and churn: --rounds takes the median of several, the servers in turn.

usage: cost.py [--only mio,tokio,c] [--ours CMD] [--work echo64,...] [--rounds 5]
"""

import argparse, os, re, shlex, signal, statistics as st, subprocess, tempfile, time
from side_by_side import SERVERS, WORK, load, port
import socket


def up(p):
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", p), 1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


def one(tool, cmd, work, msgs):
    p = port()
    t = tempfile.mktemp()
    pre = {
        "callgrind": ["valgrind", "--tool=callgrind", f"--callgrind-out-file={t}"],
        "strace": ["strace", "-f", "-c", "-o", t],
    }[tool]
    srv = subprocess.Popen(
        pre + shlex.split(cmd.format(port=p)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        if not up(p):
            return None
        subprocess.run(load(work, p) + [f"msgs={msgs}"], stdout=subprocess.DEVNULL, timeout=120)
        if tool == "strace":
            kids = subprocess.run(
                ["pgrep", "-P", str(srv.pid)], capture_output=True, text=True
            ).stdout.split()
            for k in kids:
                os.kill(int(k), signal.SIGTERM)
        else:
            srv.send_signal(signal.SIGTERM)
        srv.wait(20)
        s = open(t).read()
        if tool == "callgrind":
            return int(re.search(r"^(?:summary|totals): (\d+)", s, re.M).group(1))
        return (
            int(re.search(r"^\s*100\.00\s+\S+\s+(?:\d+\s+)?(\d+)\s", s, re.M).group(1))
            if "100.00" in s
            else None
        )
    finally:
        srv.kill()
        srv.wait()


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("--only", default="c,mio,tokio")
    a.add_argument("--ours", default="")
    a.add_argument("--work", default="echo64")
    a.add_argument("--n", type=int, default=10000)
    a.add_argument("--rounds", type=int, default=1)
    a = a.parse_args()

    def marginal(tool, c, w):
        lo, hi = one(tool, c, w, a.n), one(tool, c, w, 3 * a.n)
        return (hi - lo) / (2 * a.n) if lo and hi else float("nan")

    for w in a.work.split(","):
        servers = {k: SERVERS[k] for k in a.only.split(",") if k in SERVERS}
        if a.ours:
            servers["ours"] = a.ours
        print(w)
        r = {k: ([], []) for k in servers}
        for _ in range(a.rounds):
            for k, c in servers.items():
                r[k][0].append(marginal("callgrind", c, w))
                r[k][1].append(marginal("strace", c, w))
        for k, (user, calls) in r.items():
            spread = f"   ({min(user):.1f} to {max(user):.1f})" if a.rounds > 1 else ""
            print(
                f"  {k:8} {st.median(user):9.1f} user instructions/message   "
                f"{st.median(calls):6.2f} system calls/message{spread}",
                flush=True,
            )
