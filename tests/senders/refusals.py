"""No false success: what senders are told while nothing can be stored. See README.md.

    python3 tests senders.refusals TICKSTREAM [full | readonly | gone | quota] …
"""

import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from senders.installation import Installation, wait_for
from senders.protocols import SENDERS, markers_of
from support import disk

MIB = 1 << 20
QUOTA = """
[key.small]
secret = "small-quota"
events_per_second = 1
burst_events = 20
"""
# Statuses that each protocol's senders take for "send again".
RETRYABLE = {"own": {429, 503}, "otlp": {429, 503}, "prometheus": {429, 503}, "segment": {429, 503}, "posthog": {429, 503}, "elasticsearch": {200, 429, 503}}


class Recorder:
    """Sends one batch by each protocol, and keeps what was answered."""

    def __init__(self, installation, seed):
        self.senders = {name: kind(name, installation, seed) for name, kind in SENDERS.items()}
        for sender in self.senders.values():
            sender.statuses = []
            sender.headers = []
            self.watch(sender)
        self.seed = seed

    @staticmethod
    def watch(sender):
        import http.client

        def post(listener, path, body, headers=None):
            connection = http.client.HTTPConnection("127.0.0.1", sender.installation.ports[listener], timeout=15)
            try:
                connection.request("POST", path, body, {**sender.key, **(headers or {})})
                answer = connection.getresponse()
                sender.statuses.append(answer.status)
                sender.headers.append(dict(answer.getheaders()))
                return answer.status, answer.read()
            finally:
                connection.close()

        sender.post = post
        sender.key = {"X-API-Key": "bk_0b77ffee"}

    def send(self, batch):
        """True where a protocol's batch was answered with success. Streams get no answer while nothing is stored."""
        results = {}
        for name, sender in self.senders.items():
            markers = [f"{name}-{self.seed}-{batch}-{index}" for index in range(20)]
            try:
                if getattr(sender, "listener", None) and sender.stream is not None:
                    sender.stream.settimeout(4)
                results[name] = sender.send(markers)
            except OSError:
                results[name] = False
            if results[name]:
                sender.answered += markers
        return results

    def check_refused(self, results):
        wrong = {name for name, is_stored in results.items() if is_stored}
        assert not wrong, f"success, though nothing can be stored: {wrong}"
        for name, statuses in RETRYABLE.items():
            sender = self.senders[name]
            assert sender.statuses[-1] in statuses, f"{name} answers {sender.statuses[-1]}"
            if sender.statuses[-1] != 200:
                after = {key.lower(): value for key, value in sender.headers[-1].items()}.get("retry-after")
                assert after is not None and int(after) >= 1, f"{name} doesn't say when to send again"

    def check_stored(self, installation):
        ids = {}
        for event in installation.events("--bare"):
            ids.setdefault(markers_of(event), set()).add(event["event_id"])
        for name, sender in self.senders.items():
            lost = [marker for marker in sender.answered if marker not in ids]
            assert not lost and sender.answered, f"{name}: {len(lost)} of {len(sender.answered)} answered ones are lost"


def recovered(recorder, batch):
    def all_stored():
        results = recorder.send(batch)
        return all(results.values())

    wait_for(all_stored, "senders aren't taken again", lambda: recorder.send(batch))


def grpc_code(installation, secret="bk_0b77ffee"):
    """The status of an export over gRPC, and the seconds after which to send again."""
    import grpc
    from google.rpc import error_details_pb2, status_pb2
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
    from opentelemetry.proto.logs.v1 import logs_pb2

    record = logs_pb2.LogRecord(time_unix_nano=time.time_ns())
    request = logs_service_pb2.ExportLogsServiceRequest(
        resource_logs=[logs_pb2.ResourceLogs(scope_logs=[logs_pb2.ScopeLogs(log_records=[record] * 20)])]
    )
    with grpc.insecure_channel(f"127.0.0.1:{installation.ports['otlp_grpc']}") as channel:
        stub = logs_service_pb2_grpc.LogsServiceStub(channel)
        try:
            stub.Export(request, timeout=15, metadata=(("x-api-key", secret),))
            return None, None
        except grpc.RpcError as error:
            details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
            status = status_pb2.Status.FromString(details)
            info = error_details_pb2.RetryInfo.FromString(status.details[0].value)
            return error.code().name, info.retry_delay.seconds + info.retry_delay.nanos / 1e9


def on_disk(tickstream, folder, mib=64):
    small = disk.Disk(mib)
    installation = Installation(tickstream, folder, journal=small.path / "journal", server_flags=("--journal-segment-mib", "4"))
    installation.wait_until_ready()
    return small, installation


def test_full(tickstream, folder):
    small, installation = on_disk(tickstream, folder)
    recorder = Recorder(installation, "full")
    assert all(recorder.send(0).values())
    small.fill(leave=MIB)
    for batch in range(1, 400):
        results = recorder.send(batch)
        if not any(results.values()):
            break
    recorder.check_refused(results)
    code, after = grpc_code(installation)
    assert code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED") and after > 0, (code, after)
    small.empty()
    recovered(recorder, batch)
    recorder.check_stored(installation)
    installation.close()
    small.close()


def test_readonly(tickstream, folder):
    small, installation = on_disk(tickstream, folder)
    recorder = Recorder(installation, "readonly")
    assert all(recorder.send(0).values())
    small.fail()
    recorder.check_refused(recorder.send(1))
    recorder.check_stored(installation)
    installation.kill(["collector", "server"])
    small.close()


def test_gone(tickstream, folder):
    installation = Installation(tickstream, folder)
    installation.wait_until_ready()
    recorder = Recorder(installation, "gone")
    assert all(recorder.send(0).values())
    installation.kill(["server"])
    recorder.check_refused(recorder.send(1))
    code, after = grpc_code(installation)
    assert code == "UNAVAILABLE" and after > 0, (code, after)
    installation.start_server()
    recovered(recorder, 1)
    installation.server.send_signal(signal.SIGSTOP)
    recorder.check_refused(recorder.send(2))
    installation.server.send_signal(signal.SIGCONT)
    recovered(recorder, 2)
    recorder.check_stored(installation)
    installation.close()


def test_quota(tickstream, folder):
    installation = Installation(tickstream, folder, keys=QUOTA)
    installation.wait_until_ready()
    recorder = Recorder(installation, "quota")
    for sender in recorder.senders.values():
        sender.key = {"X-API-Key": "small-quota"}
    for name in RETRYABLE:
        sender = recorder.senders[name]
        for batch in range(4):
            markers = [f"{name}-quota-{batch}-{index}" for index in range(20)]
            try:
                if sender.send(markers):
                    sender.answered += markers
            except OSError:
                pass
        assert sender.statuses[-1] == 429, f"{name} answers {sender.statuses}"
        assert any(key.lower() == "retry-after" for key in sender.headers[-1]), name
    code, after = grpc_code(installation, "small-quota")
    assert code == "RESOURCE_EXHAUSTED" and after > 0, (code, after)
    installation.close()


def main():
    tickstream, *names = sys.argv[1:]
    tickstream = pathlib.Path(tickstream).resolve()
    tests = {name[5:]: test for name, test in globals().items() if name.startswith("test_")}
    failed = []
    for name in names or tests:
        if name in ("full", "readonly") and (why_not := disk.why_not()):
            print(f"{name}: left out: {why_not}")
            continue
        # Each in a process of its own: a disk's mount ends with it.
        child = os.fork()
        if child == 0:
            folder = pathlib.Path(tempfile.mkdtemp(prefix="refusals-"))
            try:
                tests[name](tickstream, folder)
                shutil.rmtree(folder)
                os._exit(0)
            except BaseException as error:  # noqa: BLE001: it is told, and the others run
                print(f"{name}: {type(error).__name__}: {error}; see {folder}", flush=True)
                os._exit(1)
        if os.waitpid(child, 0)[1] == 0:
            print(f"{name}: ok", flush=True)
        else:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
