//! Listening sockets of the tests' own, handed over and passed as processes would.

use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::inherited::from_predecessor;
use super::*;

fn config(listen: SocketAddr, shards: &str, shared: &str) -> Config {
    let listen = listen.to_string();
    let values = [
        ("stream_user", "ada"),
        ("stream_pass", "s3cret"),
        ("listen", &listen),
        ("shards", shards),
        ("listen_shared", shared),
    ];
    Config::from_values(values).unwrap()
}

fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[test]
fn an_address_has_one_server_unless_sharing_is_asked_for() {
    let first = Listeners::open(&config(anywhere(), "3", "no"), Vec::new()).unwrap();
    let address = first.addresses()[0].address;
    assert_eq!(first.descriptors().len(), 3);
    let second = Listeners::open(&config(address, "3", "no"), Vec::new());
    assert!(matches!(second, Err(ListenError::InUse { address: at }) if at == address), "{second:?}");
    drop(first);
    let shared = config(address, "2", "yes");
    let (_first, _second) =
        (Listeners::open(&shared, Vec::new()).unwrap(), Listeners::open(&shared, Vec::new()).unwrap());
    let third = Listeners::open(&config(address, "1", "no"), Vec::new());
    assert!(matches!(third, Err(ListenError::InUse { .. })), "{third:?}");
    // One that asks for sharing doesn't get it of one that doesn't.
    let alone = Listeners::open(&config(anywhere(), "1", "no"), Vec::new()).unwrap();
    let second = Listeners::open(&config(alone.addresses()[0].address, "1", "yes"), Vec::new());
    assert!(matches!(second, Err(ListenError::InUse { .. })), "{second:?}");
}

/// As a process that is handed the sockets would.
fn hand_over(from: Listeners, config: &Config) -> Listeners {
    let (mut words, mut passed) = (Vec::new(), Vec::new());
    for listener in from.all() {
        let fd = listener.fd.try_clone().unwrap().into_raw_fd();
        words.push(format!("{fd}={}", if listener.tls { "tls" } else { "plain" }));
        passed.extend(listener.is_passed.then(|| fd.to_string()));
    }
    drop(from);
    let inherited = from_predecessor(&words.join(","), &passed.join(",")).unwrap();
    Listeners::open(config, inherited).unwrap()
}

#[test]
fn passed_sockets_survive_any_number_of_hand_overs() {
    let make = |domain, address: &str, prepare: fn(&Socket)| {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).unwrap();
        prepare(&socket);
        socket.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(16).unwrap();
        TcpListener::from(socket)
    };
    let sockets = [
        make(Domain::IPV4, "127.0.0.1:0", |_| {}),
        make(Domain::IPV4, "127.0.0.1:0", |socket| socket.set_reuse_port(true).unwrap()),
        make(Domain::IPV6, "[::1]:0", |socket| socket.set_only_v6(true).unwrap()),
        make(Domain::IPV6, "[::]:0", |socket| {
            socket.set_only_v6(false).unwrap();
            socket.set_reuse_port(true).unwrap();
        }),
    ];
    for socket in sockets {
        let address = socket.local_addr().unwrap();
        let passed = Listener { fd: socket.into(), address, tls: false, is_passed: true };
        let mut listeners = Listeners::open(&config(anywhere(), "2", "no"), vec![passed]).unwrap();
        for shards in ["3", "1", "2", "4"] {
            listeners = hand_over(listeners, &config(anywhere(), shards, "no"));
            let addresses: Vec<_> = listeners.addresses().iter().map(|found| found.address).collect();
            assert_eq!(addresses, [address], "{shards} shards");
            TcpStream::connect((address.ip().to_canonical(), address.port()))
                .or_else(|_| TcpStream::connect(("::1", address.port())))
                .unwrap();
        }
    }
}

#[test]
fn a_passed_socket_is_never_given_up() {
    let socket = TcpListener::bind(anywhere()).unwrap();
    let address = socket.local_addr().unwrap();
    let passed = Listener { fd: socket.into(), address, tls: true, is_passed: true };
    let unused = Listeners::open(&config(anywhere(), "2", "no"), vec![passed]);
    assert!(matches!(unused, Err(ListenError::Unused { address: at, tls: true }) if at == address));
}

/// Though the process before still listens.
#[test]
fn a_hand_over_may_widen_the_address() {
    let first = Listeners::open(&config(anywhere(), "1", "no"), Vec::new()).unwrap();
    let port = first.addresses()[0].address.port();
    let kept: Vec<_> = first.all().map(|listener| listener.duplicate().unwrap()).collect();
    let wide: SocketAddr = ([0, 0, 0, 0], port).into();
    let widened = Listeners::open(&config(wide, "2", "no"), kept).unwrap();
    assert_eq!(widened.addresses()[0].address, wide);
}

#[test]
fn own_sockets_follow_the_configured_address() {
    let first = Listeners::open(&config(anywhere(), "2", "no"), Vec::new()).unwrap();
    let address = first.addresses()[0].address;
    let kept = hand_over(first, &config(address, "4", "no"));
    assert_eq!((kept.addresses()[0].address, kept.descriptors().len()), (address, 4));
    let moved = hand_over(kept, &config(([127, 0, 0, 2], 0).into(), "1", "no"));
    assert_ne!(moved.addresses()[0].address.ip(), address.ip());
}
