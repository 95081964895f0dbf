//! The live page holds to its policy.

use super::PAGE;

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
    for way in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", " style=\""]
    {
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
    for id in
        wanted.iter().flat_map(|before| PAGE.split(before).skip(1)).filter_map(|rest| rest.split('"').next())
    {
        assert!(ids.contains(&id), "there is no {id:?}");
    }
}
