"""Faults and attacks against the real server; what the server promises about each is asserted, with a report by
number.

    TICKSTREAM_BIN=target/release/tickstream python3 tests faults [--full] [NUMBER | Class[.test]] ...

Tests run at the same time, each in a process of its own with a server of its own; README.md.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

from faults.case import TESTS, FaultCase

MODULES = (
    *("parsing", "authentication", "proxy", "admission", "exhaustion", "slow_peers"),
    *("handshakes", "certificates", "tls_streams", "network", "process", "operations", "reload", "upgrade", "events"),
    "anything",
)
PASSED, FAILED, NOT_TRIED = "passed", "FAILED", "not tried"
# Tests mostly sleep; more at once than this, and they delay each other.
LANES_PER_CPU = 4


def main():
    given = options()
    if given.one:
        sys.exit(run_one(given.one))
    if "TICKSTREAM_BIN" not in os.environ:
        sys.exit("TICKSTREAM_BIN must be the path of the tickstream executable")
    tests = [test for test in all_tests() if not given.only or any(is_meant(test, word) for word in given.only)]
    if not tests:
        sys.exit(f"no test is called {' or '.join(given.only)}")
    began = time.monotonic()
    results = Runner(tests, given).run()
    text = report(results, time.monotonic() - began)
    print(text)
    if given.report:
        with open(given.report, "w") as file:
            file.write(text + "\n")
    sys.exit(any(result["verdict"] == FAILED for result in results))


def options():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("only", nargs="*", metavar="NUMBER | Class[.test]", help="[default: all]")
    given.add_argument("--full", action="store_true", help="the long tests, too")
    given.add_argument("--lanes", type=int, help=f"tests at a time [default: {LANES_PER_CPU} per CPU]")
    given.add_argument("--report", metavar="PATH", help="write the report to a file, too")
    given.add_argument("--one", help=argparse.SUPPRESS)
    return given.parse_args()


# ---- Tests --------------------------------------------------------------------------------------------------


def all_tests():
    """Every test, as its unittest.TestCase, by fault."""
    found = []
    for name in MODULES:
        module = importlib.import_module(f"faults.test_{name}")
        for case in vars(module).values():
            if isinstance(case, type) and issubclass(case, FaultCase) and case.fault:
                found += unittest.defaultTestLoader.loadTestsFromTestCase(case)
    return sorted(found, key=lambda test: test.fault)


def is_meant(test, word):
    if word.isdigit():
        return test.fault == int(word)
    case, _, method = word.partition(".")
    return type(test).__name__ == case and method in ("", test._testMethodName)


def is_heavy(test):
    return test.heavy or getattr(getattr(test, test._testMethodName), "is_heavy", False)


def name_of(test):
    return f"{type(test).__name__}.{test._testMethodName}"


# ---- Running ------------------------------------------------------------------------------------------------


def run_one(name):
    """Runs one test in this process; tells its result as JSON in the last line of standard output."""
    test = next(test for test in all_tests() if name_of(test) == name)
    result = unittest.TestResult()
    test.run(result)
    verdict, detail = PASSED, ""
    problems = [text for _, text in result.failures + result.errors]
    if problems:
        verdict, detail = FAILED, "\n".join(problems)
    elif result.skipped:
        verdict, detail = NOT_TRIED, result.skipped[0][1]
    print(json.dumps({"verdict": verdict, "detail": detail}))
    return verdict == FAILED


class Runner:
    """Runs tests in lanes; `heavy` ones, which burn CPU time themselves, one after another."""

    def __init__(self, tests, given):
        self._full = given.full
        self._results = []
        self._lock = threading.Lock()
        self._free = threading.Semaphore(given.lanes or LANES_PER_CPU * len(os.sched_getaffinity(0)))
        self._light = [test for test in tests if not is_heavy(test)]
        self._heavy = [test for test in tests if is_heavy(test)]
        self._lanes = {name_of(test): lane for lane, test in enumerate(tests)}
        # Processes of tests that run, each of which leads a group.
        self._groups = set()

    def run(self):
        # Heavy ones first: they are one long lane.
        threads = [threading.Thread(target=self._run_lane, args=(self._heavy,))]
        threads += [threading.Thread(target=self._run_lane, args=([test],)) for test in self._light]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            for group in self._groups.copy():
                end_group(group)
            os._exit(1)
        return sorted(self._results, key=lambda result: self._lanes[result["name"]])

    def _run_lane(self, tests):
        with self._free:
            for test in tests:
                result = self._run(test)
                with self._lock:
                    self._results.append(result)
                    print(f"{result['verdict']:9} {result['seconds']:5.1f} s  {result['name']}", file=sys.stderr)

    def _run(self, test):
        began = time.monotonic()
        if test.is_long and not self._full:
            outcome = {"verdict": NOT_TRIED, "detail": "long: only with --full"}
        else:
            outcome = self._run_process(test)
        return outcome | {"name": name_of(test), "test": test, "seconds": time.monotonic() - began}

    def _run_process(self, test):
        command = [sys.executable, str(TESTS), "faults", "--one", name_of(test)]
        environment = os.environ | {"FAULTS_LANE": str(self._lanes[name_of(test)])}
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, process_group=0)
        self._groups.add(process.pid)
        try:
            output, errors = process.communicate(timeout=test.timeout_s)
            return json.loads(output.splitlines()[-1])
        except subprocess.TimeoutExpired:
            return {"verdict": FAILED, "detail": f"it hangs: not done in {test.timeout_s} s"}
        except (IndexError, ValueError):
            return {"verdict": FAILED, "detail": f"it ended with {process.returncode}:\n{errors}"}
        finally:
            # A server may have handed over to a process that isn't the test's child.
            end_group(process.pid)
            self._groups.discard(process.pid)


def end_group(leader):
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


# ---- The report ---------------------------------------------------------------------------------------------


def report(results, seconds):
    lines = []
    fault = None
    for result in results:
        test = result["test"]
        if test.fault != fault:
            fault = test.fault
            lines += ["", f"{fault:2}  {test.promise}"]
        why = f": {result['detail']}" if result["verdict"] == NOT_TRIED else ""
        lines.append(f"    {result['verdict']:9} {result['seconds']:5.1f} s  {result['name']}{why}")
    for result in results:
        if result["verdict"] == FAILED:
            lines += ["", f"---- {result['test'].fault}: {result['name']}", result["detail"].rstrip()]
    counts = {verdict: sum(result["verdict"] == verdict for result in results)
              for verdict in (PASSED, FAILED, NOT_TRIED)}
    faults = len({result["test"].fault for result in results})
    reported = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    lines += ["", f"{len(results)} tests of {faults} faults in {seconds:.0f} s: {reported}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
