"""The Grafana dashboard deploy/grafana/tickstream.json, row by row. scripts/check-deploy writes and compares it."""

import json

SELECTED = 'job="$job", instance=~"$instance"'
# Of 24 columns.
WIDTH, HALF, THIRD = 24, 12, 8


def text():
    return json.dumps(dashboard(), indent=1) + "\n"


def dashboard():
    return {
        "uid": "tickstream",
        "title": "tickstream",
        "description": "Connections, ticks, latency and what limits them. Alerts and what to do: docs/alerts.md.",
        "tags": ["tickstream"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": variables()},
        "annotations": {"list": [restarts()]},
        "panels": laid_out(rows()),
    }


def variables():
    query = {"type": "query", "datasource": source(), "refresh": 2, "sort": 1}
    return [
        {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"},
        query | {"name": "job", "label": "Job", "query": "label_values(active_connections, job)",
                 "current": {"text": "tickstream", "value": "tickstream"}},
        query | {"name": "instance", "label": "Server", "query": 'label_values(active_connections{job="$job"}, instance)',
                 "multi": True, "includeAll": True, "current": {"text": "All", "value": "$__all"}},
    ]


def restarts():
    return {"name": "Restarts", "enable": True, "datasource": source(), "iconColor": "red",
            "expr": f"changes(process_start_time_seconds{{{SELECTED}}}[$__interval]) > 0",
            "titleFormat": "{{instance}} started anew"}


def rows():
    """Headings with their panels, each in the order in which they fill lines of 24 columns."""
    return [
        ("Now", [
            stat("Servers up", f"sum(up{{{SELECTED}}})"),
            stat("Connections", total("active_connections")),
            stat("Messages a second", rate("messages_sent_total"), "cps"),
            stat("Bytes a second", rate("bytes_sent_total"), "Bps"),
            stat("Latency, p95", quantile(0.95), "ms", [(None, "green"), (50, "yellow"), (250, "red")]),
            stat("Busiest shard", f"max(rate(tickstream_loop_busy_seconds_total{{{SELECTED}}}[$__rate_interval]))", "percentunit",
                 [(None, "green"), (0.6, "yellow"), (0.8, "red")]),
        ]),
        ("Connections", [
            series("Connections by server", {total("active_connections", "instance"): "{{instance}}"}, HALF),
            series("Connections by shard", {total("active_connections", "instance, shard"): "{{instance}} {{shard}}"}, HALF),
            series("Accepted and refused", {rate("tickstream_connections_accepted_total"): "accepted",
                                            rate("tickstream_connections_refused_total"): "refused",
                                            rate("tickstream_accept_errors_total"): "failed"}, THIRD, "cps"),
            series("Closed, by reason", {rate("tickstream_connections_closed_total", "reason"): "{{reason}}"}, THIRD, "cps", stack=True),
            series("Subscribers by stream", {total("tickstream_subscribers", "stream"): "{{stream}}"}, THIRD, stack=True),
        ]),
        ("Latency", [
            series("From due to taken by the socket", {quantile(q): f"p{q * 100:g}" for q in (0.5, 0.95, 0.99)}, HALF, "ms"),
            heatmap("The same, all frames", f"sum by (le) (rate(publish_latency_ms_bucket{{{SELECTED}}}[$__rate_interval]))",
                    HALF),
            series("Ticks sealed over 50 ms late, and ticks left out",
                   {rate("tickstream_ticks_late_total", "stream"): "late, {{stream}}",
                    rate("tickstream_ticks_skipped_total", "stream"): "left out, {{stream}}"}, HALF, "cps"),
            series("Slowest subscriber: age of its oldest unsent byte",
                   {f"max by (instance, stream) (tickstream_oldest_unsent_seconds{{{SELECTED}}})": "{{instance}} {{stream}}"}, HALF, "s"),
        ]),
        ("Traffic", [
            series("Messages sent, by server", {rate("messages_sent_total", "instance"): "{{instance}}"}, THIRD, "cps"),
            series("Bytes", {rate("bytes_sent_total"): "sent", rate("tickstream_bytes_received_total"): "received"}, THIRD, "Bps"),
            series("Ticks of a batch, average",
                   {f"sum by (stream) (rate(tickstream_ticks_published_total{{{SELECTED}}}[$__rate_interval])) / "
                    f"sum by (stream) (rate(tickstream_frames_published_total{{{SELECTED}}}[$__rate_interval]))": "{{stream}}"}, THIRD),
            series("Lagging: sockets that take no more", {total("tickstream_connections_lagging", "instance"): "{{instance}}"}, THIRD),
            series("Short sends", {rate("tickstream_sends_short_total", "instance"): "{{instance}}"}, THIRD, "cps"),
            series("Frames replayed", {rate("tickstream_frames_replayed_total", "stream"): "{{stream}}"}, THIRD, "cps"),
        ]),
        ("Clients and limits", [
            series("Heartbeat timeouts", {rate("heartbeat_timeouts_total", "instance"): "{{instance}}"}, THIRD, "cps"),
            series("Logins", {rate("tickstream_auth_successes_total"): "accepted", rate("tickstream_auth_failures_total"): "failed"}, THIRD, "cps"),
            series("Limits that fired", {rate("tickstream_limits_fired_total", "limit"): "{{limit}}"}, THIRD, "cps"),
        ]),
        # Empty where none are collected (--journal).
        ("Event collection", [
            series("Events", {rate("tickstream_events_accepted_total"): "accepted", rate("tickstream_events_duplicate_total"): "known already",
                              rate("tickstream_events_rejected_total"): "rejected"}, THIRD, "cps"),
            series("Rejected, by code", {rate("tickstream_events_rejected_total", "code"): "{{code}}"}, THIRD, "cps", stack=True),
            series("Dead letters, and records that weren't stored",
                   {rate("tickstream_event_dead_letters_total"): "dead letters",
                    rate("tickstream_event_records_refused_total"): "records refused"}, THIRD, "cps"),
            series("A flush, until it is on stable storage",
                   {quantile(q, "tickstream_journal_sync_seconds"): f"p{q * 100:g}" for q in (0.5, 0.95, 0.99)}, THIRD, "s"),
            # No histogram has it. By Little's law: those on the way, as scrapes see them, by those that come in a second.
            series("A PUBLISH, until its PUBLISH_ACK, average",
                   {f"sum by (instance) (avg_over_time(tickstream_event_publishes_in_flight{{{SELECTED}}}[$__rate_interval])) / "
                    f"{rate('tickstream_event_publishes_total', 'instance')}": "{{instance}}"}, THIRD, "s"),
            series("Back-pressure: answers that ask clients to wait",
                   {rate("tickstream_event_acks_throttled_total", "instance"): "{{instance}}"}, THIRD, "cps"),
            series("PUBLISHes received, and written",
                   {rate("tickstream_event_publish_bytes_total"): "received", rate("tickstream_journal_record_bytes_total"): "records",
                    rate("tickstream_journal_written_bytes_total"): "written, padding included"}, THIRD, "Bps"),
            series("Records in memory, of what they may take",
                   {f"max by (instance, shard) (tickstream_journal_waiting_bytes{{{SELECTED}}} / "
                    f"tickstream_journal_waiting_bytes_max{{{SELECTED}}})": "{{instance}} {{shard}}"}, THIRD, "percentunit"),
            series("Journals on the disk", {total("tickstream_journal_disk_bytes", "instance"): "{{instance}}"}, THIRD, "bytes"),
        ]),
        ("Machine", [
            series("Loop busy, of a core", {per_shard("tickstream_loop_busy_seconds_total"): "{{instance}} {{shard}}"}, THIRD, "percentunit"),
            series("Waiting for a CPU that others have", {per_shard("tickstream_loop_delayed_seconds_total"): "{{instance}} {{shard}}"},
                   THIRD, "percentunit"),
            series("CPU of the process, in cores", {rate("process_cpu_seconds_total", "instance"): "{{instance}}"}, THIRD),
            series("Resident memory", {total("process_resident_memory_bytes", "instance"): "{{instance}}"}, THIRD, "bytes"),
            series("Resident memory for each connection",
                   {f"{total('process_resident_memory_bytes', 'instance')} / "
                    f"{total('active_connections', 'instance')}": "{{instance}}"}, THIRD, "bytes"),
            series("Descriptors of the fullest shard",
                   {f"max by (instance) (tickstream_shard_open_fds{{{SELECTED}}})": "{{instance}}: open",
                    f"max by (instance) (process_max_fds{{{SELECTED}}})": "{{instance}}: limit"}, THIRD),
            series("System calls of the rings, by server", {rate("tickstream_ring_enters_total", "instance"): "{{instance}}"}, THIRD, "cps"),
            series("Completions taken with each",
                   {f"{rate('tickstream_ring_completions_total', 'instance')} / {rate('tickstream_ring_enters_total', 'instance')}": "{{instance}}"},
                   THIRD),
            series("Rings that ran short", {rate("tickstream_ring_buffers_exhausted_total"): "no provided buffer",
                                            rate("tickstream_ring_overflows_total"): "full completion queue"}, THIRD, "cps"),
        ]),
    ]


# Expressions


def total(metric, by=None):
    return f"sum{grouping(by)}({metric}{{{SELECTED}}})"


def rate(metric, by=None):
    return f"sum{grouping(by)}(rate({metric}{{{SELECTED}}}[$__rate_interval]))"


def per_shard(metric):
    return f"sum by (instance, shard) (rate({metric}{{{SELECTED}}}[$__rate_interval]))"


def quantile(q, histogram="publish_latency_ms"):
    return f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket{{{SELECTED}}}[$__rate_interval])))"


def grouping(by):
    return f" by ({by}) " if by else " "


# Panels


def source():
    return {"type": "prometheus", "uid": "${source}"}


def stat(title, expression, unit="short", steps=((None, "blue"),)):
    thresholds = {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}
    return panel("stat", title, {expression: ""}, WIDTH // 6, 4) | {
        "fieldConfig": {"defaults": {"unit": unit, "thresholds": thresholds}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "colorMode": "value"},
    }


def series(title, expressions, width, unit="short", stack=False):
    custom = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never",
              "stacking": {"mode": "normal" if stack else "none"}}
    return panel("timeseries", title, expressions, width, 8) | {
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
    }


def heatmap(title, expression, width):
    made = panel("heatmap", title, {expression: "{{le}}"}, width, 8)
    made["targets"][0]["format"] = "heatmap"
    return made | {"options": {"calculate": False, "yAxis": {"unit": "ms"}, "cellGap": 0,
                               "color": {"mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5}}}


def panel(kind, title, expressions, width, height):
    targets = [{"refId": chr(ord("A") + index), "datasource": source(), "expr": expression, "legendFormat": legend}
               for index, (expression, legend) in enumerate(expressions.items())]
    return {"type": kind, "title": title, "datasource": source(), "targets": targets,
            "gridPos": {"w": width, "h": height}}


def laid_out(headed):
    """The panels in lines from the left, each line as high as its highest, with their headings and numbers."""
    panels, y = [], 0
    for heading, row in headed:
        panels.append({"type": "row", "title": heading, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        x, y, height = 0, y + 1, 0
        for made in row:
            place = made["gridPos"]
            if x + place["w"] > WIDTH:
                x, y, height = 0, y + height, 0
            panels.append(made | {"gridPos": {"x": x, "y": y, **place}})
            x, height = x + place["w"], max(height, place["h"])
        y += height
    return [made | {"id": number} for number, made in enumerate(panels, start=1)]
