//! Addresses that a collector may be sent to: whoever fills a list of targets must not reach what only the collector
//! can, such as a cloud's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// True if an address may be connected to. Loopback only for targets that stand in the configuration itself.
pub fn may_connect(address: IpAddr, is_static: bool) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => !is_forbidden_v4(v4) && (is_static || !v4.is_loopback()),
        IpAddr::V6(v6) => !is_forbidden_v6(v6) && (is_static || !v6.is_loopback()),
    }
}

fn is_forbidden_v4(v4: Ipv4Addr) -> bool {
    // Alibaba's and Oracle's metadata services have addresses outside of 169.254.0.0/16.
    let is_metadata = [[100, 100, 100, 200], [192, 0, 0, 192]].contains(&v4.octets());
    v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0 || is_metadata
}

fn is_forbidden_v6(v6: Ipv6Addr) -> bool {
    // fd00:ec2::254 is AWS's metadata service, fd20:ce::254 Google's.
    let is_metadata =
        matches!(v6.segments(), [0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x254] | [0xFD20, 0xCE, 0, 0, 0, 0, 0, 0x254]);
    // Addresses of IPv4 in those of IPv6: NAT64 and 6to4.
    let embedded = match v6.segments() {
        [0x64, 0xFF9B, 0, 0, 0, 0, a, b] | [0x2002, a, b, ..] => {
            Some(Ipv4Addr::from(u32::from(a) << 16 | u32::from(b)))
        }
        _ => None,
    };
    v6.is_unicast_link_local()
        || v6.is_multicast()
        || v6.is_unspecified()
        || is_metadata
        || embedded.is_some_and(is_forbidden_v4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_71_metadata_services_are_never_reached() {
        for text in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "100.100.100.200",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "255.255.255.255",
            "ff02::1",
        ] {
            let address = text.parse().unwrap();
            assert!(!may_connect(address, true) && !may_connect(address, false), "{text}");
        }
        for text in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let address = text.parse().unwrap();
            assert!(may_connect(address, true) && !may_connect(address, false), "{text}");
        }
        for text in ["10.0.0.1", "192.168.1.1", "203.0.113.7", "2001:db8::1", "fd12::1"] {
            assert!(may_connect(text.parse().unwrap(), false), "{text}");
        }
    }
}
