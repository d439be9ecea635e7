#!/usr/bin/env python3
"""Prints the results of the last `cargo bench -p twistor-suite`: nanoseconds a round, and how many
times faster twistor is than its best rival."""

import json, pathlib, sys

results = {}
for estimates in sorted(
    pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/criterion").glob(
        "*/*/new/estimates.json"
    )
):
    group, who = estimates.parts[-4:-2]
    results.setdefault(group, {})[who] = json.loads(estimates.read_text())["median"][
        "point_estimate"
    ]
print(f"{'':18}{'twistor':>12}{'futures':>12}{'tokio':>12}   best rival / twistor")
for group, times in results.items():
    rivals = [time for who, time in times.items() if who != "twistor"]
    cells = "".join(
        f"{times[who]:12.0f}" if who in times else f"{'-':>12}"
        for who in ("twistor", "futures", "tokio")
    )
    print(f"{group:18}{cells}   {min(rivals) / times['twistor']:.2f}")
