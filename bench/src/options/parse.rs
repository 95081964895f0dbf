//! Values of options, read from text.

use std::{
    collections::HashSet,
    net::{SocketAddr, ToSocketAddrs},
    num::NonZeroU32,
    ops::RangeInclusive,
    str::FromStr,
};

/// As many as an affinity mask of the C library has.
const CPUS_MAX: usize = 1024;

/// CPUs, in the order given; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// The CPU of the thread with this number, in turn.
    pub fn of_thread(&self, number: usize) -> usize {
        self.0[number % self.0.len()]
    }

    /// Number of different ones.
    pub fn distinct(&self) -> usize {
        self.0.iter().collect::<HashSet<_>>().len()
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let parse = |text: &str| text.trim().parse().map_err(|_| format!("{part:?} is no CPU or range"));
            let range: RangeInclusive<usize> = parse(from)?..=parse(to)?;
            if range.is_empty() || *range.end() >= CPUS_MAX {
                return Err(format!("{part:?} is no range of CPUs"));
            }
            cpus.extend(range);
        }
        Ok(Self(cpus))
    }
}

/// The first address of a host and port.
pub fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "no address".to_owned())
}

/// 0 to 100, with or without a percent sign.
pub fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a percentage is a number from 0 to 100".to_owned()),
    }
}

/// A rate: 100 or 100/s.
pub fn per_second(text: &str) -> Result<u32, String> {
    text.trim_end_matches("/s").parse().map_err(|_| "a rate is a number per second, such as 100/s".to_owned())
}

/// A number of connections; 0 stands for all.
pub fn storm_size(text: &str) -> Result<u32, String> {
    match text.parse() {
        _ if text == "all" => Ok(0),
        Ok(size) if size > 0 => Ok(size),
        _ => Err("a storm is a number of connections, or all".to_owned()),
    }
}

/// A rate above 0.
pub fn rate(text: &str) -> Result<NonZeroU32, String> {
    NonZeroU32::new(per_second(text)?).ok_or_else(|| "at least one a second".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_rates_are_read() {
        assert_eq!("0,2-4".parse(), Ok(CpuList(vec![0, 2, 3, 4])));
        assert!(["2-1", "x", "", "0-99999999"].iter().all(|text| text.parse::<CpuList>().is_err()));
        assert_eq!(per_second("25/s"), Ok(25));
    }
}
