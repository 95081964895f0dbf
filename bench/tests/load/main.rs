//! The real commands, against each other and against servers that the tests play by hand.

mod end_to_end;
mod modes;
mod tls;

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};

/// Runs `tickstream-load` against a port of this machine; its JSON goes to standard output.
fn load(port: u16, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tickstream-load"))
        .env("STREAM_USER", "user")
        .env("STREAM_PASS", "password")
        .args(["--addr", &format!("127.0.0.1:{port}"), "--json", "-"])
        .args(arguments)
        .output()
        .unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Serves each connection in a thread of its own, on a port of its own. It ends with the process.
fn serve(session: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = session.clone();
            std::thread::spawn(move || session(stream));
        }
    });
    port
}
