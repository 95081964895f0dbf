//! OTLP over gRPC and HTTP.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceResponse,
    logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs},
};
use prost::Message;
use tokio::net::TcpStream;

use crate::{
    clients::request,
    server::{Answer, Fixture},
};

const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

fn logs(count: usize) -> Vec<u8> {
    let log_records = vec![LogRecord { severity_text: "INFO".into(), ..LogRecord::default() }; count];
    let scope = ScopeLogs { log_records, ..ScopeLogs::default() };
    LogsData { resource_logs: vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }] }
        .encode_to_vec()
}

/// A unary call: the status, from trailers or headers, and the message.
async fn call(address: SocketAddr, path: &str, message: &[u8]) -> (HeaderMap, Bytes) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    let body: Full<Bytes> = Full::new(body.into());
    let request = Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body.map_err(|error: Infallible| error))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let collected = response.into_body().collect().await.unwrap();
    let status = collected.trailers().cloned().unwrap_or(headers);
    (status, collected.to_bytes())
}

#[tokio::test]
async fn a_call_is_answered_in_grpcs_words() {
    let fixture = Fixture::start(None).await;
    let (status, message) = call(fixture.otlp_grpc, EXPORT, &logs(3)).await;
    assert_eq!(status["grpc-status"], "0");
    assert_eq!(&message[..], b"\0\0\0\0\0");
    assert_eq!(fixture.server.events().len(), 3);

    fixture.server.answer(Answer::Reject("TOO_OLD", false));
    let (status, message) = call(fixture.otlp_grpc, EXPORT, &logs(2)).await;
    assert_eq!(status["grpc-status"], "0");
    let partial = ExportLogsServiceResponse::decode(&message[5..]).unwrap().partial_success.unwrap();
    assert_eq!(
        (partial.rejected_log_records, &partial.error_message[..]),
        (1, "record 1: TOO_OLD: as the test wants it")
    );

    fixture.server.answer(Answer::Reject("STORAGE_FULL", true));
    let (status, _) = call(fixture.otlp_grpc, EXPORT, &logs(2)).await;
    assert_eq!(status["grpc-status"], "14");
    assert!(status.contains_key("grpc-status-details-bin"), "{status:?}");
    fixture.server.answer(Answer::Reject("RATE_LIMITED", true));
    assert_eq!(call(fixture.otlp_grpc, EXPORT, &logs(1)).await.0["grpc-status"], "8");

    assert_eq!(call(fixture.otlp_grpc, EXPORT, b"\x0A\xFF").await.0["grpc-status"], "3");
    assert_eq!(call(fixture.otlp_grpc, "/nowhere/Export", b"").await.0["grpc-status"], "12");
}

#[tokio::test]
async fn http_takes_protobuf_and_json_with_partial_success() {
    let fixture = Fixture::start(None).await;
    let post = async |content_type: &str, body: &[u8]| {
        let head = format!("POST /v1/logs HTTP/1.1\r\ncontent-type: {content_type}");
        request(fixture.otlp_http, &head, body).await
    };
    assert_eq!(post("application/x-protobuf", &logs(2)).await.status, 200);
    let json = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1800000000000000000","body":{"stringValue":"m"},"severityNumber":17}]}]}]}"#;
    let answer = post("application/json", json).await;
    assert_eq!((answer.status, &answer.body[..]), (200, "{}"));
    assert_eq!(post("application/json", b"{").await.status, 400);
    // Its answers would be others than gRPC's.
    assert_eq!(post("application/grpc-web+proto", &logs(1)).await.status, 415);
    assert_eq!(fixture.server.events().len(), 3);
    fixture.server.answer(Answer::Reject("STORAGE_FULL", true));
    let answer = post("application/json", json).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
}
