//! Which addresses are the internet's, and which belong to somebody's own network or to no network at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rule::Network;

/// IPv4 networks that are not the internet: the registry of special-purpose addresses, multicast and what is reserved.
const V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // link-local; the metadata of clouds is here
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // multicast, reserved and broadcast
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// The one IPv6 network that is the internet, and what in it is not: tunnels that end where an address says, the
/// registry's own, documentation.
const V6_GLOBAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const V6: &[(Ipv6Addr, u8)] = &[
    // Teredo, ORCHID and the like
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether the address is one of the public internet, so that a name that resolves to it may be reached without
/// any rule that names the address.
///
/// An IPv4 address in IPv6's clothes (`::ffff:10.0.0.1`) is the IPv4 address; every other translated form (NAT64,
/// 6to4, Teredo) is not public, since where it leads is not ours to see.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !V4.iter().any(|&(net, bits)| within(ip.into(), net.into(), bits)),
        IpAddr::V6(ip) => {
            within(ip.into(), V6_GLOBAL.0.into(), V6_GLOBAL.1)
                && !V6.iter().any(|&(net, bits)| within(ip.into(), net.into(), bits))
        }
    }
}

fn within(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    Network::new(net, bits).contains(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_internet_is_public_and_nothing_else() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "223.255.255.1",
            "2606:4700::1111",
            "2a00::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.1",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }
}
