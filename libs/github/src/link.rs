//! Where people see what an event is about.

use serde::Deserialize;

#[derive(Deserialize)]
struct Payload {
    comment: Option<Place>,
    review: Option<Place>,
    pull_request: Option<Place>,
    issue: Option<Place>,
}

#[derive(Deserialize)]
struct Place {
    html_url: Option<String>,
}

/// The address of the comment, review, pull request or issue, the first there is. `None` when
/// the payload has none that a link could lead to.
pub fn link(body: &[u8]) -> Option<String> {
    let Payload { comment, review, pull_request, issue } = serde_json::from_slice(body).ok()?;
    let url =
        [comment, review, pull_request, issue].into_iter().flatten().find_map(|place| place.html_url)?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '(' | ')' | '<' | '>' | '"' | '\\');
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    (is_web && url.len() <= 500 && url.chars().all(plain)).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::link;

    #[test]
    fn the_nearest_place_is_linked_and_nothing_but_a_web_page() {
        let url = "https://github.com/o/r/issues/7#issuecomment-1";
        let body = format!(
            r#"{{"comment":{{"html_url":"{url}"}},"issue":{{"html_url":"https://github.com/o/r/issues/7"}}}}"#
        );
        assert_eq!(link(body.as_bytes()).as_deref(), Some(url));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"issue":{}}"#,
            r#"{"issue":{"html_url":"javascript:alert(1)"}}"#,
            r#"{"issue":{"html_url":"https://h/a) [x](https://h"}}"#,
        ] {
            assert_eq!(link(bad.as_bytes()), None, "{bad}");
        }
    }
}
