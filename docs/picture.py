#!/usr/bin/env python3
"""Draws docs/picture.png: the orbits of the outer Solar System, and what a run of Emmy and REBOUND do to momentum and energy.

    cargo run --release -- run scenarios/outer_solar_system.ron --out runs/picture
    pip install rebound==5.2.2 matplotlib
    python3 docs/picture.py runs/picture

Emmy's curves are read from `diagnostics.jsonl` in the folder of the run. REBOUND's are computed here, from the same bodies over the
same time, with 40 days a step. The orbits on the left are integrated here as well: the log holds sums, not bodies.

What is drawn as Emmy's momentum drift is what is counted less what the ledger says: Pluto, which pulls nobody, gets its momentum from
the account `reaction`. In REBOUND it has no mass, and so no momentum.
"""

import argparse
import json
import math
import os
import re
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "benches", "peers"))
from rebound_peer import SOLAR_SYSTEM, momentum, rebound_solar_system  # noqa: E402

YEAR = 365.25
SAMPLES = 200
COLOURS = {"Jupiter": "#c8803c", "Saturn": "#b89b4c", "Uranus": "#3f9c9c", "Neptune": "#3a62b8", "Pluto": "#8a6d8f"}
PEERS = {"leapfrog": "#d08a2e", "WHFast": "#5b8c3e", "JANUS": "#9b59a6"}
EMMY = "#c0392b"


# ------------------------------------------------------------------------------------------------------ curves


def emmy_curves(folder):
    """Years, largest component of the momentum drift [quanta], |dE/E|."""
    path = os.path.join(folder, "diagnostics.jsonl")
    with open(path) as file:
        lines = [json.loads(line) for line in file if line.strip()]
    if len(lines) < 10:
        sys.exit(f"{path} has {len(lines)} lines: too few to draw. Ask for more: --set 'output.diagnostics=(steps: 73)'")
    years = [line["time"] / YEAR for line in lines]
    drift = [max(abs(int(quanta)) for quanta in line["momentum_drift"]) for line in lines]
    return years, drift, [abs(line["energy_drift"]) for line in lines]


def scheme(folder):
    """What moved the bodies of a run, as `Srkn11b, 25 days a step`."""
    with open(os.path.join(folder, "scenario.used.ron")) as file:
        found = re.search(r"integrator:\s*(\w+)\(\s*dt:\s*([0-9.eE+-]+)", file.read())
    return f"{found.group(1)}, {float(found.group(2)):g} days a step"


def peer(name):
    """A simulation in REBOUND, and its step in days."""
    janus = name == "JANUS"
    # JANUS at its best: a unit of time in which G is 1, and no test particle.
    sim = rebound_solar_system(scaled=janus, pluto=not janus)
    sim.integrator = name.lower()
    if name == "WHFast":
        sim.integrator.corrector = 11
        sim.integrator.safe_mode = 0
    if janus:
        sim.integrator.order = 10
        sim.integrator.scale_pos = sim.integrator.scale_vel = 1e-16
    return sim


def peer_curves(name, span):
    """Years, |P - P(0)| / sum m|v|, |dE/E|."""
    sim, step_days = peer(name), 40.0
    energy, start = sim.energy(), momentum(sim)
    speed = math.fsum(p.m * math.hypot(p.vx, p.vy, p.vz) for p in sim.particles)
    years, drift, error, done = [], [], [], 0
    for sample in range(1, SAMPLES + 1):
        target = int(span * YEAR / step_days * sample / SAMPLES)
        sim.steps(target - done)
        sim.synchronize()
        done = target
        years.append(done * step_days / YEAR)
        drift.append(math.dist(momentum(sim), start) / speed)
        error.append(abs(sim.energy() / energy - 1))
    return years, drift, error


def orbits():
    """One turn of each planet about the Sun, in the plane of the ecliptic."""
    turns = {"Jupiter": 11.9, "Saturn": 29.5, "Uranus": 84.1, "Neptune": 164.8, "Pluto": 248.5}
    names = [name for name, *_ in SOLAR_SYSTEM]
    paths = {name: ([], []) for name in turns}
    sim = rebound_solar_system()
    sim.integrator = "whfast"
    while sim.t < 249 * YEAR:
        for name, turn in turns.items():
            if sim.t < turn * YEAR:
                body, sun = sim.particles[names.index(name)], sim.particles[0]
                paths[name][0].append(body.x - sun.x)
                paths[name][1].append(body.y - sun.y)
        sim.steps(2)
        sim.synchronize()
    return paths


# ----------------------------------------------------------------------------------------------------- drawing


def draw_orbits(axes):
    axes.plot(0, 0, "o", color="#e8b923", markersize=9, zorder=3)
    for name, (x, y) in orbits().items():
        axes.plot(x, y, color=COLOURS[name], linewidth=1.4)
        axes.plot(x[0], y[0], "o", color=COLOURS[name], markersize=6)
        offset = (9, -14) if name == "Jupiter" else (9, 4)
        axes.annotate(name, (x[0], y[0]), textcoords="offset points", xytext=offset, color=COLOURS[name], fontsize=12)
    axes.set_aspect("equal")
    axes.set_xlim(-36, 52)
    axes.set_ylim(-40, 50)
    axes.set_xlabel("x [au]")
    axes.set_ylabel("y [au]")
    axes.set_title("Outer Solar System", loc="left")


def label_ends(axes, labels):
    """Labels to the right of the axes, (height, text, colour); those that would overlap are pushed apart. Heights are drawn by now."""
    to_points = 72 / axes.figure.dpi
    heights = [axes.transData.transform((0, height))[1] * to_points for height, _, _ in labels]
    order = sorted(range(len(labels)), key=lambda k: heights[k])
    places = [heights[k] for k in order]
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + 15)
    for k, place in zip(order, places):
        height, text, colour = labels[k]
        axes.annotate(text, (1, height), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                      xytext=(8, place - heights[k]), va="center", color=colour, fontsize=11, annotation_clip=False)


def draw_momentum(axes, own, peers):
    """A logarithmic axis has no zero, so the flat line of zero stands below a break."""
    years, drift, _ = own
    ticks = [1e-16, 1e-14, 1e-12, 1e-10, 1e-8]
    zero = 1e-18
    for name, (x, y, _) in peers.items():
        axes.plot(x, [max(value, ticks[0] / 10) for value in y], color=PEERS[name], linewidth=1.4)
    worst = max(drift)
    axes.plot(years, [zero] * len(years), color=EMMY, linewidth=2.6)
    if worst != 0:
        sys.exit(f"the momentum of this run drifted by {worst} quanta: the picture would lie")
    axes.set_yscale("log")
    axes.set_ylim(zero / 4, 1e-7)
    axes.set_yticks([zero] + ticks, ["0"] + [f"$10^{{{round(math.log10(tick))}}}$" for tick in ticks])
    axes.minorticks_off()
    axes.axhline(1e-17, color="#999999", linewidth=0.8, linestyle=(0, (2, 3)))
    labels = [(y[-1], f"REBOUND {name}", PEERS[name]) for name, (_, y, _) in peers.items()]
    label_ends(axes, labels + [(zero, f"Emmy: {worst} quanta", EMMY)])
    axes.set_title(r"Momentum: $|P-P_0|\,/\,\Sigma m|v|$", loc="left")
    axes.tick_params(labelbottom=False)


def draw_energy(axes, own, peers):
    floor = 1e-17
    for name, (x, _, y) in peers.items():
        axes.plot(x, [max(value, floor) for value in y], color=PEERS[name], linewidth=1.2)
    years, _, error = own
    axes.plot(years[1:], [max(value, floor) for value in error[1:]], color=EMMY, linewidth=1.6)
    axes.set_yscale("log")
    axes.set_ylim(1e-17, 1e-3)
    axes.set_yticks([1e-16, 1e-13, 1e-10, 1e-7, 1e-4])
    axes.minorticks_off()
    labels = [(middle(y), f"REBOUND {name}", PEERS[name]) for name, (_, _, y) in peers.items()]
    label_ends(axes, labels + [(middle(error), "Emmy", EMMY)])
    axes.set_title(r"Energy: $|\Delta E/E|$", loc="left")
    axes.set_xlabel("time [years]")


def middle(values):
    """The median of the last quarter: where a label stands beside a curve that swings."""
    last = sorted(values[-max(4, len(values) // 4):])
    return max(last[len(last) // 2], 1e-17)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run of scenarios/outer_solar_system.ron")
    parser.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "picture.png"))
    args = parser.parse_args()

    own = emmy_curves(args.run)
    span = own[0][-1]
    peers = {name: peer_curves(name, span) for name in PEERS}

    plt.rcParams.update({
        "font.size": 12, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 13,
        "axes.titleweight": "bold", "axes.grid": True, "grid.color": "#e6e6e6", "axes.axisbelow": True,
    })
    figure = plt.figure(figsize=(16, 6), dpi=100, facecolor="white")
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 1.25], left=0.05, right=0.865, top=0.93, bottom=0.1, wspace=0.16, hspace=0.22)
    draw_orbits(figure.add_subplot(grid[:, 0]))
    upper = figure.add_subplot(grid[0, 1])
    draw_momentum(upper, own, peers)
    draw_energy(figure.add_subplot(grid[1, 1], sharex=upper), own, peers)
    upper.set_xlim(0, span)
    figure.text(0.99, 0.018, f"Emmy: {scheme(args.run)}; REBOUND: 40 days a step", ha="right", fontsize=10, color="#666666")
    figure.savefig(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
