//! Relabelling, by Prometheus' rules: <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config>

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;

/// Names and values; a label with an empty value is none.
pub type LabelMap = BTreeMap<String, String>;

/// A rule, as the configuration has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    #[serde(default)]
    source_labels: Vec<String>,
    separator: Option<String>,
    regex: Option<String>,
    target_label: Option<String>,
    replacement: Option<String>,
    modulus: Option<u64>,
    action: Option<String>,
}

/// A rule that holds.
#[derive(Clone, Debug)]
pub struct Rule {
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Replace { target_label: String, replacement: String },
    Keep,
    Drop,
    KeepEqual { target_label: String },
    DropEqual { target_label: String },
    HashMod { target_label: String, modulus: u64 },
    LabelMap { replacement: String },
    LabelDrop,
    LabelKeep,
    Lowercase { target_label: String },
    Uppercase { target_label: String },
}

impl RuleConfig {
    /// The rule.
    ///
    /// # Errors
    /// The fault, for people.
    pub fn rule(&self) -> Result<Rule, String> {
        let pattern = self.regex.as_deref().unwrap_or("(.*)");
        // The whole value has to match, and a dot is any character.
        let regex = Regex::new(&format!("^(?s:{pattern})$")).map_err(|error| format!("regex: {error}"))?;
        let target = || self.target_label.clone().ok_or_else(|| "target_label is missing".to_owned());
        let replacement = || self.replacement.clone().unwrap_or_else(|| "$1".to_owned());
        let action = match &self.action.as_deref().unwrap_or("replace").to_ascii_lowercase()[..] {
            "replace" => Action::Replace { target_label: target()?, replacement: replacement() },
            "keep" => Action::Keep,
            "drop" => Action::Drop,
            "keepequal" => Action::KeepEqual { target_label: target()? },
            "dropequal" => Action::DropEqual { target_label: target()? },
            "hashmod" => Action::HashMod {
                target_label: target()?,
                modulus: self.modulus.filter(|modulus| *modulus > 0).ok_or("modulus is missing")?,
            },
            "labelmap" => Action::LabelMap { replacement: replacement() },
            "labeldrop" => Action::LabelDrop,
            "labelkeep" => Action::LabelKeep,
            "lowercase" => Action::Lowercase { target_label: target()? },
            "uppercase" => Action::Uppercase { target_label: target()? },
            other => return Err(format!("there is no action \"{other}\"")),
        };
        let separator = self.separator.clone().unwrap_or_else(|| ";".to_owned());
        Ok(Rule { source_labels: self.source_labels.clone(), separator, regex, action })
    }
}

/// Applies the rules in their order. False: they drop what has these labels.
pub fn apply(rules: &[Rule], labels: &mut LabelMap) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

impl Rule {
    fn apply(&self, labels: &mut LabelMap) -> bool {
        let of = |name: &String| labels.get(name).map_or("", String::as_str);
        let source = self.source_labels.iter().map(of).collect::<Vec<_>>().join(&self.separator);
        match &self.action {
            Action::Keep => return self.regex.is_match(&source),
            Action::Drop => return !self.regex.is_match(&source),
            Action::KeepEqual { target_label } => return of(target_label) == source,
            Action::DropEqual { target_label } => return of(target_label) != source,
            Action::Replace { target_label, replacement } => {
                if let Some(captures) = self.regex.captures(&source) {
                    let name = expanded(&captures, target_label);
                    set(labels, name, expanded(&captures, replacement));
                }
            }
            Action::HashMod { target_label, modulus } => {
                set(labels, target_label.clone(), (hash(source.as_bytes()) % modulus).to_string());
            }
            Action::LabelMap { replacement } => {
                let mapped: Vec<_> = labels
                    .iter()
                    .filter_map(|(name, value)| {
                        Some((expanded(&self.regex.captures(name)?, replacement), value.clone()))
                    })
                    .collect();
                mapped.into_iter().for_each(|(name, value)| set(labels, name, value));
            }
            Action::LabelDrop => labels.retain(|name, _| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| self.regex.is_match(name)),
            Action::Lowercase { target_label } => set(labels, target_label.clone(), source.to_lowercase()),
            Action::Uppercase { target_label } => set(labels, target_label.clone(), source.to_uppercase()),
        }
        true
    }
}

fn expanded(captures: &regex::Captures<'_>, template: &str) -> String {
    let mut out = String::new();
    captures.expand(template, &mut out);
    out
}

/// Sets a label; an empty value, or a name that is none, removes it or changes nothing.
fn set(labels: &mut LabelMap, name: String, value: String) {
    if name.is_empty() {
        return;
    }
    if value.is_empty() {
        labels.remove(&name);
    } else {
        labels.insert(name, value);
    }
}

/// Prometheus takes the last eight bytes of the MD5; it only divides the targets among collectors, so any even
/// spread does: FNV-1a, with its bits mixed.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    fnv ^ fnv >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(toml: &str) -> Vec<Rule> {
        #[derive(Deserialize)]
        struct Rules {
            rule: Vec<RuleConfig>,
        }
        let rules: Rules = toml::from_str(toml).unwrap();
        rules.rule.iter().map(|rule| rule.rule().unwrap()).collect()
    }

    fn check(toml: &str, labels: &[(&str, &str)], expected: Option<&[(&str, &str)]>) {
        let map = |pairs: &[(&str, &str)]| -> LabelMap {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut found = map(labels);
        let is_kept = apply(&rules(toml), &mut found);
        assert_eq!(is_kept.then_some(found), expected.map(map), "{toml}");
    }

    #[test]
    fn prometheus_own_cases_hold() {
        let abc = [("a", "foo"), ("b", "bar"), ("c", "baz")];
        check(
            "[[rule]]\nsource_labels = [\"a\"]\nregex = \"f(.*)\"\ntarget_label = \"d\"\nreplacement = \"ch${1}-ch${1}\"",
            &abc,
            Some(&[("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "choo-choo")]),
        );
        check(
            "[[rule]]\nsource_labels = [\"a\", \"b\"]\nregex = \"f(.*);(.*)r\"\ntarget_label = \"a\"\nreplacement = \"b${1}${2}m\"",
            &abc,
            Some(&[("a", "boobam"), ("b", "bar"), ("c", "baz")]),
        );
        check("[[rule]]\nsource_labels = [\"a\"]\nregex = \".*o.*\"\naction = \"drop\"", &abc, None);
        check("[[rule]]\nsource_labels = [\"a\"]\nregex = \"o$\"\naction = \"keep\"", &abc, None);
        check("[[rule]]\nsource_labels = [\"a\"]\nregex = \"f.*\"\naction = \"keep\"", &abc, Some(&abc));
        check(
            "[[rule]]\nregex = \"(b.*)\"\nreplacement = \"bar_${1}\"\naction = \"labelmap\"",
            &[("a", "foo"), ("b1", "bar"), ("b2", "baz")],
            Some(&[("a", "foo"), ("b1", "bar"), ("b2", "baz"), ("bar_b1", "bar"), ("bar_b2", "baz")]),
        );
        check(
            "[[rule]]\nregex = \"(b.*)\"\naction = \"labeldrop\"",
            &[("a", "foo"), ("b1", "bar")],
            Some(&[("a", "foo")]),
        );
        check(
            "[[rule]]\nregex = \"(b.*)\"\naction = \"labelkeep\"",
            &[("a", "foo"), ("b1", "bar")],
            Some(&[("b1", "bar")]),
        );
        // An empty replacement removes the label, and a source that doesn't match changes nothing.
        check(
            "[[rule]]\nsource_labels = [\"a\"]\ntarget_label = \"a\"\nreplacement = \"\"",
            &[("a", "1")],
            Some(&[]),
        );
        check(
            "[[rule]]\nsource_labels = [\"a\"]\nregex = \"x\"\ntarget_label = \"a\"",
            &[("a", "1")],
            Some(&[("a", "1")]),
        );
        check(
            "[[rule]]\nsource_labels = [\"a\"]\ntarget_label = \"b\"\naction = \"uppercase\"",
            &[("a", "x")],
            Some(&[("a", "x"), ("b", "X")]),
        );
        check(
            "[[rule]]\nsource_labels = [\"a\"]\ntarget_label = \"b\"\naction = \"dropequal\"",
            &[("a", "x"), ("b", "x")],
            None,
        );
    }

    #[test]
    fn a_modulus_spreads_and_mistakes_are_named() {
        let rule = rules(
            "[[rule]]\nsource_labels = [\"a\"]\ntarget_label = \"m\"\nmodulus = 4\naction = \"hashmod\"",
        );
        let mut counts = [0; 4];
        for index in 0..4000 {
            let mut labels = LabelMap::from([("a".to_owned(), format!("host-{index}:9100"))]);
            assert!(apply(&rule, &mut labels));
            counts[labels["m"].parse::<usize>().unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        let problem = |toml: &str| toml::from_str::<RuleConfig>(toml).unwrap().rule().unwrap_err();
        assert!(problem("regex = \"(\"\ntarget_label = \"a\"").starts_with("regex"));
        assert!(problem("action = \"replace\"").contains("target_label"));
        assert!(problem("action = \"lower\"").contains("no action"));
    }
}
