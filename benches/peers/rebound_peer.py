#!/usr/bin/env python3
"""Measures REBOUND on this machine, and Emmy on the same bodies beside it.

    pip install rebound==5.2.2
    python3 benches/peers/rebound_peer.py                                 # REBOUND alone: one JSON object
    python3 benches/peers/rebound_peer.py --accuracy                      # and its errors over 10 000 years
    python3 benches/peers/rebound_peer.py --emmy target/release/emmy      # both, and a table in Markdown

What is measured: one thread, CPU time (on a shared machine the clock measures the neighbours), the best of several runs.

* Direct sum: unique pairs per second of leapfrog steps, N bodies in a uniform cube at rest, softening 0.01. Both programs get the
  same bodies. REBOUND computes in doubles and sums accelerations; Emmy rounds each pair once to an integer, keeps momentum to the
  last bit, books angular momentum and audits every step. That is included.
* Six bodies: leapfrog steps per second on the outer Solar System, 40 days a step.
* Accuracy: the largest |dE/E| of 200 samples over 10 000 years, and |P - P(0)| / sum m|v| at the end.

What is not alike: REBOUND's leapfrog is drift-kick-drift, Emmy's kick-drift-kick; the cost is the same, the energy errors are not.
The schemes of the accuracy table need from 1 to 15 evaluations a step: the column of CPU seconds says what each paid.
REBOUND comes from pip as it is, for any x86-64; Emmy picks the widest instruction set of the machine, and `isa` names it.
"""

import argparse
import json
import math
import os
import platform
import random
import re
import resource
import subprocess
import sys
import tempfile
import time

try:
    import rebound
except ImportError:
    sys.exit("rebound is not installed: pip install rebound==5.2.2")

SOFTENING = 0.01
# Bodies, and steps of one measurement of either program: about a second each.
DIRECT_SUM = {1024: 300, 4096: 20, 16384: 2}
EMMY_STEPS = {1024: 1200, 4096: 80, 16384: 6}
SIX_BODIES_STEPS = 2_000_000
SIX_BODIES_EMMY_STEPS = 1_000_000
K = 0.01720209895  # Gauss's constant: G = K^2 in au, days, solar masses
STEP_DAYS = 40.0
YEARS = 10_000
ACCURACY_STEPS = int(YEARS * 365.25 / STEP_DAYS)
SAMPLES = 200

# J. Applegate et al., Astron. J. 92, 176 (1986): name, mass, position [au], velocity [au/day]. Pluto pulls nobody.
SOLAR_SYSTEM = [
    ("Sun", 1.00000597682, (-4.06428567034226e-3, -6.08813756435987e-3, -1.66162304225834e-6),
     (6.69048890636161e-6, -6.33922479583593e-6, -3.13202145590767e-9)),
    ("Jupiter", 1 / 1047.355, (3.40546614227466, 3.62978190075864, 3.42386261766577e-2),
     (-5.59797969310664e-3, 5.51815399480116e-3, -2.66711392865591e-6)),
    ("Saturn", 1 / 3501.6, (6.60801554403466, 6.38084674585064, -1.36145963724542e-1),
     (-4.17354020307064e-3, 3.99723751748116e-3, 1.67206320571441e-5)),
    ("Uranus", 1 / 22869, (11.1636331405597, 16.0373479057256, 3.61783279369958e-1),
     (-3.25884806151064e-3, 2.06438412905916e-3, -2.17699042180559e-5)),
    ("Neptune", 1 / 19314, (-30.1777243405203, 1.91155314998064, -1.53887595621042e-1),
     (-2.17471785045538e-4, -3.11361111025884e-3, 3.58344705491441e-5)),
    ("Pluto", 0.0, (-21.3858977531573, 32.0719104739886, 2.49245689556096),
     (-1.76936577252484e-3, -2.06720938381724e-3, 6.58091931493844e-4)),
]


def cube(n):
    """Positions of n bodies in a unit cube about the origin; every body has the mass 1/n and is at rest."""
    source = random.Random(1)
    return [[source.random() - 0.5 for _ in range(3)] for _ in range(n)]


# ---------------------------------------------------------------------------------------------------- REBOUND


def rebound_cube(n):
    sim = rebound.Simulation()
    sim.gravity, sim.integrator, sim.dt, sim.softening = "basic", "leapfrog", 1e-4, SOFTENING
    for x, y, z in cube(n):
        sim.add(m=1 / n, x=x, y=y, z=z)
    return sim


def rebound_solar_system(scaled=False, pluto=True):
    """In au, days, solar masses; or, scaled, with a unit of time in which G is 1."""
    sim = rebound.Simulation()
    sim.G, sim.gravity, factor = (1.0, "basic", 1 / K) if scaled else (K * K, "basic", 1.0)
    for _, m, (x, y, z), (vx, vy, vz) in SOLAR_SYSTEM if pluto else SOLAR_SYSTEM[:-1]:
        sim.add(m=m, x=x, y=y, z=z, vx=vx * factor, vy=vy * factor, vz=vz * factor)
    sim.N_active = 5
    sim.dt = STEP_DAYS / factor
    return sim


def best_seconds(work, repeats):
    """The least CPU time of several repeats of the same work."""
    best = math.inf
    for _ in range(repeats):
        before = time.process_time()
        work()
        best = min(best, time.process_time() - before)
    return best


def measure_rebound(repeats):
    direct = {}
    for n, steps in DIRECT_SUM.items():
        sim = rebound_cube(n)
        sim.steps(1)
        direct[n] = steps * n * (n - 1) / 2 / best_seconds(lambda: sim.steps(steps), repeats)
    sim = rebound_solar_system()
    sim.integrator = "leapfrog"
    sim.steps(1000)
    six = SIX_BODIES_STEPS / best_seconds(lambda: sim.steps(SIX_BODIES_STEPS), repeats)
    return {"version": rebound.__version__, "pairs_per_second": direct, "six_bodies_steps_per_second": six}


def momentum(sim):
    return [math.fsum(p.m * v for p, v in zip(sim.particles, axis))
            for axis in ([p.vx for p in sim.particles], [p.vy for p in sim.particles], [p.vz for p in sim.particles])]


def errors_of(sim):
    """Largest |dE/E| of evenly spaced samples, the relative momentum drift at the end, and what it took."""
    energy, start = sim.energy(), momentum(sim)
    speed = math.fsum(p.m * math.hypot(p.vx, p.vy, p.vz) for p in sim.particles)
    worst, done, before = 0.0, 0, time.process_time()
    for sample in range(1, SAMPLES + 1):
        target = ACCURACY_STEPS * sample // SAMPLES
        sim.steps(target - done)
        sim.synchronize()
        done = target
        worst = max(worst, abs(sim.energy() / energy - 1))
    drift = math.dist(momentum(sim), start) / speed
    return {"max_energy_error": worst, "momentum_drift": drift, "cpu_seconds": time.process_time() - before}


def rebound_errors():
    found = {}
    for order in (2, 8):
        sim = rebound_solar_system()
        sim.integrator = "leapfrog"
        sim.integrator.order = order
        found[f"leapfrog {order}"] = errors_of(sim)
    sim = rebound_solar_system()
    sim.integrator = "whfast"
    sim.integrator.corrector = 11
    sim.integrator.safe_mode = 0  # synchronised before each sample and not after each step, which would cost 40 times as much
    found["WHFast, corrector 11"] = errors_of(sim)
    # JANUS at its best: a unit of time in which G is 1, so that its quanta of 1e-16 suit positions and velocities; no test particle.
    sim = rebound_solar_system(scaled=True, pluto=False)
    sim.integrator = "janus"
    sim.integrator.order = 10
    sim.integrator.scale_pos = sim.integrator.scale_vel = 1e-16
    found["JANUS 10"] = errors_of(sim)
    return found


# ------------------------------------------------------------------------------------------------------- Emmy


def emmy(binary, scenario, folder, steps):
    """Runs a scenario for so many steps on one thread; returns its JSON and the CPU time of the process."""
    path = os.path.join(folder, "scenario.ron")
    with open(path, "w") as file:
        file.write(scenario)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [binary, "run", path, "--steps", str(steps), "--threads", "1", "--no-files", "--json", "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout), seconds


def emmy_rate(binary, scenario, folder, steps, repeats):
    """Steps per second of CPU time. A second, shorter run takes out what is not steps: reading, first forces, last recount."""
    few = max(1, steps // 50)
    short = min(emmy(binary, scenario, folder, few)[1] for _ in range(repeats))
    runs = [emmy(binary, scenario, folder, steps) for _ in range(repeats)]
    roots = {result["state_root_end"] for result, _ in runs}
    if len(roots) != 1:
        sys.exit(f"the same run ended with different bits: {sorted(roots)}")
    return (steps - few) / (min(seconds for _, seconds in runs) - short), runs[0][0]


def emmy_cube(n, folder):
    with open(os.path.join(folder, "cube.csv"), "w") as file:
        file.write("x,y,z,vx,vy,vz,mass\n")
        file.writelines(f"{x!r},{y!r},{z!r},0,0,0,{1 / n!r}\n" for x, y, z in cube(n))
    # A recount of the energy costs as much as a step: only at the end, as in REBOUND.
    return f"""(version: 1, name: "cube", gravity: (softening: {SOFTENING}), integrator: Leapfrog(dt: 0.0001), until: Steps(1),
        generators: [Table(path: "cube.csv")], audit: (energy_every: 1000000000))"""


def emmy_solar_system(integrator, energy_every):
    body = '(name: "{}", mass: {!r}, {}position: {}, velocity: {})'
    bodies = [body.format(name, m, "" if m else "inertia: 1e-4, ", x, v) for name, m, x, v in SOLAR_SYSTEM]
    return f"""(version: 1, name: "solar_system", units: Physical(length: Au, mass: Msun, time: Day), gravity: (constant: {K * K!r}),
        integrator: {integrator}, until: Steps(1), quanta: Auto(headroom: 4), bodies: [{", ".join(bodies)}],
        audit: (energy_every: {energy_every}))"""


def measure_emmy(binary, repeats):
    direct, isa = {}, "unknown"
    with tempfile.TemporaryDirectory() as folder:
        for n, steps in EMMY_STEPS.items():
            rate, result = emmy_rate(binary, emmy_cube(n, folder), folder, steps, repeats)
            direct[n], isa = rate * n * (n - 1) / 2, result["isa"]
        scenario = emmy_solar_system(f"Leapfrog(dt: {STEP_DAYS})", 10**9)
        six, _ = emmy_rate(binary, scenario, folder, SIX_BODIES_EMMY_STEPS, repeats)
    return {"isa": isa, "pairs_per_second": direct, "six_bodies_steps_per_second": six}


def emmy_errors(binary):
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Leapfrog", "Yoshida4", "Srkn6b", "Srkn11b"):
            scenario = emmy_solar_system(f"{name}(dt: {STEP_DAYS})", ACCURACY_STEPS // SAMPLES)
            result, seconds = emmy(binary, scenario, folder, ACCURACY_STEPS)
            conserved = result["conserved"]
            found[name.lower()] = {
                "max_energy_error": conserved["energy"]["max_relative_drift"],
                # In quanta: an integer, so that 0 is exact.
                "momentum_drift": max(abs(int(quanta)) for quanta in conserved["momentum"]["drift"]),
                "cpu_seconds": seconds,
            }
    return found


# ----------------------------------------------------------------------------------------------------- report


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            return re.search(r"model name\s*: (.*)", file.read()).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def table(found):
    peer, own = found["rebound"], found["emmy"]
    lines = [f"One thread of {found['processor']}, CPU time, best of {found['repeats']}; REBOUND {peer['version']}, Emmy on {own['isa']}.",
             "", "| | REBOUND | Emmy | ratio |", "|---|---|---|---|"]
    for n in DIRECT_SUM:
        a, b = peer["pairs_per_second"][n], own["pairs_per_second"][n]
        lines.append(f"| direct sum, {n} bodies, unique pairs/s | {a:.3g} | {b:.3g} | {b / a:.2f} |")
    a, b = peer["six_bodies_steps_per_second"], own["six_bodies_steps_per_second"]
    lines.append(f"| outer Solar System, leapfrog steps/s | {a:.3g} | {b:.3g} | {b / a:.2f} |")
    if "errors" in peer:
        lines += ["", f"{YEARS} years of the outer Solar System, {STEP_DAYS:g} days a step:", "",
                  "| integrator | max \\|dE/E\\| | momentum drift | CPU s |", "|---|---|---|---|"]
        lines += [f"| REBOUND {name} | {e['max_energy_error']:.1e} | {e['momentum_drift']:.1e} | {e['cpu_seconds']:.2f} |"
                  for name, e in peer["errors"].items()]
        lines += [f"| Emmy {name} | {e['max_energy_error']:.1e} | {e['momentum_drift']} quanta | {e['cpu_seconds']:.2f} |"
                  for name, e in own["errors"].items()]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", action="store_true", help="errors over 10 000 years as well")
    parser.add_argument("--emmy", metavar="PATH", help="the program to measure beside it; prints a table after the JSON")
    parser.add_argument("--repeats", type=int, default=5, help="the best of so many (default 5)")
    args = parser.parse_args()

    found = {"schema": 1, "processor": processor(), "repeats": args.repeats, "rebound": measure_rebound(args.repeats)}
    if args.accuracy:
        found["rebound"]["errors"] = rebound_errors()
    if args.emmy:
        found["emmy"] = measure_emmy(os.path.abspath(args.emmy), args.repeats)
        if args.accuracy:
            found["emmy"]["errors"] = emmy_errors(os.path.abspath(args.emmy))
    print(json.dumps(found, indent=2))
    if args.emmy:
        print()
        print(table(found))


if __name__ == "__main__":
    main()
