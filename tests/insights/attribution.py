"""Attribution against PyPI channelattribution: first, last and linear touch exactly; its Markov model is a simulation, so within
its error. Shapley against the definition over all sets."""
import itertools
import math
import random

import ChannelAttribution
import pandas

from insights.answers import answers, near


def journeys(rng, channels):
    count = rng.randint(20, 60)
    return [[[rng.randrange(channels) for _ in range(rng.randint(1, 5))], rng.randint(0, 40), rng.randint(0, 60)]
            for _ in range(count)]


def frame(case):
    rows = [{"path": " > ".join(f"c{channel}" for channel in path), "conversions": won, "value": float(won), "lost": lost}
            for path, won, lost in case["journeys"]]
    return pandas.DataFrame(rows)


def by_definition(case):
    """Weighted contributions over all sets of the other channels."""
    n = case["channels"]
    worth = lambda group: sum(won for path, won, _ in case["journeys"] if set(path) <= group)
    found = []
    for channel in range(n):
        others = [c for c in range(n) if c != channel]
        total = 0.0
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            total += sum(weight * (worth({*s, channel}) - worth(set(s))) for s in itertools.combinations(others, size))
        found.append(total)
    return found


def main():
    rng, worst = random.Random(17), 0.0
    cases = []
    for _ in range(20):
        channels = rng.randint(2, 6)
        cases.append({"analysis": "attribution", "channels": channels, "journeys": journeys(rng, channels)})
    for case, found in zip(cases, answers(cases)):
        data = frame(case)
        rules = ChannelAttribution.heuristic_models(data, "path", "conversions", flg_pro=False)
        model = ChannelAttribution.markov_model(data, "path", "conversions", var_null="lost", order=1, out_more=False,
                                                max_step=1_000, nsim_start=1_000_000, seed=1, verbose=False, flg_pro=False)
        for _, row in rules.iterrows():
            channel = int(row["channel_name"][1:])
            for key, column in (("first", "first_touch"), ("last", "last_touch"), ("linear", "linear_touch")):
                name = next(c for c in rules.columns if c.startswith(column))
                near(found[key][channel], row[name], 1e-9, f"{key} of {case}")
        total = sum(found["markov"])
        for _, row in model.iterrows():
            channel = int(row["channel_name"][1:])
            value = next(row[c] for c in model.columns if c.startswith("total_conversion"))
            worst = max(worst, abs(found["markov"][channel] - value) / total)
        for value, expected in zip(found["shapley"], by_definition(case)):
            near(value, expected, 1e-9, f"shapley of {case}")
    assert worst < 0.01, f"markov: a channel's share differs by {worst:.4f}"
    print(f"{len(cases)} sets of journeys agree; Markov shares within {worst:.4f} of the simulation")


main()
