//! The live page at `/`: one file, which reads `/snapshot` each second, and the policy that holds it to that.

use std::sync::LazyLock;

use hyper::header::HeaderValue;
use ring::digest;

/// The page. It asks nobody but the server that it came from, and shows what others sent as text alone.
pub const PAGE: &str = include_str!("page.html");

/// Its Content-Security-Policy: the page's own script, its own style, its own origin's figures, an icon that is part of
/// it, and no way from a string to markup or code. Whatever got into the page otherwise wouldn't run, nor be sent out.
pub static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let [script, style] = ["script", "style"].map(|tag| hash(content(tag)));
    let policy = format!(
        "default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'"
    );
    HeaderValue::try_from(policy).expect("ASCII")
});

/// What is between an element's tags. The page has one of each.
fn content(tag: &str) -> &'static str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let begin = PAGE.find(&open).map(|at| at + open.len()).expect("a test looks for it");
    let end = PAGE.find(&close).expect("a test looks for it");
    &PAGE[begin..end]
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
    fn the_page_is_one_small_file_that_names_no_other_host() {
        assert!(PAGE.len() < 64 * 1_024, "{} bytes", PAGE.len());
        assert!(!PAGE.contains("http"), "an address of something outside");
        assert!(!PAGE.contains("src=") && !PAGE.contains("@import") && !PAGE.contains("url("));
        for tag in ["<script", "</script>", "<style", "</style>"] {
            assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
        }
    }

    #[test]
    fn what_others_sent_is_never_markup_nor_code() {
        for way in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            " style=\"",
        ] {
            assert!(!PAGE.contains(way), "{way}");
        }
    }

    /// The ids that the script looks for are there, once each, and so is what labels refer to.
    #[test]
    fn the_script_and_the_markup_agree() {
        let ids: Vec<&str> = PAGE.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), ids.len(), "an id is there twice");
        let wanted = ["$(\"", "say(\"", "line(\"", "rows(\"", "aria-labelledby=\""];
        for id in wanted
            .iter()
            .flat_map(|before| PAGE.split(before).skip(1))
            .filter_map(|rest| rest.split('"').next())
        {
            assert!(ids.contains(&id), "there is no {id:?}");
        }
    }
}
