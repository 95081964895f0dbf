//! Reloads and upgrades say what came of them, and weaken nothing.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Server, TOKEN};

#[test]
fn a_bearer_token_is_taken_in_any_case_and_behind_any_number_of_spaces() {
    let server = Server::start(&[]);
    for scheme in ["Bearer ", "bearer ", "BEARER  ", "bEaReR    "] {
        let answer = server.post_with("/reload", &format!("authorization: {scheme}{TOKEN}"));
        assert_eq!(answer.status, 200, "{scheme:?}: {}", answer.body);
    }
    for wrong in ["Bearer", "Basic ", "Bearer\u{b}"] {
        let answer = server.post_with("/reload", &format!("Authorization: {wrong}{TOKEN}"));
        assert!(answer.status == 403 || answer.status == 400, "{wrong:?}: {} {}", answer.status, answer.body);
    }
}

#[test]
fn a_reload_answers_what_changed_and_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tickstream.toml");
    let write = |toml: &str| std::fs::write(&path, toml).unwrap();
    write("frames_per_second_max = 7");
    let server = Server::start(&["--config", path.to_str().unwrap()]);
    let reload = |toml: &str| {
        write(toml);
        let answer = server.post("/reload", Some(TOKEN));
        (answer.status, answer.body)
    };
    let (status, said) = reload("frames_per_second_max = 7\nbogus_key = 1");
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("unknown key \"bogus_key\"") && said.contains("those in use stay"), "{said}");
    let (status, said) = reload("frames_per_second_max = 0");
    assert!(
        status == 422 && said.contains("frames_per_second_max") && said.contains("out of range"),
        "{said}"
    );
    assert!(server.get("/config").body.contains("frames_per_second_max = 7 #"));
    let (status, said) = reload("frames_per_second_max = 8\nreplay_ticks_max = 9");
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("changed: frames_per_second_max\n"), "{said}");
    assert!(said.contains("needs a restart, the old value stays in use: replay_ticks_max\n"), "{said}");
    assert!(server.get("/config").body.contains("frames_per_second_max = 8 #"));
}

/// Ends a process that the server has started.
pub struct Successor(String);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(&self.0).status();
    }
}

/// Hands over, and answers with the new process once the old one has left the unix socket to it.
pub fn upgraded(server: &Server) -> Successor {
    let answer = server.post_by_unix("/upgrade");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let pid = answer.body.split(' ').nth(1).expect("the answer names a process").to_owned();
    let begin = Instant::now();
    while !server.get_by_unix("/snapshot").body.contains(&format!("\"pid\":{pid},")) {
        assert!(begin.elapsed() < Duration::from_secs(10), "the new process doesn't answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    Successor(pid)
}

#[test]
fn a_configuration_from_a_pipe_outlasts_reloads_and_upgrades() {
    let toml = "frames_per_second_max = 7\nmax_connections_per_ip = 3\n";
    let server = Server::start_piped(&["--config", "/dev/stdin"], toml);
    let check = |when: &str| {
        let config = server.get_by_unix("/config").body;
        for setting in ["frames_per_second_max = 7 #", "max_connections_per_ip = 3 #"] {
            assert!(config.contains(setting), "{when}, {setting} is gone: {config}");
        }
    };
    check("at the start");
    let answer = server.post("/reload", Some(TOKEN));
    assert_eq!((answer.status, answer.body.as_str()), (200, "reloaded; changed: none\n"));
    check("after a reload");
    let first = upgraded(&server);
    check("after an upgrade");
    assert_eq!(server.post_by_unix("/reload").status, 200);
    check("after an upgrade and a reload");
    let second = upgraded(&server);
    check("after two upgrades");
    drop((first, second));
}
