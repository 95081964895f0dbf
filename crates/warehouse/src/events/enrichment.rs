//! Columns that are computed at load: country and city, device, system, browser, channel.
//!
//! The stored event stays as it came; what is computed from it has a version, and can be computed again.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use maxminddb::{MaxMindDbError, Reader, geoip2};
use serde::Deserialize;
use woothee::parser::Parser;

use crate::hash::HashMap;

use super::channel::{self, Source};
use super::protobuf::{Entry, Fields, Value};

/// Version of these computations. It rises when one of them changes, and when columns are promoted that rows of before lack.
pub const VERSION: i32 = 3;

/// Answers of each kind that are kept in memory.
const CACHE_MAX: usize = 65_536;

/// Numbers of fields in `proto/events.proto`; a test compares them.
pub(super) mod number {
    pub const DEVICE: u32 = 45;
    pub const CAMPAIGN: u32 = 46;
    pub const PAGE: u32 = 47;
    pub const SENDER: u32 = 49;
    pub const ACCESS: u32 = 30;

    pub const DEVICE_TYPE: u32 = 1;
    pub const DEVICE_OS: u32 = 2;
    pub const CAMPAIGN_SOURCE: u32 = 1;
    pub const CAMPAIGN_MEDIUM: u32 = 2;
    pub const CAMPAIGN_NAME: u32 = 3;
    pub const CAMPAIGN_CLICK_ID_TYPE: u32 = 8;
    pub const PAGE_URL: u32 = 1;
    pub const PAGE_REFERRER: u32 = 2;
    pub const SENDER_CLIENT_ADDRESS: u32 = 3;
    pub const SENDER_USER_AGENT: u32 = 4;
    pub const ACCESS_CLIENT_ADDRESS: u32 = 7;
}

/// Columns that enrichment fills, in the order of the table.
pub const COLUMNS: [&str; 6] = ["country", "city", "device_type", "os", "browser", "channel"];

/// A database of addresses that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("reading the database of addresses in {}", .path.display())]
pub struct GeoError {
    path: PathBuf,
    source: MaxMindDbError,
}

/// A database of addresses, for all that load and query.
#[derive(Clone, Default)]
pub struct Geo(Option<Arc<Reader<Vec<u8>>>>);

impl std::fmt::Debug for Geo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Geo").field(&self.0.is_some()).finish()
    }
}

impl Geo {
    /// Reads a file in MaxMind's format.
    ///
    /// # Errors
    /// If the file isn't one.
    pub fn read(path: &Path) -> Result<Self, GeoError> {
        let reader =
            Reader::open_readfile(path).map_err(|source| GeoError { path: path.to_owned(), source })?;
        Ok(Self(Some(Arc::new(reader))))
    }

    /// Takes the bytes of such a file.
    ///
    /// # Errors
    /// If they aren't one.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, MaxMindDbError> {
        Ok(Self(Some(Arc::new(Reader::from_source(bytes)?))))
    }
}

/// Values of [`COLUMNS`] for one event.
pub type Values = [Option<Arc<str>>; COLUMNS.len()];

/// Computes the columns of events.
pub struct Enrichment {
    geo: Geo,
    agents: HashMap<Box<[u8]>, Agent>,
    places: HashMap<Box<[u8]>, Place>,
    channels: HashMap<Box<[u8]>, Option<Arc<str>>>,
    /// Names that are shared between rows.
    names: HashMap<Box<[u8]>, Arc<str>>,
    parser: Parser,
    key: Vec<u8>,
}

impl std::fmt::Debug for Enrichment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrichment").field("geo", &self.geo).finish_non_exhaustive()
    }
}

#[derive(Clone, Default)]
struct Agent {
    device: Option<Arc<str>>,
    os: Option<Arc<str>>,
    browser: Option<Arc<str>>,
}

#[derive(Clone, Default)]
struct Place {
    country: Option<Arc<str>>,
    city: Option<Arc<str>>,
}

/// Facts of an event from which its columns are computed; empty where it has none.
#[derive(Clone, Copy, Default)]
pub(super) struct Facts<'a> {
    device: &'a [u8],
    os: &'a [u8],
    address: &'a [u8],
    /// Client of an access, which is somebody else than the service that reports it.
    accessing: &'a [u8],
    agent: &'a [u8],
    source: Source<'a>,
}

impl<'a> Facts<'a> {
    /// Takes what a field of the event says.
    #[inline]
    pub fn add(&mut self, number: u32, message: &'a [u8]) {
        if matches!(number, number::DEVICE..=number::PAGE | number::SENDER | number::ACCESS) {
            self.add_message(number, message);
        }
    }

    fn add_message(&mut self, number: u32, message: &'a [u8]) {
        let Self { device, os, address, accessing, agent, source } = self;
        each_text(message, |field, text| match (number, field) {
            (number::DEVICE, number::DEVICE_TYPE) => *device = text,
            (number::DEVICE, number::DEVICE_OS) => *os = text,
            (number::CAMPAIGN, number::CAMPAIGN_SOURCE) => source.source = text,
            (number::CAMPAIGN, number::CAMPAIGN_MEDIUM) => source.medium = text,
            (number::CAMPAIGN, number::CAMPAIGN_NAME) => source.campaign = text,
            (number::CAMPAIGN, number::CAMPAIGN_CLICK_ID_TYPE) => source.click_id_type = text,
            (number::PAGE, number::PAGE_URL) => source.url = text,
            (number::PAGE, number::PAGE_REFERRER) => source.referrer = text,
            (number::SENDER, number::SENDER_CLIENT_ADDRESS) => *address = text,
            (number::SENDER, number::SENDER_USER_AGENT) => *agent = text,
            (number::ACCESS, number::ACCESS_CLIENT_ADDRESS) => *accessing = text,
            _ => {}
        });
    }

    fn of_stored(stored: &'a Stored<'a>) -> Self {
        let Stored { device, campaign, page, sender, access } = stored;
        Self {
            device: device.r#type.as_bytes(),
            os: device.os.as_bytes(),
            address: sender.client_address.as_bytes(),
            accessing: access.client_address.as_bytes(),
            agent: sender.user_agent.as_bytes(),
            source: Source {
                source: campaign.source.as_bytes(),
                medium: campaign.medium.as_bytes(),
                campaign: campaign.name.as_bytes(),
                click_id_type: campaign.click_id_type.as_bytes(),
                url: page.url.as_bytes(),
                referrer: page.referrer.as_bytes(),
            },
        }
    }
}

/// Parts of a stored event that [`Facts`] come from.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored<'a> {
    #[serde(borrow)]
    device: StoredDevice<'a>,
    #[serde(borrow)]
    campaign: StoredCampaign<'a>,
    #[serde(borrow)]
    page: StoredPage<'a>,
    #[serde(borrow)]
    sender: StoredSender<'a>,
    #[serde(borrow)]
    access: StoredAccess<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredDevice<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    os: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredCampaign<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    medium: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    click_id_type: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredPage<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow)]
    referrer: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredSender<'a> {
    #[serde(borrow)]
    client_address: Cow<'a, str>,
    #[serde(borrow)]
    user_agent: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredAccess<'a> {
    #[serde(borrow)]
    client_address: Cow<'a, str>,
}

impl Enrichment {
    /// Enrichment by this database of addresses.
    pub fn new(geo: Geo) -> Self {
        Self {
            geo,
            agents: HashMap::default(),
            places: HashMap::default(),
            channels: HashMap::default(),
            names: HashMap::default(),
            parser: Parser::new(),
            key: Vec::new(),
        }
    }

    /// Computes the columns of an event that is stored as JSON; `None` if it isn't the JSON of an event.
    pub fn of_json(&mut self, json: &str) -> Option<Values> {
        let stored: Stored<'_> = serde_json::from_str(json).ok()?;
        Some(self.compute(&Facts::of_stored(&stored)))
    }

    /// True if addresses are looked up.
    pub fn knows_places(&self) -> bool {
        self.geo.0.is_some()
    }

    /// Computes the columns of the event with these facts.
    pub(super) fn compute(&mut self, facts: &Facts<'_>) -> Values {
        let place = self.place(if facts.accessing.is_empty() { facts.address } else { facts.accessing });
        let known = self.agent(facts.agent);
        let device = if facts.device.is_empty() { known.device } else { Some(self.name(facts.device)) };
        let os = if facts.os.is_empty() { known.os } else { Some(self.name(facts.os)) };
        let channel = self.channel(&facts.source);
        [place.country, place.city, device, os, known.browser, channel]
    }

    fn name(&mut self, text: &[u8]) -> Arc<str> {
        if let Some(name) = self.names.get(text) {
            return name.clone();
        }
        let name: Arc<str> = String::from_utf8_lossy(text).into();
        remember(&mut self.names, text, name.clone());
        name
    }

    fn place(&mut self, address: &[u8]) -> Place {
        let Some(reader) = self.geo.0.as_ref().filter(|_| !address.is_empty()) else {
            return Place::default();
        };
        if let Some(place) = self.places.get(address) {
            return place.clone();
        }
        let place = look_up(reader, address).unwrap_or_default();
        remember(&mut self.places, address, place.clone());
        place
    }

    fn agent(&mut self, text: &[u8]) -> Agent {
        if text.is_empty() {
            return Agent::default();
        }
        if let Some(agent) = self.agents.get(text) {
            return agent.clone();
        }
        let shown = String::from_utf8_lossy(text);
        let parsed = self.parser.parse(&shown);
        let known = |name: &str| Some(name).filter(|name| *name != "UNKNOWN").map(Arc::from);
        let agent = parsed.map_or_else(Agent::default, |found| Agent {
            device: known(device_of(found.category)),
            os: known(found.os),
            browser: known(found.name),
        });
        remember(&mut self.agents, text, agent.clone());
        agent
    }

    fn channel(&mut self, source: &Source<'_>) -> Option<Arc<str>> {
        if source.is_unknown() {
            return None;
        }
        let mut key = std::mem::take(&mut self.key);
        source.key(&mut key);
        let channel = match self.channels.get(key.as_slice()) {
            Some(channel) => channel.clone(),
            None => {
                let channel = Some(Arc::from(channel::of(source)));
                remember(&mut self.channels, &key, channel.clone());
                channel
            }
        };
        self.key = key;
        channel
    }
}

/// Devices by the words that the schema has for them.
fn device_of(category: &str) -> &str {
    match category {
        "pc" => "desktop",
        "smartphone" | "mobilephone" => "phone",
        "appliance" => "tv",
        other => other,
    }
}

fn remember<T>(known: &mut HashMap<Box<[u8]>, T>, key: &[u8], value: T) {
    if known.len() == CACHE_MAX {
        known.clear();
    }
    known.insert(key.into(), value);
}

fn look_up(reader: &Reader<Vec<u8>>, address: &[u8]) -> Option<Place> {
    let address: IpAddr = std::str::from_utf8(address).ok()?.parse().ok()?;
    let found: geoip2::City<'_> = reader.lookup(address).ok()?.decode().ok()??;
    Some(Place {
        country: found.country.iso_code.map(Arc::from),
        city: found.city.names.english.map(Arc::from),
    })
}

/// Hands the texts of a message to `take`. Bytes that are no message end it: the event itself was checked.
fn each_text<'a>(message: &'a [u8], mut take: impl FnMut(u32, &'a [u8])) {
    for entry in Fields::of(message).map_while(Result::ok) {
        if let Entry { number, value: Value::Bytes(text), .. } = entry {
            take(number, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::envelope::Envelope;
    use super::*;
    use tickstream_schema::events::{Campaign, DeviceInfo, Event, Message, Page, Sender};
    use tickstream_schema::json::write_event;

    fn check(event: &Event, expected: [Option<&str>; 6]) {
        let bytes = event.encode_to_vec();
        let mut enrichment = Enrichment::new(Geo::default());
        let found = enrichment.compute(&Envelope::of(&bytes).unwrap().facts);
        assert_eq!(found.each_ref().map(|value| value.as_deref()), expected);
        let mut json = Vec::new();
        write_event(event, &mut json);
        let json = String::from_utf8(json).unwrap();
        assert_eq!(enrichment.of_json(&json), Some(found), "{json}");
    }

    #[test]
    fn agents_devices_and_channels_become_columns() {
        check(&Event::default(), [None; 6]);
        let agent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) \
                     Chrome/120.0.0.0 Safari/537.36";
        let mut event = Event {
            sender: Some(Sender { user_agent: agent.into(), ..Sender::default() }),
            page: Some(Page {
                url: "https://shop.example/".into(),
                referrer: "https://www.google.com/".into(),
                ..Page::default()
            }),
            ..Event::default()
        };
        check(&event, [None, None, Some("desktop"), Some("Mac OSX"), Some("Chrome"), Some("Organic Search")]);
        // What the application says of itself is better than its agent.
        event.device = Some(DeviceInfo { r#type: "tv".into(), os: "Tizen".into(), ..DeviceInfo::default() });
        event.campaign = Some(Campaign { medium: "email".into(), ..Campaign::default() });
        check(&event, [None, None, Some("tv"), Some("Tizen"), Some("Chrome"), Some("Email")]);
    }
}
