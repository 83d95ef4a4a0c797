//! The result of an attempt, and how it travels.

use proto::v1::{FileChange, ReturnOutcome, ReturnPart, return_outcome::Status, return_part::Part};

use crate::changeset::Change;

/// Bytes of content in one message; the contract asks for less than 1 MiB in all.
const PART_BYTES: usize = 768 * 1024;
/// Bytes of an agent's summary that are returned.
const SUMMARY_BYTES: usize = 64 * 1024;

/// What an attempt came to.
#[derive(Clone, Debug)]
pub(crate) struct Returned {
    pub(crate) status: Status,
    /// One sentence: how it failed; empty when it did not.
    pub(crate) message: String,
    /// What the agent says it did, Markdown.
    pub(crate) summary: String,
    pub(crate) agent_exit_code: Option<i32>,
    pub(crate) changes: Vec<Change>,
    /// The agent's session, a tar; empty when it keeps none.
    pub(crate) session: Vec<u8>,
    /// What it wrote into its file of findings; empty when it wrote none.
    pub(crate) findings: String,
}

impl Returned {
    /// A result without changes.
    pub(crate) fn failed(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            summary: String::new(),
            agent_exit_code: None,
            changes: Vec::new(),
            session: Vec::new(),
            findings: String::new(),
        }
    }

    /// The messages of the stream: outcome, files, session.
    pub(crate) fn parts(&self, base_sha: &str) -> Vec<ReturnPart> {
        let outcome = ReturnOutcome {
            summary: beginning(&self.summary, SUMMARY_BYTES).to_owned(),
            base_sha: base_sha.to_owned(),
            status: self.status.into(),
            message: self.message.clone(),
            agent_exit_code: self.agent_exit_code,
            findings_json: self.findings.clone(),
        };
        let mut parts = vec![Part::Outcome(outcome)];
        for change in &self.changes {
            let (file, more) = in_pieces(change);
            parts.push(Part::File(file));
            parts.extend(more.map(Part::MoreContent));
        }
        parts.extend(pieces(&self.session).map(Part::Session));
        parts.into_iter().map(|part| ReturnPart { part: Some(part) }).collect()
    }
}

/// A file with the beginning of its content, and the rest.
pub(crate) fn in_pieces(change: &Change) -> (FileChange, impl Iterator<Item = Vec<u8>>) {
    let mut pieces = pieces(&change.content);
    let file = FileChange {
        path: change.path.clone(),
        mode: change.mode.into(),
        content: pieces.next().unwrap_or_default(),
        size: change.content.len() as u64,
    };
    (file, pieces)
}

/// Bytes in pieces of the size of a message.
pub(crate) fn pieces(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    bytes.chunks(PART_BYTES).map(<[u8]>::to_vec)
}

/// At most `limit` bytes from the beginning, whole characters.
pub(crate) fn beginning(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use proto::v1::file_change::Mode;

    use super::*;

    #[test]
    fn a_large_file_travels_in_parts() {
        let mut returned = Returned::failed(Status::Done, "");
        let content = vec![7; PART_BYTES * 2 + 1];
        returned.changes = vec![Change { path: b"big".to_vec(), mode: Mode::File, content }];
        returned.session = vec![1; PART_BYTES + 1];
        let sizes: Vec<usize> = returned
            .parts("sha")
            .into_iter()
            .map(|part| match part.part.expect("a part") {
                Part::Outcome(_) => 0,
                Part::File(file) => {
                    assert_eq!(file.size, PART_BYTES as u64 * 2 + 1);
                    file.content.len()
                }
                Part::MoreContent(bytes) | Part::Session(bytes) => bytes.len(),
            })
            .collect();
        assert_eq!(sizes, [0, PART_BYTES, PART_BYTES, 1, PART_BYTES, 1]);
    }
}
