//! Objects of other formats as events.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use tickstream_schema::table;

use super::Form;

/// The event of an object, in the form of `tickstream publish`.
///
/// # Errors
/// The reason why it is none.
pub fn event(form: Form, object: Value) -> Result<Value, String> {
    match form {
        Form::Json | Form::Csv | Form::Parquet | Form::CloudWatch => columns(object),
        Form::Focus => focus(object),
        Form::AdSpend => ad_spend(&object),
        Form::Sarif => sarif(&object),
        Form::CycloneDx => cyclonedx(&object),
    }
}

/// Names of columns that mean a field of the envelope.
const ENVELOPE: [(&str, &[&str]); 8] = [
    ("event_id", &["event_id", "uuid", "insert_id", "$insert_id"]),
    ("timestamp", &["timestamp", "time", "ts", "event_time", "sent_at"]),
    ("platform", &["platform"]),
    ("event_name", &["event_name", "event", "name"]),
    ("session_id", &["session_id", "$session_id"]),
    ("user_id", &["user_id", "distinct_id"]),
    ("anonymous_id", &["anonymous_id", "device_id"]),
    ("event_type", &["event_type"]),
];

/// Events as they are, or columns: those of the envelope by name, all others as properties.
fn columns(object: Value) -> Result<Value, String> {
    let Value::Object(mut object) = object else { return Err("no JSON object".to_owned()) };
    if let Some(Value::String(raw)) = object.get("raw_data")
        && let Ok(Value::Object(event)) = serde_json::from_str(raw)
    {
        return Ok(Value::Object(event));
    }
    let kind = object.get("event_type").and_then(Value::as_str);
    if kind.is_some_and(|kind| object.contains_key(kind) && table::EVENT_TYPE.values.contains(&kind)) {
        return Ok(Value::Object(object));
    }
    let mut event = Map::new();
    for (field, names) in ENVELOPE {
        if let Some(value) =
            names.iter().find_map(|name| object.remove(*name)).filter(|value| !value.is_null())
        {
            let value = if field == "timestamp" { Value::String(time(&value)?) } else { as_text(value) };
            event.insert(field.to_owned(), value);
        }
    }
    if let Some(kind) = event.insert("event_type".to_owned(), "custom".into()).filter(|kind| kind != "custom")
    {
        object.insert("event_type".to_owned(), kind);
    }
    event.insert("custom".to_owned(), json!({}));
    event.entry("platform").or_insert_with(|| "import".into());
    event.entry("event_name").or_insert_with(|| "imported".into());
    let map = |value: Option<Value>| match value {
        Some(Value::Object(map)) => map,
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or_default(),
        _ => Map::new(),
    };
    let (context, mut properties) = (map(object.remove("context")), map(object.remove("properties")));
    properties.extend(object.into_iter().filter(|(_, value)| !value.is_null()));
    for (field, map) in [("context", context), ("properties", properties)] {
        if !map.is_empty() {
            event.insert(field.to_owned(), Value::Object(map));
        }
    }
    Ok(Value::Object(event))
}

fn as_text(value: Value) -> Value {
    match value {
        Value::String(_) => value,
        other => Value::String(other.to_string()),
    }
}

/// A time as RFC 3339: of texts, or of seconds, milliseconds, microseconds or nanoseconds since 1970 by their size.
fn time(value: &Value) -> Result<String, String> {
    let shown = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Nanos, true);
    let text = match value {
        Value::String(text) => text.trim(),
        Value::Number(number) => return of_number(number.as_f64().unwrap_or_default()).map(shown),
        _ => return Err(format!("{value} is no time")),
    };
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(shown(time.to_utc()));
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f UTC"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Ok(shown(time.and_utc()));
        }
    }
    for format in ["%Y-%m-%d", "%m/%d/%Y"] {
        if let Ok(date) = NaiveDate::parse_from_str(text, format) {
            return Ok(shown(date.and_time(chrono::NaiveTime::MIN).and_utc()));
        }
    }
    match text.parse::<f64>() {
        Ok(number) => of_number(number).map(shown),
        Err(_) => Err(format!("{text:?} is no time")),
    }
}

fn of_number(number: f64) -> Result<DateTime<Utc>, String> {
    let ns = match number.abs() {
        size if size < 1e11 => number * 1e9,
        size if size < 1e14 => number * 1e6,
        size if size < 1e17 => number * 1e3,
        _ => number,
    };
    if !(0.0..9.2e18).contains(&ns) {
        return Err(format!("{number} is no time"));
    }
    Ok(DateTime::from_timestamp_nanos(ns as i64))
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().replace([',', ' '], "").parse().ok(),
        _ => None,
    }
}

/// A row of a FOCUS export. Its columns are the fields of `cost` in snake case; others are kept beside them.
fn focus(object: Value) -> Result<Value, String> {
    let Value::Object(object) = object else { return Err("no row".to_owned()) };
    let fields =
        table::MESSAGES.iter().find(|message| message.name == "Cost").map_or(&[][..], |cost| cost.fields);
    let (mut cost, mut others) = (Map::new(), Map::new());
    for (name, value) in object {
        let key = snake(&name);
        let Some(field) = fields.iter().find(|field| field.name == key) else {
            others.insert(name, value);
            continue;
        };
        let value = match field.rule {
            table::Rule::Number { .. } | table::Rule::AnyNumber => {
                json!(number(&value).ok_or_else(|| format!("{name} is no number: {value}"))?)
            }
            table::Rule::Time => Value::String(time(&value)?),
            table::Rule::Map | table::Rule::TypedMap => match &value {
                Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| json!({})),
                _ => value,
            },
            _ => as_text(value),
        };
        cost.insert(key, value);
    }
    if !others.is_empty() {
        cost.insert("columns".to_owned(), Value::Object(others));
    }
    let at = cost.get("charge_period_start").cloned().ok_or("ChargePeriodStart is missing")?;
    let provider = cost.get("provider_name").and_then(Value::as_str).unwrap_or("cloud").to_lowercase();
    let name = cost.get("service_name").and_then(Value::as_str).unwrap_or("cost").to_owned();
    Ok(envelope("cost", &at, &provider, &name, &Value::Object(cost)))
}

fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, char) in name.char_indices() {
        if char.is_ascii_uppercase()
            && index > 0
            && !name[..index].ends_with(|before: char| before.is_ascii_uppercase())
        {
            snake.push('_');
        }
        snake.push(char.to_ascii_lowercase());
    }
    snake
}

/// Spend of a campaign on a day, as a cost.
fn ad_spend(object: &Value) -> Result<Value, String> {
    let get = |names: &[&str]| {
        let cells = object.as_object()?.iter();
        let named = |name: &str| names.contains(&name.to_lowercase().replace([' ', '-'], "_").as_str());
        cells.clone().find(|(name, _)| named(name)).map(|(_, value)| value.clone())
    };
    let text = |names: &[&str], default: &str| {
        get(names).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_else(|| default.to_owned())
    };
    let spent = get(&["cost", "spend", "amount", "amount_spent"]).and_then(|value| number(&value));
    let spent = spent.ok_or("a column cost with a number is missing")?;
    let start = time(&get(&["date", "day"]).ok_or("a column date is missing")?)?;
    let day: DateTime<Utc> = start.parse().map_err(|_| "the date is no time".to_owned())?;
    let end = (day + chrono::Duration::days(1)).to_rfc3339_opts(SecondsFormat::Nanos, true);
    let source = text(&["source", "platform", "network", "publisher"], "ads");
    let campaign = text(&["campaign", "campaign_name"], "unknown");
    let mut columns = Map::new();
    for (name, names) in [
        ("impressions", &["impressions"][..]),
        ("clicks", &["clicks", "link_clicks"]),
        ("medium", &["medium"]),
        ("campaign_id", &["campaign_id"]),
    ] {
        if let Some(value) = get(names) {
            columns.insert(name.to_owned(), number(&value).map_or(value, |number| json!(number)));
        }
    }
    let cost = json!({
        "billed_cost": spent, "effective_cost": spent, "billing_currency": text(&["currency"], "USD").to_uppercase(),
        "charge_period_start": start, "charge_period_end": end, "charge_category": "Usage", "provider_name": source,
        "service_category": "Advertising", "service_name": source, "resource_id": campaign, "resource_type": "campaign",
        "columns": columns,
    });
    Ok(envelope("cost", &Value::String(start), "ads", "ad_spend", &cost))
}

fn sarif(object: &Value) -> Result<Value, String> {
    let (result, rule) = (&object["result"], &object["rule"]);
    let id = result["ruleId"].as_str().or(rule["id"].as_str()).ok_or("a result without ruleId")?;
    let place = &result["locations"][0]["physicalLocation"];
    let file = place["artifactLocation"]["uri"].as_str().unwrap_or_default();
    let line = place["region"]["startLine"].as_u64().unwrap_or_default();
    let print = result["fingerprints"].as_object().or(result["partialFingerprints"].as_object());
    let print = print.and_then(|prints| prints.values().next()).and_then(Value::as_str);
    let finding = print.map_or_else(|| format!("{id}:{file}:{line}"), str::to_owned);
    let score = number(&rule["properties"]["security-severity"]).filter(|score| (0.0..=10.0).contains(score));
    let severity = score.map(severity_of).unwrap_or(match result["level"].as_str() {
        Some("error") => "high",
        Some("note") => "low",
        Some("none") => "info",
        _ => "medium",
    });
    let is_suppressed = result["suppressions"].as_array().is_some_and(|list| !list.is_empty());
    let status = match result["baselineState"].as_str() {
        Some("absent") => "fixed",
        _ if result["kind"].as_str() == Some("pass") => "passed",
        _ if is_suppressed => "accepted",
        _ => "open",
    };
    let title = result["message"]["text"].as_str().unwrap_or(id);
    let mut body = json!({
        "finding_id": cut(&finding, 256), "status": status, "severity": severity, "category": "code",
        "title": cut(title, 512), "resource_id": cut(file, 256), "scanner": cut(object["tool"].as_str().unwrap_or_default(), 128),
    });
    put_score(&mut body, score);
    if id.starts_with("CVE-") {
        body["vulnerability_id"] = cut(id, 64).into();
    }
    Ok(envelope("finding", &seen(&object["time"]), "scanner", cut(id, 128), &body))
}

fn cyclonedx(object: &Value) -> Result<Value, String> {
    let vulnerability = &object["vulnerability"];
    let id = vulnerability["id"].as_str().ok_or("a vulnerability without id")?;
    let rating = vulnerability["ratings"].as_array().and_then(|ratings| {
        ratings.iter().max_by(|one, other| {
            number(&one["score"]).partial_cmp(&number(&other["score"])).unwrap_or(std::cmp::Ordering::Equal)
        })
    });
    let score =
        rating.and_then(|rating| number(&rating["score"])).filter(|score| (0.0..=10.0).contains(score));
    let named = rating.and_then(|rating| rating["severity"].as_str());
    let severity = match named {
        Some(known @ ("critical" | "high" | "medium" | "low" | "info")) => known,
        _ => score.map_or("medium", severity_of),
    };
    let status = match vulnerability["analysis"]["state"].as_str() {
        Some("resolved" | "resolved_with_pedigree") => "fixed",
        Some("false_positive" | "not_affected") => "false_positive",
        _ => "open",
    };
    let component = &object["component"];
    let package = component["purl"].as_str().or(component["name"].as_str()).or(object["reference"].as_str());
    let package = package.unwrap_or_default();
    let mut body = json!({
        "finding_id": cut(&format!("{id}:{package}"), 256), "status": status, "severity": severity,
        "category": "vulnerability", "vulnerability_id": cut(id, 64), "scanner": "cyclonedx",
        "title": cut(vulnerability["description"].as_str().unwrap_or(id), 512), "package": cut(package, 256),
        "package_version": cut(component["version"].as_str().unwrap_or_default(), 128),
        "resource_id": cut(object["subject"]["name"].as_str().unwrap_or_default(), 256),
    });
    put_score(&mut body, score);
    Ok(envelope("finding", &seen(&object["time"]), "scanner", cut(id, 128), &body))
}

fn put_score(body: &mut Value, score: Option<f64>) {
    if let Some(score) = score {
        body["score"] = json!(score);
    }
}

/// Severity by CVSS 3.1, section 5.
fn severity_of(score: f64) -> &'static str {
    match score {
        score if score >= 9.0 => "critical",
        score if score >= 7.0 => "high",
        score if score >= 4.0 => "medium",
        score if score > 0.0 => "low",
        _ => "info",
    }
}

/// Time of a document, or now.
fn seen(value: &Value) -> Value {
    let now = || Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
    Value::String(time(value).unwrap_or_else(|_| now()))
}

fn envelope(kind: &str, at: &Value, platform: &str, name: &str, body: &Value) -> Value {
    json!({"timestamp": at, "platform": cut(platform, 64), "event_type": kind, "event_name": cut(name, 128), kind: body})
}

/// A text of at most so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use tickstream_schema::json::parse_event;

    fn check(form: Form, object: Value) -> Value {
        let event = event(form, object).unwrap();
        parse_event(&event.to_string()).unwrap_or_else(|error| panic!("{event}: {error}"));
        event
    }

    #[test]
    fn columns_become_events_of_the_application() {
        let event = check(
            Form::Csv,
            json!({"time": "1795857234", "event": "signup", "distinct_id": "u-1", "plan": "pro", "n": 3}),
        );
        assert_eq!(event["timestamp"], "2026-11-28T09:13:54.000000000Z");
        assert_eq!((&event["event_name"], &event["user_id"]), (&json!("signup"), &json!("u-1")));
        assert_eq!(event["properties"], json!({"plan": "pro", "n": 3}));
        let raw = json!({"raw_data": "{\"event_type\":\"log\"}", "x": 1});
        assert_eq!(super::event(Form::Parquet, raw).unwrap(), json!({"event_type": "log"}));
        assert!(super::event(Form::Json, json!([1])).is_err());
        assert!(super::event(Form::Json, json!({"time": "soon"})).unwrap_err().contains("soon"));
    }

    #[test]
    fn costs_findings_and_ads_become_events() {
        let cost = check(
            Form::Focus,
            json!({"BilledCost": "1.25", "BillingCurrency": "USD", "ChargePeriodStart": "2026-11-01T00:00:00Z",
                   "ChargePeriodEnd": "2026-11-01T01:00:00Z", "ServiceName": "Compute", "SkuId": "a", "x_Extra": "y"}),
        );
        assert_eq!(cost["cost"]["billed_cost"], 1.25);
        assert_eq!(
            (&cost["cost"]["sku_id"], &cost["cost"]["columns"]["x_Extra"]),
            (&json!("a"), &json!("y"))
        );
        let ads = check(
            Form::AdSpend,
            json!({"Date": "2026-11-02", "Campaign": "autumn", "Cost": "1,200.50", "Clicks": "7"}),
        );
        assert_eq!(
            (&ads["cost"]["billed_cost"], &ads["cost"]["columns"]["clicks"]),
            (&json!(1200.5), &json!(7.0))
        );
        let finding = check(
            Form::Sarif,
            json!({"tool": "scan", "time": null, "rule": {"properties": {"security-severity": "9.8"}},
                   "result": {"ruleId": "R1", "level": "error", "message": {"text": "bad"}}}),
        );
        assert_eq!(
            (&finding["finding"]["severity"], &finding["finding"]["score"]),
            (&json!("critical"), &json!(9.8))
        );
        let finding = check(
            Form::CycloneDx,
            json!({"vulnerability": {"id": "CVE-2026-1", "ratings": [{"score": 5.0, "severity": "medium"}]},
                   "component": {"name": "lib", "version": "1.0"}, "reference": "r", "time": "2026-11-01T00:00:00Z"}),
        );
        assert_eq!(
            (&finding["finding"]["package"], &finding["finding"]["status"]),
            (&json!("lib"), &json!("open"))
        );
    }
}
