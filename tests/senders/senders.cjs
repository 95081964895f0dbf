// Senders of JavaScript: `node senders.cjs NAME PORTS`, where PORTS is JSON. Prints nothing but errors.
"use strict";

const [name, ports] = [process.argv[2], JSON.parse(process.argv[3])];
const url = (listener, path) => `http://127.0.0.1:${ports[listener]}${path}`;
const headers = { "x-api-key": "bk_0b77ffee" };

async function otel(kind) {
  const { Metadata } = kind === "grpc" ? require("@grpc/grpc-js") : {};
  const exporter = (signal, suffix) => require(`@opentelemetry/exporter-${signal}-otlp-${suffix}`);
  const suffix = { grpc: "grpc", protobuf: "proto", json: "http" }[kind];
  const options = (path) => {
    if (kind !== "grpc") return { url: url("otlp_http", path), headers, compression: "gzip" };
    const metadata = new Metadata();
    metadata.set("x-api-key", headers["x-api-key"]);
    return { url: url("otlp_grpc", ""), metadata };
  };
  const { resourceFromAttributes } = require("@opentelemetry/resources");
  const resource = resourceFromAttributes({ "service.name": "shop", "service.version": "1.2" });
  const mark = `oteljs${kind}`;

  const { TracerProvider, BatchSpanProcessor } = require("@opentelemetry/sdk-trace");
  const { OTLPTraceExporter } = exporter("trace", suffix);
  const traces = new TracerProvider({
    resource,
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter(options("/v1/traces")) })],
  });
  const tracer = traces.getTracer("tests", "0.1");
  const { trace, context, SpanStatusCode } = require("@opentelemetry/api");
  const parent = tracer.startSpan(`${mark} parent`, { attributes: { n: 5, ratio: 0.5, list: ["a", "b"], ok: true } });
  const child = tracer.startSpan(`${mark} child`, {}, trace.setSpan(context.active(), parent));
  child.addEvent("cache miss", { key: "k" });
  child.setStatus({ code: SpanStatusCode.ERROR, message: "boom" });
  child.end();
  parent.end();
  await traces.shutdown();

  const { LoggerProvider, BatchLogRecordProcessor } = require("@opentelemetry/sdk-logs");
  const { OTLPLogExporter } = exporter("logs", suffix);
  const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter(options("/v1/logs")) })] });
  logs.getLogger("tests").emit({ severityNumber: 17, severityText: "ERROR", body: `declined ${mark}`, attributes: { order: 17, nested: { a: [1, 2] } } });
  await logs.shutdown();

  const { MeterProvider, PeriodicExportingMetricReader } = require("@opentelemetry/sdk-metrics");
  if (kind === "grpc") return;
  const { OTLPMetricExporter } = exporter("metrics", suffix);
  const reader = new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(options("/v1/metrics")), exportIntervalMillis: 60000 });
  const metrics = new MeterProvider({ resource, readers: [reader] });
  metrics.getMeter("tests").createCounter(`${mark}_hits`).add(3, { code: 200 });
  metrics.getMeter("tests").createHistogram(`${mark}_latency`, { unit: "ms" }).record(12.5);
  await metrics.shutdown();
}

async function segment() {
  const { Analytics } = require("@segment/analytics-node");
  const analytics = new Analytics({ writeKey: "wk_5c1f9a00", host: url("http", ""), path: "/v1/batch", maxRetries: 0 });
  const errors = [];
  analytics.on("error", (error) => errors.push(error));
  for (let index = 0; index < 10; index++) {
    analytics.track({ userId: "user-3", event: "segment_node", properties: { index, nested: { a: [index] } } });
  }
  analytics.group({ userId: "user-3", groupId: "acme", traits: { plan: "pro" } });
  await analytics.closeAndFlush();
  if (errors.length) throw new Error(JSON.stringify(errors));
}

async function hotshots() {
  const StatsD = require("hot-shots");
  const client = new StatsD({ host: "127.0.0.1", port: ports.statsd, prefix: "hot.", globalTags: { env: "test" } });
  for (let index = 0; index < 10; index++) client.increment("hits", index, { service: "web" });
  client.gauge("load", 1.5);
  client.timing("latency", 320);
  client.distribution("sizes", 7);
  client.set("users", "u1");
  client.event("hot deployed", "version 8", { alert_type: "warning" });
  client.check("hot.db", client.CHECKS.CRITICAL, { message: "down" });
  await new Promise((resolve) => client.close(resolve));
}

async function fluent() {
  const { FluentClient } = require("@fluent-org/logger");
  const client = new FluentClient("fluentjs", { socket: { host: "127.0.0.1", port: ports.fluent }, ack: { ackTimeout: 20000 } });
  const sent = [];
  for (let index = 0; index < 20; index++) sent.push(client.emit("orders", { message: `fluentjs ${index}`, index, nested: { a: [true, null] } }));
  await Promise.all(sent);
  await client.shutdown();
}

async function fluentauth() {
  const { FluentClient } = require("@fluent-org/logger");
  const options = (sharedKey) => ({
    socket: { host: "127.0.0.1", port: ports.fluent },
    security: { clientHostname: "app-1", sharedKey },
    ack: { ackTimeout: 20000 },
  });
  const client = new FluentClient("fluentauth", options("bk_0b77ffee"));
  for (let index = 0; index < 20; index++) await client.emit("orders", { message: `fluentauth ${index}`, index });
  await client.shutdown();
  const stranger = new FluentClient("fluentauth", { ...options("bk_guessed"), onSocketError: () => {} });
  const refused = new Promise((resolve) => stranger.socketOn("error", resolve));
  stranger.emit("orders", { message: "from a stranger" }).catch(() => {});
  const error = await refused;
  if (!error.message.includes("no key has this shared_key")) throw error;
  await stranger.disconnect();
}

const senders = { otelgrpc: () => otel("grpc"), otelprotobuf: () => otel("protobuf"), oteljson: () => otel("json"), segment, hotshots, fluent, fluentauth };
senders[name]().catch((error) => {
  console.error(error);
  process.exit(1);
});
