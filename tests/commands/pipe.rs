//! Bytes on their way between the test and a command.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Bytes that a pipe holds, of either of its ends.
pub fn held(pipe: &impl AsFd) -> u64 {
    rustix::io::ioctl_fionread(pipe).expect("a pipe")
}

/// Waits until a pipe holds as many bytes as is wanted.
pub fn wait_until_held(pipe: &impl AsFd, is_wanted: impl Fn(u64) -> bool) {
    let begin = Instant::now();
    while !is_wanted(held(pipe)) {
        assert!(begin.elapsed() < Duration::from_secs(20), "the pipe holds {} bytes", held(pipe));
        std::thread::sleep(Duration::from_millis(5));
    }
}
