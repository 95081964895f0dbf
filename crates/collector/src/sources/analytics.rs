//! Common part of the HTTP APIs of product analytics: a body of free-form JSON objects, each an event.

mod posthog;
mod posthog_settings;
mod segment;
#[cfg(test)]
mod tests;

pub use posthog::PostHog;
pub use posthog_settings::PostHogSettings;
pub use segment::Segment;

use serde_json::{Map, Value as Json};
use tickstream_client::events::{App, Campaign, DeviceInfo, Event, Page, Revenue};

use super::json::{maps, parse, take_object, take_text};

/// Longest element of a batch, bytes: no event is larger.
const ELEMENT_BYTES_MAX: usize = 256 * 1024;

/// An element of a batch.
fn object(text: &str) -> Result<Map<String, Json>, String> {
    if text.len() > ELEMENT_BYTES_MAX {
        return Err(format!("it has {} bytes; at most {ELEMENT_BYTES_MAX} are taken", text.len()));
    }
    parse(text)
}

/// Moves what the schema has fields for out of a context, and gives the event the rest.
fn take_context(event: &mut Event, mut context: Map<String, Json>) {
    let mut rest_of_app = take_object(&mut context, "app");
    let app = App {
        name: take_text(&mut rest_of_app, "name").unwrap_or_default(),
        version: take_text(&mut rest_of_app, "version").unwrap_or_default(),
        build: take_text(&mut rest_of_app, "build").unwrap_or_default(),
        environment: String::new(),
    };
    put_back(&mut context, "app", rest_of_app);
    event.app = Some(app).filter(|app| *app != App::default());
    take_campaign(event, &mut context);
    let (mut device, mut os) = (take_object(&mut context, "device"), take_object(&mut context, "os"));
    let info = DeviceInfo {
        r#type: take_text(&mut device, "type").unwrap_or_default(),
        os: take_text(&mut os, "name").unwrap_or_default(),
        version: take_text(&mut os, "version").unwrap_or_default(),
        manufacturer: take_text(&mut device, "manufacturer").unwrap_or_default(),
        model: take_text(&mut device, "model").unwrap_or_default(),
        ..DeviceInfo::default()
    };
    event.device = Some(info).filter(|info| *info != DeviceInfo::default());
    put_back(&mut context, "device", device);
    put_back(&mut context, "os", os);
    take_page(event, take_object(&mut context, "page"));
    if let Some(id) = take_text(&mut context, "sessionId") {
        event.session_id = id;
    }
    (event.context, event.typed_context) = maps(context);
}

fn take_campaign(event: &mut Event, context: &mut Map<String, Json>) {
    let mut rest = take_object(context, "campaign");
    let campaign = Campaign {
        source: take_text(&mut rest, "source").unwrap_or_default(),
        medium: take_text(&mut rest, "medium").unwrap_or_default(),
        name: take_text(&mut rest, "name").unwrap_or_default(),
        term: take_text(&mut rest, "term").unwrap_or_default(),
        content: take_text(&mut rest, "content").unwrap_or_default(),
        ..Campaign::default()
    };
    event.campaign = Some(campaign).filter(|campaign| *campaign != Campaign::default());
    put_back(context, "campaign", rest);
}

/// Gives an object back what the schema has no field for.
fn put_back(object: &mut Map<String, Json>, key: &str, rest: Map<String, Json>) {
    if !rest.is_empty() {
        object.insert(key.to_owned(), Json::Object(rest));
    }
}

/// Keeps the members of a call that nothing else has taken, in the context; empty objects say nothing.
fn keep_rest(event: &mut Event, mut call: Map<String, Json>, known: &[&str]) {
    known.iter().for_each(|key| _ = call.remove(*key));
    call.retain(|_, value| !matches!(value, Json::Object(object) if object.is_empty()));
    let (texts, typed) = maps(call);
    for (key, text) in texts {
        if !event.typed_context.contains_key(&key) {
            event.context.entry(key).or_insert(text);
        }
    }
    for (key, value) in typed {
        if !event.context.contains_key(&key) {
            event.typed_context.entry(key).or_insert(value);
        }
    }
}

/// Moves address, referrer and title; what else stands in the object goes to the properties.
fn take_page(event: &mut Event, mut page: Map<String, Json>) {
    let found = Page {
        url: take_text(&mut page, "url").unwrap_or_default(),
        referrer: take_text(&mut page, "referrer").unwrap_or_default(),
        title: take_text(&mut page, "title").unwrap_or_default(),
    };
    if found != Page::default() {
        event.page = Some(found);
    }
    // Path and search are parts of the address, where it is there.
    let url = event.page.as_ref().map(|page| page.url.clone()).unwrap_or_default();
    for part in ["path", "search"] {
        if page.get(part).and_then(Json::as_str).is_some_and(|text| url.contains(text)) {
            page.remove(part);
        }
    }
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
