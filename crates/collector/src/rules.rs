//! Rules for events before they are stored: `[[rule]]` of the configuration file. A small table, not a language: what an
//! event has to be, and what becomes of it then.

mod fields;
mod sampling;

use std::collections::BTreeMap;

use serde::Deserialize;
use tickstream_client::events::{Event, EventType, LogLevel};

use crate::patterns::fits;

/// Name of the table.
pub const TABLE: &str = "rule";

/// A rule, as the configuration has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    source: Option<String>,
    kind: Option<String>,
    service: Option<String>,
    name: Option<String>,
    level_below: Option<String>,
    #[serde(default)]
    fields: BTreeMap<String, String>,
    #[serde(default)]
    drop: bool,
    keep_ratio: Option<f64>,
    #[serde(default)]
    rename: BTreeMap<String, String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// Rules in their order.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    source: Option<String>,
    kind: Option<EventType>,
    service: Option<String>,
    name: Option<String>,
    level_below: Option<LogLevel>,
    fields: Vec<(String, String)>,
    effect: Effect,
}

#[derive(Clone, Debug)]
enum Effect {
    Drop,
    Sample(f64),
    Change { rename: Vec<(String, String)>, remove: Vec<String> },
}

impl Rules {
    /// Of the table.
    ///
    /// # Errors
    /// The fault and its rule, for people.
    pub fn new(configs: &[RuleConfig]) -> Result<Self, String> {
        let rule = |(at, config): (usize, &RuleConfig)| {
            config.rule().map_err(|problem| format!("[[rule]] {}: {problem}", at + 1))
        };
        Ok(Self(configs.iter().enumerate().map(rule).collect::<Result<_, _>>()?))
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies them to an event of this source. False: it isn't to be stored.
    pub fn apply(&self, source: &str, event: &mut Event) -> bool {
        self.0.iter().all(|rule| {
            !rule.concerns(source, event)
                || match &rule.effect {
                    Effect::Drop => false,
                    Effect::Sample(ratio) => sampling::keeps(event, *ratio),
                    Effect::Change { rename, remove } => {
                        fields::change(event, rename, remove);
                        true
                    }
                }
        })
    }
}

impl RuleConfig {
    fn rule(&self) -> Result<Rule, String> {
        let effect = match (self.drop, self.keep_ratio, self.rename.is_empty() && self.remove.is_empty()) {
            (true, None, true) => Effect::Drop,
            (false, Some(ratio), true) if (0.0..=1.0).contains(&ratio) => Effect::Sample(ratio),
            (false, Some(_), true) => return Err("keep_ratio is from 0 to 1".to_owned()),
            (false, None, false) => Effect::Change {
                rename: self.rename.clone().into_iter().collect(),
                remove: self.remove.clone(),
            },
            _ => return Err("it needs one of drop, keep_ratio, and rename or remove".to_owned()),
        };
        let kind = self.kind.as_deref().map(|name| {
            EventType::from_str_name(&format!("EVENT_TYPE_{}", name.to_ascii_uppercase()))
                .filter(|kind| *kind != EventType::Unspecified)
                .ok_or_else(|| format!("there is no kind \"{name}\""))
        });
        let level = self.level_below.as_deref().map(|name| {
            LogLevel::from_str_name(&format!("LOG_LEVEL_{}", name.to_ascii_uppercase()))
                .filter(|level| *level != LogLevel::Unspecified)
                .ok_or_else(|| format!("there is no level \"{name}\""))
        });
        Ok(Rule {
            source: self.source.clone(),
            kind: kind.transpose()?,
            service: self.service.clone(),
            name: self.name.clone(),
            level_below: level.transpose()?,
            fields: self.fields.clone().into_iter().collect(),
            effect,
        })
    }
}

impl Rule {
    fn concerns(&self, source: &str, event: &Event) -> bool {
        let is_like = |pattern: &Option<String>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| fits(pattern.as_bytes(), text.as_bytes()))
        };
        self.source.as_deref().is_none_or(|wanted| wanted == source)
            && self.kind.is_none_or(|kind| kind as i32 == event.event_type)
            && is_like(&self.name, &event.event_name)
            && is_like(&self.service, fields::service(event))
            && self
                .level_below
                .is_none_or(|below| fields::level(event).is_some_and(|level| rank(level) < rank(below)))
            && self.fields.iter().all(|(key, pattern)| {
                fields::text(event, key).is_some_and(|text| fits(pattern.as_bytes(), text.as_bytes()))
            })
    }
}

/// Levels by their severity, which their numbers aren't: TRACE came last.
fn rank(level: LogLevel) -> i32 {
    if level == LogLevel::Trace { 0 } else { level as i32 }
}

#[cfg(test)]
mod tests {
    use tickstream_client::events::{Body, Kind, Log, SpanAttributes, TraceSpan, Value};

    use super::*;

    fn rules(toml: &str) -> Result<Rules, String> {
        #[derive(Deserialize)]
        struct File {
            rule: Vec<RuleConfig>,
        }
        let file: File = toml::from_str(toml).map_err(|error| error.to_string())?;
        Rules::new(&file.rule)
    }

    fn log(service: &str, level: LogLevel, key: &str, value: &str) -> Event {
        let mut log = Log { service: service.into(), level: level.into(), ..Log::default() };
        log.metadata.insert(key.into(), value.into());
        Event { event_type: EventType::Log.into(), body: Some(Body::Log(log)), ..Event::default() }
    }

    #[test]
    fn what_is_unwanted_is_dropped() {
        let rules = rules(
            "[[rule]]\nkind = \"log\"\nservice = \"shop-*\"\nlevel_below = \"info\"\ndrop = true\n\
             [[rule]]\nsource = \"otlp\"\nfields = { path = \"/health*\" }\ndrop = true",
        )
        .unwrap();
        let check = |source: &str, mut event: Event| rules.apply(source, &mut event);
        assert!(!check("otlp", log("shop-a", LogLevel::Debug, "a", "b")));
        assert!(check("otlp", log("shop-a", LogLevel::Info, "a", "b")));
        assert!(check("otlp", log("other", LogLevel::Trace, "a", "b")));
        assert!(!check("otlp", log("other", LogLevel::Error, "path", "/healthz")));
        assert!(check("fluent", log("other", LogLevel::Error, "path", "/healthz")));
    }

    #[test]
    fn keys_are_renamed_and_removed_wherever_they_stand() {
        let rules = rules("[[rule]]\nrename = { old = \"new\", n = \"m\" }\nremove = [\"secret\"]").unwrap();
        let mut event = log("s", LogLevel::Info, "old", "1");
        event.properties.insert("secret".into(), "x".into());
        let span = SpanAttributes {
            typed_other: [("n".to_owned(), Value { kind: Some(Kind::Integer(5)) })].into(),
            ..SpanAttributes::default()
        };
        assert!(rules.apply("x", &mut event));
        assert!(event.properties.is_empty());
        let Some(Body::Log(found)) = &event.body else { panic!() };
        assert_eq!((found.metadata.get("old"), &found.metadata["new"][..]), (None, "1"));
        let body = Some(Body::TraceSpan(TraceSpan { attributes: Some(span), ..TraceSpan::default() }));
        let mut event = Event { body, ..Event::default() };
        assert!(rules.apply("x", &mut event));
        let Some(Body::TraceSpan(TraceSpan { attributes: Some(found), .. })) = &event.body else { panic!() };
        assert_eq!(found.typed_other.keys().collect::<Vec<_>>(), ["m"]);
    }

    #[test]
    fn all_of_a_trace_or_a_session_is_kept_or_none() {
        let rules = rules("[[rule]]\nkeep_ratio = 0.25").unwrap();
        let mut kept = 0;
        for index in 0..4000_u128 {
            let trace_id =
                (index.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)).to_be_bytes().to_vec();
            let mut span = Event {
                event_id: vec![1; 16],
                body: Some(Body::TraceSpan(TraceSpan { trace_id, ..TraceSpan::default() })),
                ..Event::default()
            };
            let is_kept = rules.apply("otlp", &mut span);
            assert_eq!(rules.apply("otlp", &mut span), is_kept);
            kept += usize::from(is_kept);
            let session =
                |id: u8| Event { session_id: index.to_string(), event_id: vec![id; 16], ..Event::default() };
            assert_eq!(
                rules.apply("x", &mut session(1)),
                rules.apply("x", &mut session(2)),
                "by the session"
            );
        }
        assert!((900..1100).contains(&kept), "{kept}");
    }

    #[test]
    fn mistakes_are_named() {
        for (toml, expected) in [
            ("[[rule]]\nkind = \"log\"", "[[rule]] 1: it needs one of"),
            ("[[rule]]\ndrop = true\nkeep_ratio = 0.5", "it needs one of"),
            ("[[rule]]\nkeep_ratio = 1.5", "from 0 to 1"),
            ("[[rule]]\ndrop = true\n[[rule]]\nkind = \"logs\"\ndrop = true", "[[rule]] 2: there is no kind"),
            ("[[rule]]\nlevel_below = \"loud\"\ndrop = true", "no level"),
            ("[[rule]]\ndelete = true", "unknown field"),
        ] {
            assert!(rules(toml).unwrap_err().contains(expected), "{toml}");
        }
    }
}
