//! Addresses in groups: [`Network`] says which are meant, [`AddressKey`] which are counted as one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

/// Address and port of a peer: a [`SocketAddr`] without the flow label of IPv6, which no connection is told apart by.
/// 23 bytes, for tables of many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress {
    pub ip: IpAddr,
    port: [u8; 2],
    scope: [u8; 4],
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        let scope = if let SocketAddr::V6(address) = address { address.scope_id() } else { 0 };
        Self { ip: address.ip(), port: address.port().to_ne_bytes(), scope: scope.to_ne_bytes() }
    }
}

impl From<PeerAddress> for SocketAddr {
    fn from(PeerAddress { ip, port, scope }: PeerAddress) -> Self {
        let port = u16::from_ne_bytes(port);
        match ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, u32::from_ne_bytes(scope)).into(),
        }
    }
}

/// A range of addresses in CIDR notation (RFC 4632, RFC 4291 section 2.3).
///
/// IPv4 addresses in IPv6 form (`::ffff:0:0/96`) count as IPv4, both here and in [`Network::contains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// Its first address: no bit behind the prefix is set.
    first: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of `prefix` bits that begins with `first`.
    ///
    /// # Errors
    /// If the prefix is longer than the address, or the address has bits set behind the prefix.
    pub fn new(first: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        let max = bits_of(first);
        if prefix > max {
            return Err(NetworkError::Prefix { prefix: prefix.to_string(), max });
        }
        let meant = Self { first: masked(first, prefix), prefix }.normal();
        if masked(first, prefix) != first {
            return Err(NetworkError::HostBits { address: first, prefix, meant });
        }
        Ok(meant)
    }

    /// True if `address` belongs to it.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix) == self.first
    }

    /// IPv4 where all of it is IPv4 in IPv6 form.
    fn normal(self) -> Self {
        match self.first.to_canonical() {
            IpAddr::V4(first) if self.first.is_ipv6() && self.prefix >= 96 => {
                Self { first: first.into(), prefix: self.prefix - 96 }
            }
            _ => self,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    /// `10.0.0.0/8`, `2001:db8::/32`; an address without a prefix is a network of one.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address { text: text.to_owned() })?;
        let max = bits_of(address);
        let prefix = match prefix {
            None => max,
            Some(digits) => {
                decimal(digits).ok_or_else(|| NetworkError::Prefix { prefix: digits.to_owned(), max })?
            }
        };
        Self::new(address, prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == bits_of(self.first) {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.prefix)
        }
    }
}

/// Text or numbers that are no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No address before the slash.
    #[error("{text:?} is no network; write an address, or one with a prefix length like 10.0.0.0/8")]
    Address {
        /// The text that was given.
        text: String,
    },
    /// A prefix length that isn't a number, or is above what the address has.
    #[error("the prefix length {prefix:?} must be a number from 0 to {max}")]
    Prefix {
        /// The text that was given.
        prefix: String,
        /// Bits of the address.
        max: u8,
    },
    /// An address inside the network, where its first is expected.
    #[error(
        "{address}/{prefix} has bits set behind its prefix; write {meant} for the network, or {address} alone for the \
         address"
    )]
    HostBits {
        /// The address that was given.
        address: IpAddr,
        /// The prefix length that was given.
        prefix: u8,
        /// The network that this address is in.
        meant: Network,
    },
}

/// Key under which limits per address count a client: an IPv4 address, or an IPv6 /64, which is what one customer
/// usually gets (RFC 6177). Nine bytes, for tables of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey(Key);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    V4([u8; 4]),
    V6([u8; 8]),
}

const _: () = assert!(size_of::<AddressKey>() == 9);

impl AddressKey {
    /// Its bits, for a hash: different addresses of one family differ in them.
    pub(crate) fn bits(self) -> u64 {
        match self.0 {
            Key::V4(octets) => u64::from(u32::from_be_bytes(octets)),
            Key::V6(network) => u64::from_be_bytes(network),
        }
    }
}

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Key::V4(address.octets()),
            IpAddr::V6(address) => {
                let [network @ .., _, _, _, _, _, _, _, _] = address.octets();
                Key::V6(network)
            }
        })
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Key::V4(octets) => write!(f, "{}", Ipv4Addr::from(octets)),
            Key::V6(network) => {
                write!(f, "{}/64", Ipv6Addr::from(u128::from(u64::from_be_bytes(network)) << 64))
            }
        }
    }
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `address` with all bits behind the first `prefix` cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// A number without sign and leading zeros; `parse` alone would take "+8" and "08".
fn decimal(digits: &str) -> Option<u8> {
    let number: u8 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_printed_as_it_is_written() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.7", "::1", "2001:db8::/32", "::/0"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("192.0.2.7/32").to_string(), "192.0.2.7");
        assert_eq!(network("::ffff:10.0.0.0/104").to_string(), "10.0.0.0/8");
        assert_eq!(network("::ffff:192.0.2.7").to_string(), "192.0.2.7");
    }

    #[test]
    fn what_is_no_network_is_refused_with_a_reason() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        for text in ["", "/8", "10.0.0", "010.0.0.0/8", "example.org", " 10.0.0.0/8", "fe80::1%eth0"] {
            check(text, "is no network");
        }
        for prefix in ["33", "-1", "+8", "08", "", "8 ", "256", "8/8"] {
            check(&format!("10.0.0.0/{prefix}"), "must be a number from 0 to 32");
        }
        check("::/129", "must be a number from 0 to 128");
        check("10.0.0.1/8", "write 10.0.0.0/8 for the network, or 10.0.0.1 alone for the address");
        check("2001:db8::1/32", "write 2001:db8::/32 for");
        check("::ffff:10.0.0.1/104", "write 10.0.0.0/8 for");
    }

    #[test]
    fn an_address_is_inside_or_outside() {
        let check = |text: &str, inside: &str, expected| {
            assert_eq!(network(text).contains(address(inside)), expected, "{inside} in {text}");
        };
        check("10.0.0.0/8", "10.255.255.255", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("0.0.0.0/0", "203.0.113.7", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "2001:db8::1", true);
        check("::/0", "203.0.113.7", false);
        check("::/0", "::ffff:203.0.113.7", false);
        check("2001:db8::/33", "2001:db8:7fff::1", true);
        check("2001:db8::/33", "2001:db8:8000::1", false);
        check("::1", "::1", true);
        check("::1", "::2", false);
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let check = |text: &str, expected: &str| {
            assert_eq!(AddressKey::from(address(text)).to_string(), expected);
        };
        check("203.0.113.7", "203.0.113.7");
        check("::ffff:203.0.113.7", "203.0.113.7");
        check("2001:db8::1", "2001:db8::/64");
        check("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64");
        check("::1", "::/64");
        assert_ne!(AddressKey::from(address("0.0.0.0")), AddressKey::from(address("::")));
    }

    proptest! {
        #[test]
        fn every_network_holds_its_own_and_reads_back(address: IpAddr, bits: u8, other: IpAddr) {
            let (address, other) = (address.to_canonical(), other.to_canonical());
            let prefix = bits % (bits_of(address) + 1);
            let network = Network::new(masked(address, prefix), prefix).unwrap();
            prop_assert!(network.contains(address));
            prop_assert_eq!(network.to_string().parse(), Ok(network));
            let same = bits_of(address) == bits_of(other) && masked(other, prefix) == masked(address, prefix);
            prop_assert_eq!(network.contains(other), same);
        }

        #[test]
        fn any_text_is_answered(text in "[0-9a-f:./]{0,24}") {
            if let Ok(network) = text.parse::<Network>() {
                prop_assert_eq!(network.to_string().parse(), Ok(network));
            }
        }
    }
}
