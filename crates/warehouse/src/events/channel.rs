//! The channel that brought a visitor, by campaign parameters and referrer.
//!
//! The rules are those of the "default channel group" that other analytics publish, first match wins; the names of
//! sites are a short list of our own.

/// Facts of a visitor's way here. Texts may be empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'a> {
    /// utm_source.
    pub source: &'a [u8],
    /// utm_medium.
    pub medium: &'a [u8],
    /// utm_campaign.
    pub campaign: &'a [u8],
    /// Name of a click id, such as `gclid`.
    pub click_id_type: &'a [u8],
    /// Address of the page, whose parameters count where the campaign says nothing.
    pub url: &'a [u8],
    /// Address of the page before it.
    pub referrer: &'a [u8],
}

impl Source<'_> {
    /// True if nothing at all is known: the event has no page and no campaign.
    pub fn is_unknown(&self) -> bool {
        [self.source, self.medium, self.campaign, self.click_id_type, self.url, self.referrer]
            .iter()
            .all(|text| text.is_empty())
    }

    /// Facts that decide, as bytes: the path of a page isn't among them.
    pub fn key(&self, key: &mut Vec<u8>) {
        key.clear();
        let query = self.url.iter().position(|byte| *byte == b'?').map_or(&b""[..], |at| &self.url[at..]);
        let parts = [
            self.source,
            self.medium,
            self.campaign,
            self.click_id_type,
            host(self.referrer),
            host(self.url),
            query,
        ];
        for part in parts {
            key.extend_from_slice(part);
            key.push(0);
        }
    }
}

const SEARCH: [&str; 12] = [
    "google",
    "bing",
    "duckduckgo",
    "yahoo",
    "baidu",
    "yandex",
    "ecosia",
    "qwant",
    "naver",
    "startpage",
    "brave",
    "seznam",
];
const SOCIAL: [&str; 16] = [
    "facebook",
    "instagram",
    "twitter",
    "x.com",
    "t.co",
    "linkedin",
    "lnkd",
    "pinterest",
    "reddit",
    "tiktok",
    "mastodon",
    "bsky",
    "threads",
    "vk.com",
    "weibo",
    "snapchat",
];
const VIDEO: [&str; 5] = ["youtube", "youtu.be", "vimeo", "twitch", "dailymotion"];
const ASSISTANTS: [&str; 5] = ["chatgpt", "openai", "perplexity", "claude.ai", "gemini"];
const PAID_CLICKS: [&str; 8] = ["gclid", "gbraid", "wbraid", "msclkid", "dclid", "fbclid", "ttclid", "yclid"];
const PAID_MEDIA: [&str; 8] = ["cpc", "ppc", "cpm", "cpv", "cpa", "retargeting", "paid", "paidsearch"];

/// Channel of a visitor.
pub fn of(source: &Source<'_>) -> &'static str {
    let parameter = |given: &[u8], name: &str| {
        if given.is_empty() { parameter(source.url, name) } else { lower(given) }
    };
    let origin = parameter(source.source, "utm_source");
    let medium = parameter(source.medium, "utm_medium");
    let campaign = parameter(source.campaign, "utm_campaign");
    let click = if source.click_id_type.is_empty() {
        PAID_CLICKS
            .iter()
            .find(|name| !parameter_bytes(source.url, name).is_empty())
            .map_or("", |name| name)
            .to_owned()
    } else {
        lower(source.click_id_type)
    };
    let referrer = lower(host(source.referrer));
    let is_own = !referrer.is_empty() && referrer == lower(host(source.url));
    let site = if origin.is_empty() && !is_own { referrer.as_str() } else { origin.as_str() };
    let is_in = |names: &[&str]| names.iter().any(|name| site.contains(name));
    let is_paid = PAID_CLICKS.contains(&click.as_str()) && click != "fbclid"
        || PAID_MEDIA.iter().any(|paid| medium == *paid || medium.starts_with("paid"));
    if medium.contains("email") || medium == "e-mail" || origin == "newsletter" {
        return "Email";
    }
    if medium == "affiliate" || medium == "affiliates" {
        return "Affiliates";
    }
    if is_paid {
        return match () {
            () if is_in(&SOCIAL) || click == "ttclid" => "Paid Social",
            () if is_in(&VIDEO) => "Paid Video",
            () if is_in(&SEARCH)
                || ["gclid", "gbraid", "wbraid", "msclkid", "yclid"].contains(&click.as_str()) =>
            {
                "Paid Search"
            }
            () => "Paid Other",
        };
    }
    match medium.as_str() {
        "display" | "banner" | "expandable" | "interstitial" => return "Display",
        "sms" => return "SMS",
        "push" | "notification" => return "Push",
        "audio" => return "Audio",
        "social" | "social-network" | "social-media" | "sm" => return "Organic Social",
        "video" => return "Organic Video",
        "organic" => return "Organic Search",
        "referral" | "link" | "app" => return "Referral",
        _ => {}
    }
    match () {
        () if is_in(&ASSISTANTS) => "Assistant",
        () if is_in(&VIDEO) => "Organic Video",
        () if is_in(&SOCIAL) || click == "fbclid" => "Organic Social",
        () if is_in(&SEARCH) => "Organic Search",
        () if !origin.is_empty() || !medium.is_empty() || !campaign.is_empty() => "Campaign",
        () if !referrer.is_empty() && !is_own => "Referral",
        () if is_own => "Internal",
        () => "Direct",
    }
}

/// Host of an address, without `www.`.
fn host(url: &[u8]) -> &[u8] {
    let rest = url.windows(3).position(|part| part == b"://").map_or(&b""[..], |at| &url[at + 3..]);
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b':')).unwrap_or(rest.len());
    let host = &rest[..end];
    host.strip_prefix(b"www.").unwrap_or(host)
}

fn parameter(url: &[u8], name: &str) -> String {
    lower(parameter_bytes(url, name))
}

fn parameter_bytes<'a>(url: &'a [u8], name: &str) -> &'a [u8] {
    let Some(at) = url.iter().position(|byte| *byte == b'?') else { return b"" };
    let query = url[at + 1..].split(|byte| *byte == b'#').next().unwrap_or_default();
    let pairs = query.split(|byte| *byte == b'&');
    pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next().unwrap_or_default()
}

fn lower(text: &[u8]) -> String {
    String::from_utf8_lossy(text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, referrer: &str, medium: &str, source: &str, expected: &str) {
        let known = Source {
            url: url.as_bytes(),
            referrer: referrer.as_bytes(),
            medium: medium.as_bytes(),
            source: source.as_bytes(),
            ..Source::default()
        };
        assert_eq!(of(&known), expected, "{url} {referrer} {medium} {source}");
    }

    #[test]
    fn channels_follow_campaign_then_referrer() {
        check("https://shop.example/", "", "", "", "Direct");
        check("https://shop.example/a", "https://shop.example/b", "", "", "Internal");
        check("https://shop.example/", "https://blog.example/x", "", "", "Referral");
        check("https://shop.example/", "https://www.google.de/", "", "", "Organic Search");
        check("https://shop.example/?gclid=1", "https://www.google.de/", "", "", "Paid Search");
        check("https://shop.example/?utm_source=bing&utm_medium=CPC", "", "", "", "Paid Search");
        check("https://shop.example/?utm_medium=email&utm_source=x#y", "", "", "", "Email");
        check("https://shop.example/?fbclid=1", "", "", "", "Organic Social");
        check("https://shop.example/", "https://t.co/x", "", "", "Organic Social");
        check("", "", "cpc", "facebook", "Paid Social");
        check("", "", "affiliate", "partner", "Affiliates");
        check("", "", "display", "x", "Display");
        check("", "", "", "partner-site", "Campaign");
        check("https://shop.example/", "https://chatgpt.com/", "", "", "Assistant");
        check("https://shop.example/", "https://www.youtube.com/watch", "", "", "Organic Video");
    }
}
