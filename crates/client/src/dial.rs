//! From `host:port` to a connection that takes frames.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    Error, Operation,
    tls::{TlsConfig, TlsStream},
    transport::Transport,
};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Time that an address has before the next one is tried as well.
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to `server`; resolving its name and, where there is one, the TLS handshake count into `timeout`.
pub(crate) async fn dial(
    server: &str,
    tls: Option<&TlsConfig>,
    timeout: Duration,
) -> Result<Transport, Error> {
    let deadline = Instant::now() + timeout;
    let late = |operation| Error::Timeout { operation, after: timeout };
    let socket = match time::timeout_at(deadline, attempt(server)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(source)) => return Err(Error::Connect { server: server.to_owned(), source }),
        Err(_) => return Err(late(Operation::Connect)),
    };
    let Some(tls) = tls else {
        return Ok(Transport::Plain(socket));
    };
    let handshake = TlsStream::handshake(socket, tls, tls.name_of(server)?, server);
    match time::timeout_at(deadline, handshake).await {
        Ok(stream) => Ok(Transport::Tls(Box::new(stream?))),
        Err(_) => Err(late(Operation::Handshake)),
    }
}

/// Resolves a name and connects to one of its addresses.
async fn attempt(server: &str) -> io::Result<TcpStream> {
    let addresses = match lookup_host(server).await {
        Ok(found) => found.collect(),
        Err(error) => loopback(server).ok_or(error)?,
    };
    let stream = connect(in_turn(addresses)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Addresses of `localhost:PORT`, which is always this host (RFC 6761, section 6.3): a system without /etc/hosts, such as a small
/// container, can't resolve it.
fn loopback(server: &str) -> Option<Vec<SocketAddr>> {
    let (host, port) = server.rsplit_once(':')?;
    let port = port.parse().ok().filter(|_| host.eq_ignore_ascii_case("localhost"))?;
    Some(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()])
}

/// The first addresses of a name, both families in turn: where one of them leads nowhere, the other comes second.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let pairs = std::iter::from_fn(|| {
        let pair = [first.pop_front(), second.pop_front()];
        pair.iter().any(Option::is_some).then_some(pair)
    });
    pairs.flatten().flatten().take(ADDRESSES_MAX).collect()
}

/// Connects to the address that answers first. Each has a head start over the next (RFC 8305), so one that swallows
/// packets costs no more than that.
async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let has_more = addresses.len() > 0;
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(error)) => failure = error.into(),
                None => return Err(failure),
            },
            () = time::sleep(HEAD_START), if has_more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// An address whose queue is full: it answers nothing to those who connect.
    async fn black_hole() -> (SocketAddr, impl Sized) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        (address, (listener, queued))
    }

    #[tokio::test]
    async fn fault_93_an_address_that_swallows_packets_costs_its_head_start() {
        let (nowhere, _full) = black_hole().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let began = Instant::now();
        let stream = connect(vec![nowhere, nowhere, good]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        assert!(began.elapsed() < 8 * HEAD_START, "{:?}", began.elapsed());
    }

    #[test]
    fn localhost_is_this_host_without_a_resolver_and_no_other_name_is() {
        let found = loopback("LocalHost:7400").unwrap();
        assert_eq!(found, ["127.0.0.1:7400".parse().unwrap(), "[::1]:7400".parse().unwrap()]);
        for other in
            ["example.org:7400", "localhost", "localhost:port", "localhost.example.org:1", "[::1]:7400"]
        {
            assert_eq!(loopback(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_nothing_and_the_last_error_is_told() {
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let began = Instant::now();
        let error = connect(vec![refusing; 4]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(began.elapsed() < HEAD_START, "{:?}", began.elapsed());
        assert_eq!(connect(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn fault_93_families_take_turns() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let v6 = ["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"].map(address);
        let v4 = ["192.0.2.1:1", "192.0.2.2:1"].map(address);
        assert_eq!(in_turn([&v6[..], &v4].concat()), [v6[0], v4[0], v6[1], v4[1]]);
        assert_eq!(in_turn([&v4[..], &v6].concat()), [v4[0], v6[0], v4[1], v6[1]]);
        assert_eq!(in_turn(v6.to_vec()), v6);
        assert!(in_turn(Vec::new()).is_empty());
    }
}
