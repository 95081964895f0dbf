//! The tables joined with the privacy rules, in the form that bytes are walked by.

use crate::cursor::Wire;
use crate::privacy_rule::{PrivacyAction, PrivacyError, PrivacyRule};
use crate::table::{EVENT, MAP_ENTRIES_MAX, MessageDef, Rule, TYPED_ENTRIES_MAX};

/// A field of the schema, by its way from the event: a message that is used twice has two.
pub type FieldId = u16;

/// The schema with privacy rules.
#[derive(Debug)]
pub struct Plan {
    nodes: Vec<Node>,
    fields: Vec<Field>,
    /// Each field's way from the event, for people and privacy rules.
    paths: Vec<Box<str>>,
    /// The bodies that need a session, as bits by their number.
    pub(crate) bodies_with_session: u64,
    pub(crate) timestamp: FieldId,
    pub(crate) session_id: FieldId,
    pub(crate) metric_value: FieldId,
}

/// One message, at one place.
#[derive(Debug)]
pub(crate) struct Node {
    /// Field by number; `NONE` where there is none.
    by_number: [FieldId; NUMBERS],
    /// Required fields, as bits by their number.
    pub required: u64,
    /// Maps of Values that complete a map of texts, as bits by their number.
    pub twins: u64,
}

/// One field, at one place. Small, since each field of each event is looked up: what few need is in `rest`.
#[derive(Debug)]
pub(crate) struct Field {
    pub rule: Rule,
    pub rest: Box<Rest>,
    /// Entries of a map or a list, at most; 0: the field comes once. A list of numbers counts by itself.
    pub entries_max: u32,
    /// The message that it holds.
    pub child: u16,
    pub wire: Wire,
    /// Of a map or list: its place among those of its message.
    pub counter: u8,
    pub noted: Option<Note>,
    pub is_required: bool,
    /// A privacy rule names it, or something in it.
    pub is_private: bool,
}

/// Rules of a field that few fields have.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Number of the field in whose presence it isn't required.
    pub required_unless: Option<u32>,
    /// Number of the map of texts that this map of Values completes.
    pub typed_of: Option<u32>,
    pub privacy: Privacy,
}

/// Privacy rules for a field.
#[derive(Debug, Default)]
pub(crate) struct Privacy {
    /// Of the field as a whole; of a map: of each value.
    pub whole: Option<PrivacyAction>,
    /// Of a map's entries, by key.
    pub entries: Vec<(Box<str>, PrivacyAction)>,
}

/// Values that rules between fields look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Note {
    EventId,
    Timestamp,
    EventType,
    MetricType,
    MetricValue,
    IntervalStart,
    IntervalEnd,
}

impl Note {
    /// Their number.
    pub const COUNT: usize = Self::IntervalEnd as usize + 1;
}

/// The fields that have a note. Of a body's interval, the end isn't before the start: an event has one body.
const NOTED: [(&str, Note); 11] = [
    ("event_id", Note::EventId),
    ("timestamp", Note::Timestamp),
    ("event_type", Note::EventType),
    ("application_metric.metric_type", Note::MetricType),
    ("application_metric.value", Note::MetricValue),
    ("trace_span.start_time", Note::IntervalStart),
    ("trace_span.end_time", Note::IntervalEnd),
    ("replay_chunk.start_time", Note::IntervalStart),
    ("replay_chunk.end_time", Note::IntervalEnd),
    ("cost.charge_period_start", Note::IntervalStart),
    ("cost.charge_period_end", Note::IntervalEnd),
];

/// The ends among [`NOTED`], by the number of the event's body.
pub(crate) const INTERVAL_ENDS: [&str; 3] =
    ["trace_span.end_time", "replay_chunk.end_time", "cost.charge_period_end"];

/// Above the number of every field.
const NUMBERS: usize = 64;
/// Maps and lists of one message, at most.
pub(crate) const COUNTERS: usize = 5;
const NONE: FieldId = FieldId::MAX;
/// The event itself.
pub(crate) const ROOT: u16 = 0;

impl Plan {
    /// The schema with these rules.
    ///
    /// # Errors
    /// If a rule names no field, or one to which it can't be applied.
    pub fn new(rules: &[PrivacyRule]) -> Result<Self, PrivacyError> {
        let mut plan = Self {
            nodes: Vec::new(),
            fields: Vec::new(),
            paths: Vec::new(),
            bodies_with_session: 0,
            timestamp: 0,
            session_id: 0,
            metric_value: 0,
        };
        plan.add(&EVENT, "");
        for (path, note) in NOTED {
            let id = plan.expect(path);
            plan.fields[usize::from(id)].noted = Some(note);
        }
        let with_session = EVENT.fields.iter().filter(|field| field.needs_session);
        plan.bodies_with_session = with_session.fold(0, |bits, field| bits | 1 << field.number);
        plan.timestamp = plan.expect("timestamp");
        plan.session_id = plan.expect("session_id");
        plan.metric_value = plan.expect("application_metric.value");
        for rule in rules {
            plan.apply(rule)?;
        }
        Ok(plan)
    }

    pub(crate) fn node(&self, index: u16) -> &Node {
        &self.nodes[usize::from(index)]
    }

    pub(crate) fn field(&self, id: FieldId) -> &Field {
        &self.fields[usize::from(id)]
    }

    /// Type and bounds of a field.
    pub fn rule(&self, id: FieldId) -> Rule {
        self.field(id).rule
    }

    /// The way from the event to a field, as privacy rules and rejections name it.
    pub fn path(&self, id: FieldId) -> &str {
        &self.paths[usize::from(id)]
    }

    /// Every field, in the order of the schema.
    pub fn ids(&self) -> impl Iterator<Item = FieldId> + use<> {
        0..self.fields.len() as FieldId
    }

    /// True if an event without the field is rejected.
    pub fn is_required(&self, id: FieldId) -> bool {
        self.field(id).is_required
    }

    /// The field of message `node` with this number.
    #[inline]
    pub(crate) fn lookup(&self, node: &Node, number: u32) -> Option<(FieldId, &Field)> {
        let id = *node.by_number.get(number as usize)?;
        self.fields.get(usize::from(id)).map(|field| (id, field))
    }

    pub(crate) fn find(&self, path: &str) -> Option<FieldId> {
        self.paths.iter().position(|known| **known == *path).map(|index| index as FieldId)
    }

    fn expect(&self, path: &str) -> FieldId {
        self.find(path).expect("a field of the schema")
    }

    fn add(&mut self, message: &'static MessageDef, prefix: &str) -> u16 {
        let index = self.nodes.len();
        self.nodes.push(Node { by_number: [NONE; NUMBERS], required: 0, twins: 0 });
        let mut counters = 0;
        for def in message.fields {
            let id = self.fields.len();
            // Both maps are one for people, and for rules.
            let twin =
                def.typed_of.and_then(|number| message.fields.iter().find(|field| field.number == number));
            let path = format!("{prefix}{}", twin.unwrap_or(def).name);
            let wire = wire_of(def.rule);
            let counter = counters;
            let is_list = matches!(
                def.rule,
                Rule::Map
                    | Rule::TypedMap
                    | Rule::List { .. }
                    | Rule::Texts { .. }
                    | Rule::Numbers { .. }
                    | Rule::Counts { .. }
            );
            counters += u8::from(is_list);
            assert!(
                usize::from(counters) <= COUNTERS,
                "{}: more maps and lists than are counted",
                message.name
            );
            self.fields.push(Field {
                rule: def.rule,
                rest: Box::new(Rest {
                    required_unless: def.required_unless,
                    typed_of: def.typed_of,
                    privacy: Privacy::default(),
                }),
                entries_max: entries_max(def.rule),
                child: 0,
                wire,
                counter,
                noted: None,
                is_required: def.required,
                is_private: false,
            });
            self.paths.push(path.clone().into());
            let node = &mut self.nodes[index];
            node.by_number[def.number as usize] = id as FieldId;
            node.required |= u64::from(def.required) << def.number;
            node.twins |= u64::from(twin.is_some()) << def.number;
            if let Rule::Message(of) | Rule::List { of, .. } = def.rule {
                self.fields[id].child = self.add(of, &format!("{path}."));
            }
        }
        index as u16
    }

    /// Notes a rule at its field, and at the fields around it that there is one inside.
    fn apply(&mut self, rule: &PrivacyRule) -> Result<(), PrivacyError> {
        let (id, key) = self.resolve(&rule.path)?;
        if !self.allows(id, key.is_some(), rule.action) {
            return Err(PrivacyError::Action { path: rule.path.clone(), action: rule.action });
        }
        let path = self.paths[usize::from(id)].clone();
        for (field, around) in self.fields.iter_mut().zip(&self.paths) {
            let Some(rest) = path.strip_prefix(&**around) else { continue };
            field.is_private |= rest.is_empty() || rest.starts_with('.');
            if rest.is_empty() {
                match &key {
                    Some(key) if &**key != "*" => field.rest.privacy.entries.push((key.clone(), rule.action)),
                    _ => field.rest.privacy.whole = Some(rule.action),
                }
            }
        }
        Ok(())
    }

    /// The field that a path names, and the key in it, where it is a map's.
    fn resolve(&self, path: &str) -> Result<(FieldId, Option<Box<str>>), PrivacyError> {
        if let Some(id) = self.find(path) {
            return Ok((id, None));
        }
        let cuts = path.match_indices('.').map(|(at, _)| (&path[..at], &path[at + 1..]));
        let mut maps = cuts.filter_map(|(front, key)| {
            let id = self.find(front)?;
            let has_keys = matches!(self.rule(id), Rule::Map | Rule::TypedMap | Rule::Value);
            (has_keys && !key.is_empty()).then(|| (id, Some(key.into())))
        });
        maps.next().ok_or_else(|| PrivacyError::Path { path: path.to_owned() })
    }

    /// True if the action makes sense there, and leaves fields that the server itself needs.
    fn allows(&self, id: FieldId, in_map: bool, action: PrivacyAction) -> bool {
        let field = self.field(id);
        if in_map {
            return true;
        }
        match (field.rule, action) {
            _ if matches!(field.noted, Some(Note::EventId | Note::Timestamp | Note::EventType)) => false,
            (_, PrivacyAction::Drop) => true,
            (Rule::Text { .. } | Rule::Address, _) => true,
            (Rule::Id { .. } | Rule::Blob { .. }, PrivacyAction::Hash) => true,
            (Rule::Map | Rule::TypedMap | Rule::Value, _) => true,
            _ => false,
        }
    }
}

impl Field {
    /// A list of numbers, which may come packed or one by one.
    pub fn is_packed(&self) -> bool {
        matches!(self.rule, Rule::Numbers { .. } | Rule::Counts { .. })
    }
}

fn wire_of(rule: Rule) -> Wire {
    match rule {
        // No field has it: what has two layouts is looked at apart from all others.
        Rule::Numbers { .. } | Rule::Counts { .. } => Wire::GroupEnd,
        Rule::Unsigned { .. } | Rule::Signed { .. } | Rule::Flag | Rule::Choice(_) => Wire::Varint,
        Rule::Time | Rule::Number { .. } | Rule::AnyNumber => Wire::Fixed64,
        _ => Wire::Bytes,
    }
}

/// Entries of a map or a list, at most; 0: the field is neither, or a list of numbers.
fn entries_max(rule: Rule) -> u32 {
    match rule {
        Rule::Map => MAP_ENTRIES_MAX,
        Rule::TypedMap => TYPED_ENTRIES_MAX,
        Rule::List { max, .. } | Rule::Texts { items: max, .. } => max,
        _ => 0,
    }
}
