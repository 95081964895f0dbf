//! Datagrams that the kernel has dropped, since the socket's buffer was full: it counts them for each socket.

use std::{fs, io, os::fd::AsFd};

use rustix::fs::fstat;

/// Sockets of IPv4 and IPv6, a line each.
const TABLES: [&str; 2] = ["/proc/self/net/udp", "/proc/self/net/udp6"];
/// Columns of a table.
const INODE: usize = 9;
const DROPS: usize = 12;

/// A socket in the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketInode(u64);

impl SocketInode {
    /// Of an open socket.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        Ok(Self(fstat(socket)?.st_ino))
    }

    /// Datagrams that the kernel has dropped; 0 where it doesn't say.
    pub fn drops(self) -> u64 {
        let tables = TABLES.iter().filter_map(|path| fs::read_to_string(path).ok());
        tables.filter_map(|table| self.drops_in(&table)).sum()
    }

    fn drops_in(self, table: &str) -> Option<u64> {
        table.lines().skip(1).find_map(|line| {
            let mut columns = line.split_ascii_whitespace();
            let inode: u64 = columns.nth(INODE)?.parse().ok()?;
            let drops = columns.nth(DROPS - INODE - 1)?;
            (inode == self.0).then(|| drops.parse().ok()).flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_socket_is_found_by_its_inode() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                      12: 0100007F:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 5\n\
                      13: 0100007F:1FBD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 77\n";
        assert_eq!(
            [4711, 4712, 4713].map(|inode| SocketInode(inode).drops_in(table)),
            [Some(5), Some(77), None]
        );
    }

    #[test]
    fn what_a_full_buffer_cannot_take_is_seen() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(address) else { continue };
            let inode = SocketInode::of(&socket).unwrap();
            assert_eq!(inode.drops(), 0, "{address}");
            let sender = UdpSocket::bind(address).unwrap();
            for _ in 0..5_000 {
                _ = sender.send_to(&[0; 1000], socket.local_addr().unwrap());
            }
            assert!(inode.drops() > 0, "{address}");
        }
    }
}
