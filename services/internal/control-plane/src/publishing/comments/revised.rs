//! What a revision adds to the body of its pull request.

use domain::changeset::Changeset;

use super::{
    MOST_CHARS, Released,
    checked::checked,
    mark_of_run,
    phrases::{asked_by, summary},
    pull_request::CLOSING,
};
use crate::{publishing::about::About, runs::Run};

/// Characters of an agent's summary in a revision: a body holds many.
const REVISION_CHARS: usize = 4_000;

/// What a revision did, to be put into the body with [`with_block`].
pub(in crate::publishing) fn revised_block(
    run: &Run,
    about: &About,
    said: &str,
    changeset: &Changeset,
    released: Option<&Released<'_>>,
) -> String {
    format!(
        "{mark}\n### Revised\n\nAsked for by {asked}.\n\n{said}\n\n{checked}\n<sub>run `{run_id}`</sub>\n",
        mark = mark_of_run(run.id),
        asked = asked_by(run, &about.asked, &about.policy.labels),
        said = summary(said, REVISION_CHARS),
        checked = checked(run, changeset, released),
        run_id = run.id,
    )
}

/// A body with a block of ours in it, above the closing part where that still stands. What
/// people wrote stays. A body that has the block already, or no room for it, is as it was: the
/// report on the pull request tells of the revision too.
pub(in crate::publishing) fn with_block(body: &str, block: &str) -> String {
    let mark = block.lines().next().unwrap_or_default();
    let chars = body.chars().count() + block.chars().count();
    if body.contains(mark) || chars + 2 > MOST_CHARS {
        return body.to_owned();
    }
    // The last one: nothing of an agent's stands after it.
    match body.rfind(CLOSING) {
        Some(at) => format!("{}{block}\n{}", &body[..at], &body[at..]),
        None => format!("{}\n\n{block}", body.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: &str = "<!-- callboard:run=1 -->\n### Revised\n\nDone.\n";

    #[test]
    fn a_block_stands_above_the_closing_part() {
        let body = format!("Asked\n\n{CLOSING}\n### Next\n\n- review it\n\nA word of mona's.\n");
        let with = with_block(&body, BLOCK);
        assert_eq!(
            with,
            format!("Asked\n\n{BLOCK}\n{CLOSING}\n### Next\n\n- review it\n\nA word of mona's.\n")
        );
        assert_eq!(with_block("Rewritten by mona.\n", BLOCK), format!("Rewritten by mona.\n\n{BLOCK}"));
        let second = BLOCK.replace("run=1", "run=2");
        let both = with_block(&with, &second);
        assert!(both.find("run=1") < both.find("run=2") && both.find("run=2") < both.find(CLOSING));
    }

    proptest! {
        /// Twice is once, nothing that stood there is lost, and it never grows too long.
        #[test]
        fn twice_is_once(before: String, after: String, closing: bool) {
            let body = if closing { format!("{before}{CLOSING}{after}") } else { before.clone() };
            let once = with_block(&body, BLOCK);
            prop_assert_eq!(&with_block(&once, BLOCK), &once);
            prop_assert!(once.starts_with(before.trim_end()));
            prop_assert!(!closing || once.ends_with(&after));
        }
    }

    #[test]
    fn a_full_body_stays_as_it_is() {
        let body = "x".repeat(MOST_CHARS - 10);
        assert_eq!(with_block(&body, BLOCK), body);
    }
}
