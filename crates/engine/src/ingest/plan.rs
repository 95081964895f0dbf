//! The schema's tables joined with the privacy rules, in the form that bytes are walked by.

use super::config::{PrivacyAction, PrivacyError, PrivacyRule};
use super::cursor::Wire;
use super::schema::{EVENT, MessageDef, Note, Rule};

/// A field of the schema, by its way from the event: a message that is used twice has two.
pub(crate) type FieldId = u16;

/// All that is known of events.
#[derive(Debug)]
pub(crate) struct Plan {
    nodes: Vec<Node>,
    fields: Vec<Field>,
    /// Each field's way from the event, for people and privacy rules.
    paths: Vec<Box<str>>,
    pub timestamp: FieldId,
    pub session_id: FieldId,
    pub span_end: FieldId,
    pub metric_value: FieldId,
}

/// One message, at one place.
#[derive(Debug)]
pub(crate) struct Node {
    /// Field by number; `NONE` where there is none.
    by_number: [FieldId; 32],
    /// Required fields, as bits by their number.
    pub required: u32,
}

/// One field, at one place.
#[derive(Debug)]
pub(crate) struct Field {
    pub rule: Rule,
    /// The message that it holds.
    pub child: u16,
    pub wire: Wire,
    pub noted: Option<Note>,
    pub is_required: bool,
    /// A privacy rule names it, or something in it.
    pub is_private: bool,
    pub privacy: Privacy,
}

/// What privacy rules say of a field.
#[derive(Debug, Default)]
pub(crate) struct Privacy {
    /// Of the field as a whole; of a map: of each value.
    pub whole: Option<PrivacyAction>,
    /// Of a map's entries, by key.
    pub entries: Vec<(Box<str>, PrivacyAction)>,
}

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
            timestamp: 0,
            session_id: 0,
            span_end: 0,
            metric_value: 0,
        };
        plan.add(&EVENT, "");
        let find = |plan: &Self, path: &str| plan.find(path).expect("a field of the schema");
        plan.timestamp = find(&plan, "timestamp");
        plan.session_id = find(&plan, "session_id");
        plan.span_end = find(&plan, "trace_span.end_time");
        plan.metric_value = find(&plan, "application_metric.value");
        for rule in rules {
            plan.apply(rule)?;
        }
        Ok(plan)
    }

    pub fn node(&self, index: u16) -> &Node {
        &self.nodes[usize::from(index)]
    }

    pub fn field(&self, id: FieldId) -> &Field {
        &self.fields[usize::from(id)]
    }

    /// How many fields there are.
    #[cfg(test)]
    pub fn len(&self) -> FieldId {
        self.fields.len() as FieldId
    }

    pub fn rule(&self, id: FieldId) -> Rule {
        self.field(id).rule
    }

    pub fn path(&self, id: FieldId) -> &str {
        &self.paths[usize::from(id)]
    }

    /// The field of message `node` with this number.
    #[inline]
    pub fn lookup(&self, node: &Node, number: u32) -> Option<(FieldId, &Field)> {
        let id = *node.by_number.get(number as usize)?;
        self.fields.get(usize::from(id)).map(|field| (id, field))
    }

    fn find(&self, path: &str) -> Option<FieldId> {
        self.paths.iter().position(|known| **known == *path).map(|index| index as FieldId)
    }

    fn add(&mut self, message: &'static MessageDef, prefix: &str) -> u16 {
        let index = self.nodes.len();
        self.nodes.push(Node { by_number: [NONE; 32], required: 0 });
        for def in message.fields {
            let id = self.fields.len();
            let path = format!("{prefix}{}", def.name);
            let wire = match def.rule {
                Rule::Unsigned { .. } | Rule::Choice { .. } => Wire::Varint,
                Rule::Time | Rule::Number { .. } => Wire::Fixed64,
                _ => Wire::Bytes,
            };
            self.fields.push(Field {
                rule: def.rule,
                child: 0,
                wire,
                noted: def.noted,
                is_required: def.required,
                is_private: false,
                privacy: Privacy::default(),
            });
            self.paths.push(path.clone().into());
            let node = &mut self.nodes[index];
            node.by_number[def.number as usize] = id as FieldId;
            node.required |= u32::from(def.required) << def.number;
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
        let privacy = &mut self.fields[usize::from(id)].privacy;
        match key {
            Some(key) if &*key != "*" => privacy.entries.push((key, rule.action)),
            _ => privacy.whole = Some(rule.action),
        }
        let path = self.paths[usize::from(id)].clone();
        for (field, around) in self.fields.iter_mut().zip(&self.paths) {
            let is_around =
                path.strip_prefix(&**around).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            field.is_private |= is_around;
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
            (matches!(self.rule(id), Rule::Map) && !key.is_empty()).then(|| (id, Some(key.into())))
        });
        maps.next().ok_or_else(|| PrivacyError::Path { path: path.to_owned() })
    }

    /// Whether the action makes sense there, and leaves what the server itself needs.
    fn allows(&self, id: FieldId, in_map: bool, action: PrivacyAction) -> bool {
        let field = self.field(id);
        if in_map {
            return true;
        }
        match (field.rule, action) {
            _ if matches!(field.noted, Some(Note::EventId | Note::Timestamp | Note::EventType)) => false,
            (_, PrivacyAction::Drop) => true,
            (Rule::Text { .. }, _) | (Rule::Address, _) => true,
            (Rule::Id { .. } | Rule::Blob { .. }, PrivacyAction::Hash) => true,
            (Rule::Map, _) => true,
            _ => false,
        }
    }
}
