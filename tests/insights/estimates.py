"""Numbers against scipy, statsmodels and ruptures: tails, the sample ratio, forecasts with intervals, change points."""
import random

import numpy
import pandas
import ruptures
import scipy.special
import scipy.stats
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

from insights.answers import answers, near


def tails(rng):
    cases = [{"analysis": "tails", "x": rng.choice([rng.uniform(0, 5), rng.uniform(0, 300)]), "degrees": rng.randint(1, 200),
              "tail": 10 ** rng.uniform(-9, -0.01)} for _ in range(2_000)]
    for c, found in zip(cases, answers(cases)):
        expected = [scipy.stats.chi2.sf(c["x"], c["degrees"]), scipy.stats.norm.sf(c["x"]),
                    scipy.special.gammaln(c["degrees"]), scipy.stats.norm.isf(c["tail"])]
        for value, wanted in zip(found, expected):
            near(value, wanted, 1e-10, c)
    print(f"tails: {len(cases)} cases agree")


def ratio(rng):
    cases = []
    for _ in range(500):
        shares = [rng.uniform(0.1, 1) for _ in range(rng.randint(2, 5))]
        cases.append({"analysis": "ratio", "shares": shares, "counts": [int(1_000 * s * rng.uniform(.9, 1.1)) for s in shares]})
    for c, found in zip(cases, answers(cases)):
        expected = numpy.array(c["shares"]) / sum(c["shares"]) * sum(c["counts"])
        near(found, scipy.stats.chisquare(c["counts"], expected).pvalue, 1e-9, c)
    print(f"sample ratio: {len(cases)} cases agree")


def start(values, season):
    """The initial state as documented in forecast.rs: level and trend before the first value, seasons oldest first."""
    if season == 1:
        trend = values[1] - values[0]
        return values[0] - trend, trend, None
    first, second = numpy.mean(values[:season]), numpy.mean(values[season:2 * season])
    trend = (second - first) / season
    line = lambda n: first + (n - (season - 1) / 2) * trend
    seasons = [(values[n] - line(n) + values[n + season] - line(n + season)) / 2 for n in range(season)]
    return line(0) - trend, trend, seasons


def forecasts(rng):
    cases = []
    for _ in range(30):
        season = rng.choice([1, 4, 7])
        values = [50 + n * 0.3 + 8 * ((n % season) - season / 2) + rng.gauss(0, 3) for n in range(70)]
        # statsmodels has trend and season constants as products: beta = level * trend, gamma = season * (1 - level).
        cases.append({"analysis": "forecast", "values": values, "season": season, "steps": 15, "coverage": 0.95,
                      "smoothing": [rng.uniform(.05, .9), rng.uniform(.01, .5), rng.uniform(.05, .9) if season > 1 else 0.0]})
    for c, found in zip(cases, answers(cases)):
        season, (level, trend, seasonal) = c["season"], c["smoothing"]
        first_level, first_trend, seasons = start(c["values"], season)
        more = {"seasonal": "add", "seasonal_periods": season, "initial_seasonal": seasons} if season > 1 else {}
        model = ETSModel(pandas.Series(c["values"]), error="add", trend="add", initialization_method="known",
                         initial_level=first_level, initial_trend=first_trend, **more)
        parameters = [level, level * trend] + ([seasonal * (1 - level)] if season > 1 else [])
        parameters += [first_level, first_trend] + (list(reversed(seasons)) if season > 1 else [])
        fitted = model.smooth(numpy.array(parameters[:len(model.param_names)]))
        near(found["errors"], float(numpy.sum(fitted.resid ** 2)), 1e-6, f"errors of {c}")
        predicted = fitted.get_prediction(70, 84)
        means = predicted.predicted_mean
        # The width of ours has its own estimate of the variance: it is compared by its growth.
        theirs = predicted.forecast_variance
        for n, (value, low, high) in enumerate(found["steps"]):
            near(value, float(means.iloc[n]), 1e-6, f"step {n} of {c}")
            ours = ((high - low) / (found["steps"][0][2] - found["steps"][0][1])) ** 2
            near(ours, float(numpy.asarray(theirs)[n] / numpy.asarray(theirs)[0]), 1e-6, f"width {n} of {c}")
    print(f"forecasts: {len(cases)} series agree with ETS(A,A,N) and ETS(A,A,A)")


def changes(rng):
    cases = []
    for _ in range(200):
        values = [level + rng.gauss(0, 1) for level in rng.choices(range(-4, 5), k=rng.randint(1, 5))
                  for _ in range(rng.randint(2, 25))]
        cases.append({"analysis": "changes", "values": values, "penalty": rng.uniform(2, 20)})
    for c, found in zip(cases, answers(cases)):
        if len(c["values"]) < 4:
            continue
        model = ruptures.Dynp(model="l2", min_size=2, jump=1).fit(numpy.array(c["values"]))
        cost = lambda ends: sum(numpy.var(c["values"][a:b]) * (b - a) for a, b in zip([0] + ends, ends)) + c["penalty"] * (len(ends) - 1)
        most = min(len(found) + 3, len(c["values"]) // 2 - 1)
        best = min(cost(model.predict(n_bkps=n)) for n in range(1, most + 1)) if most else float("inf")
        best = min(best, cost([len(c["values"])]))
        near(cost(found + [len(c["values"])]), best, 1e-9, c)
    print(f"change points: {len(cases)} series have the least cost that dynamic programming finds")


def main():
    rng = random.Random(17)
    tails(rng)
    ratio(rng)
    changes(rng)
    forecasts(rng)


main()
