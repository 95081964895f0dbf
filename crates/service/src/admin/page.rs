//! A page: one file with its script and its style, and the policy that holds it to them.

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use ring::digest;

use super::answer::{Answer, of_type};

/// A page that asks nobody but the server that it came from.
#[derive(Clone, Debug)]
pub struct Page {
    html: &'static str,
    policy: HeaderValue,
}

impl Page {
    /// A page with one element `script` and one `style`, neither with attributes.
    ///
    /// # Panics
    /// If it hasn't: a page is part of the program.
    pub fn new(html: &'static str) -> Self {
        let [script, style] = ["script", "style"].map(|tag| hash(content(html, tag)));
        // The page's own script, its own style, its own origin's figures, an icon that is part of it, and no way from a
        // string to markup or code. Whatever got into the page otherwise wouldn't run, nor be sent out.
        let policy = format!(
            "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
             trusted-types 'none'"
        );
        Self { html, policy: HeaderValue::try_from(policy).expect("ASCII") }
    }

    pub(super) fn answer(&self) -> Answer {
        let body = Bytes::from_static(self.html.as_bytes());
        let mut answer = of_type(StatusCode::OK, "text/html; charset=utf-8", body);
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        answer
    }
}

/// The text between an element's tags.
fn content<'a>(html: &'a str, tag: &str) -> &'a str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let begin = html.find(&open).map(|at| at + open.len()).expect("the page has the element");
    let end = html.find(&close).expect("the page ends the element");
    &html[begin..end]
}

/// The name of an inline script or style in a policy: CSP Level 3, section 2.3.1.
fn hash(content: &str) -> String {
    format!("sha256-{}", base64(digest::digest(&digest::SHA256, content.as_bytes()).as_ref()))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let digit = char::from(DIGITS[bits >> (18 - 6 * at) & 63]);
            text.push(if at <= three.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn the_policy_names_the_page_s_own_script_and_style() {
        let page = Page::new("<style>a{}</style><script>f()</script>");
        let policy = page.policy.to_str().unwrap();
        assert!(policy.contains(&format!("script-src '{}'", hash("f()"))), "{policy}");
        assert!(policy.contains(&format!("style-src '{}'", hash("a{}"))), "{policy}");
    }
}
