//! Targets: lists with labels, by relabelling what is to be scraped.

use std::collections::BTreeMap;

use super::{
    config::{Job, StaticConfig},
    relabel::{self, LabelMap},
};

/// One exporter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its address.
    pub url: String,
    /// Labels of all its series.
    pub labels: LabelMap,
    /// True if it stands in the configuration itself, so that its operator vouches for it.
    pub is_static: bool,
}

/// The targets of a list, and what is wrong with the others.
pub fn targets(job: &Job, lists: &[StaticConfig], is_static: bool) -> (Vec<Target>, Vec<String>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for list in lists {
        for address in &list.targets {
            match target(job, address, &list.labels, is_static) {
                Ok(target) => found.extend(target),
                Err(problem) => problems.push(format!("{address}: {problem}")),
            }
        }
    }
    // One that stands there twice is scraped once.
    found.sort();
    found.dedup();
    (found, problems)
}

/// The target; `None` where the rules drop it.
fn target(job: &Job, address: &str, labels: &LabelMap, is_static: bool) -> Result<Option<Target>, String> {
    let mut all = BTreeMap::from(
        [
            ("job", &job.name[..]),
            ("__address__", address),
            ("__scheme__", &job.scheme),
            ("__metrics_path__", &job.path),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    for (name, values) in &job.params {
        if let Some(value) = values.first() {
            all.insert(format!("__param_{name}"), value.clone());
        }
    }
    all.extend(labels.clone());
    if !relabel::apply(&job.target_rules, &mut all) {
        return Ok(None);
    }
    let mut take = |name: &str| all.remove(name).unwrap_or_default();
    let (address, scheme, path) = (take("__address__"), take("__scheme__"), take("__metrics_path__"));
    if address.is_empty() || address.contains(['/', '@', '?', '#', ' ']) {
        return Err("an address is a host and a port".to_owned());
    }
    let url = format!("{scheme}://{}{path}{}", with_port(&address, &scheme), query(job, &all));
    all.retain(|name, _| !name.starts_with("__"));
    all.entry("instance".to_owned()).or_insert(address);
    Ok(Some(Target { url, labels: all, is_static }))
}

fn with_port(address: &str, scheme: &str) -> String {
    let after_bracket = address.rsplit(']').next().unwrap_or(address);
    let port = if scheme == "https" { 443 } else { 80 };
    if after_bracket.contains(':') { address.to_owned() } else { format!("{address}:{port}") }
}

/// The parameters, of which rules may have changed the first values.
fn query(job: &Job, labels: &LabelMap) -> String {
    let mut pairs = Vec::new();
    let mut params = job.params.clone();
    for (name, value) in labels {
        if let Some(name) = name.strip_prefix("__param_") {
            let values = params.entry(name.to_owned()).or_default();
            match values.first_mut() {
                Some(first) => first.clone_from(value),
                None => values.push(value.clone()),
            }
        }
    }
    for (name, values) in params {
        pairs.extend(values.iter().map(|value| format!("{}={}", escaped(&name), escaped(value))));
    }
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::config::JobConfig;

    fn job(toml: &str) -> Job {
        let text = format!("job_name = \"j\"\n{toml}\n[[static_configs]]\ntargets = [\"unused\"]");
        toml::from_str::<JobConfig>(&text).unwrap().job().unwrap()
    }

    fn list(targets: &[&str], labels: &[(&str, &str)]) -> StaticConfig {
        StaticConfig {
            targets: targets.iter().map(ToString::to_string).collect(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn addresses_become_targets_with_job_and_instance() {
        let job = job("params = { module = [\"http 2xx\"] }");
        let (found, problems) =
            targets(&job, &[list(&["a:9100", "b", "a:9100", "[::1]", "x/y"], &[("env", "p")])], true);
        let urls: Vec<_> = found.iter().map(|target| &target.url[..]).collect();
        assert_eq!(
            urls,
            [
                "http://[::1]:80/metrics?module=http%202xx",
                "http://a:9100/metrics?module=http%202xx",
                "http://b:80/metrics?module=http%202xx"
            ]
        );
        assert_eq!(found[1].labels["instance"], "a:9100");
        assert_eq!(
            (&found[1].labels["job"][..], &found[1].labels["env"][..], found[1].labels.len()),
            ("j", "p", 3)
        );
        assert_eq!(problems, ["x/y: an address is a host and a port"]);
    }

    #[test]
    fn rules_choose_targets_and_make_labels_of_what_is_discovered() {
        let rules = "[[relabel_configs]]\nsource_labels = [\"__meta_role\"]\nregex = \"web|db\"\naction = \"keep\"\n\
            [[relabel_configs]]\nregex = \"__meta_(.+)\"\naction = \"labelmap\"\n\
            [[relabel_configs]]\nsource_labels = [\"__address__\"]\ntarget_label = \"__param_target\"\n\
            [[relabel_configs]]\ntarget_label = \"__address__\"\nreplacement = \"probe:9115\"\n\
            [[relabel_configs]]\nsource_labels = [\"__param_target\"]\ntarget_label = \"instance\"";
        let lists = [list(&["web1"], &[("__meta_role", "web")]), list(&["x"], &[("__meta_role", "cache")])];
        let (found, _) = targets(&job(rules), &lists, false);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].url, "http://probe:9115/metrics?target=web1");
        assert_eq!((&found[0].labels["role"][..], &found[0].labels["instance"][..]), ("web", "web1"));
        assert!(!found[0].is_static);
    }
}
