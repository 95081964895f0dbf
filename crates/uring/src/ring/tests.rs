//! The ring against real sockets.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::*;

const SETUP: Setup = Setup { submissions: 4, completions: 64, buffers: 2, buffer_bytes: 16 };

#[test]
fn receives_through_few_buffers_and_tells_the_end() {
    let mut ring = Ring::new(SETUP).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let sent: Vec<u8> = (0..200).collect();
    near.write_all(&sent).unwrap();
    drop(near);

    let (mut got, mut ended) = (Vec::new(), false);
    ring.receive(far.as_fd(), 7);
    for _ in 0..100 {
        ring.wait(1, Duration::ZERO, Duration::from_secs(1)).unwrap();
        let mut completions = Vec::new();
        ring.completions(&mut completions);
        for completion in completions {
            assert_eq!(completion.token, 7);
            if let Some(received) = completion.received {
                got.extend_from_slice(ring.bytes(&received));
                ring.recycle(received);
            }
            ended |= completion.result == Ok(0);
            if !completion.more && !ended {
                ring.receive(far.as_fd(), 7);
            }
        }
        if ended {
            break;
        }
    }
    assert!(ended);
    assert_eq!(got, sent);
}

#[test]
fn sends_all_to_a_socket_that_takes_little_at_once() {
    let mut ring = Ring::new(SETUP).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| n as u8).collect();
    let expected = bytes[7..].to_vec();
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        std::io::Read::read_exact(&mut far, &mut got).unwrap();
        got == expected
    });
    ring.send_all(near.as_fd(), bytes, 7, 1);
    let mut completions = Vec::new();
    for _ in 0..100 {
        ring.wait(1, Duration::ZERO, Duration::from_secs(1)).unwrap();
        ring.completions(&mut completions);
        if !completions.is_empty() {
            break;
        }
    }
    assert_eq!(completions[0].result, Ok(20_000_000 - 7));
    let returned = completions[0].returned.as_ref().unwrap();
    assert_eq!((returned.bytes.len(), returned.is_whole), (20_000_000, true));
    assert!(reader.join().unwrap());
}

#[test]
fn sends_more_than_the_queue_holds() {
    let mut ring = Ring::new(SETUP).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _far = listener.accept().unwrap();
    let bytes: Rc<[u8]> = [1, 2, 3].into();
    for token in 0..11 {
        ring.send(near.as_fd(), Rc::clone(&bytes), 0, token);
    }
    ring.submit();
    assert!(ring.unsubmitted.is_empty() && Rc::strong_count(&bytes) == 1, "the kernel has them");
    let mut completions = Vec::new();
    ring.completions(&mut completions);
    assert_eq!(completions.len(), 11);
    assert!(completions.iter().all(|completion| completion.result == Ok(3)));
}

#[test]
fn connects_accepts_and_tells_a_hangup() {
    let mut ring = Ring::new(SETUP).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: &SockAddr = Box::leak(Box::new(listener.local_addr().unwrap().into()));
    let near = socket2::Socket::new(address.domain(), socket2::Type::STREAM, None).unwrap();
    ring.accept(listener.as_fd(), 1);
    ring.connect(near.as_fd(), address, 2);
    let (mut completions, mut far) = (Vec::new(), None);
    while far.is_none() || completions.len() < 2 {
        ring.wait(2, Duration::from_millis(100), Duration::from_secs(1)).unwrap();
        ring.completions(&mut completions);
        far = far.or_else(|| completions.iter_mut().find_map(|done| done.accepted.take()));
    }
    assert!(completions.iter().any(|done| done.token == 2 && done.result == Ok(0)));
    completions.clear();
    ring.await_hangup(near.as_fd(), 3);
    drop(far);
    ring.wait(1, Duration::ZERO, Duration::from_secs(1)).unwrap();
    ring.completions(&mut completions);
    assert!(matches!(&completions[..], [done] if done.token == 3 && done.result.is_ok()));
}
