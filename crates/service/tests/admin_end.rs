//! The end of the admin endpoint: whoever has asked by then is answered.

use std::future::pending;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tickstream_service::admin::{AdminAddress, AdminToken, Endpoint, Program, Router};
use tokio::sync::Notify;
use tokio::time::sleep;

/// A program that is told when a slow answer begins.
#[derive(Default)]
struct Slow(Notify);

impl Program for Slow {
    fn config(&self) -> String {
        String::new()
    }

    fn token(&self) -> Option<AdminToken> {
        None
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    async fn metrics(&self) -> String {
        self.0.notify_one();
        sleep(Duration::from_millis(300)).await;
        "slow 1\n".to_owned()
    }
}

fn connect(endpoint: &Endpoint) -> TcpStream {
    let AdminAddress::Tcp(address) = endpoint.addresses()[0].clone() else { panic!("{endpoint:?}") };
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn ask(mut stream: &TcpStream, path: &str) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn who_has_asked_or_connected_before_the_end_is_answered() {
    let address = AdminAddress::Tcp("127.0.0.1:0".parse().unwrap());
    let endpoint = Endpoint::bind(&[address], false).unwrap().unwrap();
    let [asks, kept, connects] = [(); 3].map(|()| connect(&endpoint));
    let slow = Arc::new(Slow::default());
    let router = Router::new("a program", Arc::clone(&slow));
    let begun = {
        let slow = Arc::clone(&slow);
        async move { slow.0.notified().await }
    };
    let (ends, ended) = mpsc::channel::<()>();
    let until = async move {
        begun.await;
        drop(ends);
    };
    ask(&asks, "/metrics");
    ask(&kept, "/healthz");
    let admin = endpoint.serve(router, || {}, until).unwrap();
    assert_eq!(ended.recv(), Err(mpsc::RecvError), "the slow answer begins, and the endpoint ends");
    ask(&connects, "/healthz");
    let slow = answer(asks);
    assert!(slow.contains("connection: close") && slow.ends_with("slow 1\n"), "{slow}");
    for stream in [kept, connects] {
        let answer = answer(stream);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    drop(admin);
}

#[test]
fn finishing_waits_for_answers_and_not_for_long_for_the_silent() {
    let address = AdminAddress::Tcp("127.0.0.1:0".parse().unwrap());
    let endpoint = Endpoint::bind(&[address], false).unwrap().unwrap();
    let [asks, silent] = [(); 2].map(|()| connect(&endpoint));
    let slow = Arc::new(Slow::default());
    let router = Router::new("a program", slow);
    ask(&asks, "/metrics");
    let admin = endpoint.serve(router, || {}, pending()).unwrap();
    // It may not have been accepted yet.
    admin.finish();
    let answer = answer(asks);
    assert!(answer.ends_with("slow 1\n"), "{answer}");
    drop(silent);
}
