//! What the HTTP APIs of product analytics have in common: a body of free-form JSON objects, each an event.

mod posthog;
mod segment;
#[cfg(test)]
mod tests;

pub use posthog::PostHog;
pub use segment::Segment;

use serde_json::{Map, Value as Json};
use tickstream_client::events::{App, Campaign, DeviceInfo, Event, Page, Revenue};

use super::json::{maps, take_object, take_text};

/// Longest element of a batch, bytes: no event is larger.
const ELEMENT_BYTES_MAX: usize = 256 * 1024;

/// An element of a batch.
fn object(text: &str) -> Result<Map<String, Json>, String> {
    if text.len() > ELEMENT_BYTES_MAX {
        return Err(format!("it has {} bytes; at most {ELEMENT_BYTES_MAX} are taken", text.len()));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Moves what the schema has fields for out of a context, and gives the event the rest.
fn take_context(event: &mut Event, mut context: Map<String, Json>) {
    let mut app = take_object(&mut context, "app");
    let app = App {
        name: take_text(&mut app, "name").unwrap_or_default(),
        version: take_text(&mut app, "version").unwrap_or_default(),
        build: take_text(&mut app, "build").unwrap_or_default(),
        environment: String::new(),
    };
    event.app = Some(app).filter(|app| *app != App::default());
    let mut campaign = take_object(&mut context, "campaign");
    let campaign = Campaign {
        source: take_text(&mut campaign, "source").unwrap_or_default(),
        medium: take_text(&mut campaign, "medium").unwrap_or_default(),
        name: take_text(&mut campaign, "name").unwrap_or_default(),
        term: take_text(&mut campaign, "term").unwrap_or_default(),
        content: take_text(&mut campaign, "content").unwrap_or_default(),
        ..Campaign::default()
    };
    event.campaign = Some(campaign).filter(|campaign| *campaign != Campaign::default());
    let (mut device, mut os) = (take_object(&mut context, "device"), take_object(&mut context, "os"));
    let device = DeviceInfo {
        r#type: take_text(&mut device, "type").unwrap_or_default(),
        os: take_text(&mut os, "name").unwrap_or_default(),
        version: take_text(&mut os, "version").unwrap_or_default(),
        manufacturer: take_text(&mut device, "manufacturer").unwrap_or_default(),
        model: take_text(&mut device, "model").unwrap_or_default(),
        ..DeviceInfo::default()
    };
    event.device = Some(device).filter(|device| *device != DeviceInfo::default());
    take_page(event, take_object(&mut context, "page"));
    if let Some(id) = take_text(&mut context, "sessionId") {
        event.session_id = id;
    }
    (event.context, event.typed_context) = maps(context);
}

/// Moves address, referrer and title; what else stands in the object is dropped by no one: it goes to the properties.
fn take_page(event: &mut Event, mut page: Map<String, Json>) {
    let found = Page {
        url: take_text(&mut page, "url").unwrap_or_default(),
        referrer: take_text(&mut page, "referrer").unwrap_or_default(),
        title: take_text(&mut page, "title").unwrap_or_default(),
    };
    if found != Page::default() {
        event.page = Some(found);
    }
    // Path and search are parts of the address.
    page.remove("path");
    page.remove("search");
    let (texts, typed) = maps(page);
    event.properties.extend(texts.into_iter().map(|(key, value)| (format!("page.{key}"), value)));
    event.typed_properties.extend(typed.into_iter().map(|(key, value)| (format!("page.{key}"), value)));
}

/// Money in properties, where its currency is one; the properties stay.
fn revenue(properties: &Map<String, Json>) -> Option<Revenue> {
    let number = |key: &str| match properties.get(key)? {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    };
    let text = |key: &str| properties.get(key).and_then(Json::as_str);
    let amount = number("revenue").or_else(|| number("$revenue"))?;
    let currency = text("currency").unwrap_or("USD").to_ascii_uppercase();
    let is_currency = currency.len() == 3 && currency.bytes().all(|letter| letter.is_ascii_uppercase());
    is_currency.then(|| Revenue {
        amount: Some(amount),
        currency,
        order_id: text("order_id").unwrap_or_default().to_owned(),
        product_id: text("product_id").unwrap_or_default().to_owned(),
        quantity: number("quantity")
            .filter(|count| *count >= 0.0 && count.fract() == 0.0)
            .map(|count| count as u64),
    })
}
