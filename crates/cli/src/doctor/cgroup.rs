//! Limits of the process's control group: CPU time, memory, swap. The tightest of the group and those above it
//! counts. Both versions of cgroups (cgroups(7)).

use super::Host;

/// Version 1 writes "no limit" as the largest multiple of a page.
const V1_UNLIMITED_BYTES: u64 = 1 << 60;

impl Host {
    /// CPUs' worth of time; `Some(None)` where there is no quota, `None` where it can't be read.
    pub(super) fn cpu_quota(&self) -> Option<Option<f64>> {
        self.tightest("cpu", |host, folder| {
            let (quota, period) = match host.text(&format!("{folder}/cpu.max")) {
                Some(text) => {
                    let (quota, period) = text.split_once(' ')?;
                    (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?)
                }
                None => (
                    host.number(&format!("{folder}/cpu.cfs_quota_us"))? as f64,
                    host.number(&format!("{folder}/cpu.cfs_period_us"))? as f64,
                ),
            };
            Some(quota / period)
        })
    }

    /// Bytes of memory; else as [`Host::cpu_quota`].
    pub(super) fn memory_limit(&self) -> Option<Option<u64>> {
        self.tightest("memory", |host, folder| {
            let version_2 = host.number(&format!("{folder}/memory.max"));
            version_2.or_else(|| {
                let bytes = host.number(&format!("{folder}/memory.limit_in_bytes"))?;
                Some(bytes).filter(|&bytes| bytes < V1_UNLIMITED_BYTES)
            })
        })
    }

    /// True if the process may not be swapped out.
    pub(super) fn swap_is_forbidden(&self) -> bool {
        let limit = self.tightest("memory", |host, folder| host.number(&format!("{folder}/memory.swap.max")));
        limit == Some(Some(0))
    }

    /// The smallest that `read` finds in the process's group and those above it. A file that is missing is no
    /// limit: its controller isn't enabled there.
    fn tightest<T: PartialOrd>(
        &self,
        controller: &str,
        read: impl Fn(&Self, &str) -> Option<T>,
    ) -> Option<Option<T>> {
        let (mount, group) = self.group(controller)?;
        let groups = std::path::Path::new(group.trim_start_matches('/')).ancestors();
        let found = groups.filter_map(|group| read(self, &format!("{mount}/{}", group.display())));
        Some(found.reduce(|least, other| if other < least { other } else { least }))
    }

    /// Mount point of the hierarchy with this controller, and the process's group in it.
    fn group(&self, controller: &str) -> Option<(String, String)> {
        let groups = self.process_text("cgroup")?;
        let mut lines = groups.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        });
        // Version 2 has no names of controllers, and where both are mounted, version 1 has what it names.
        let named = lines.clone().find(|(names, _)| names.split(',').any(|name| name == controller));
        let (mount, group) = match named {
            Some((_, group)) => (format!("sys/fs/cgroup/{controller}"), group),
            None => ("sys/fs/cgroup".to_owned(), lines.find(|(names, _)| names.is_empty())?.1),
        };
        self.exists(&mount).then(|| (mount, group.to_owned()))
    }
}
