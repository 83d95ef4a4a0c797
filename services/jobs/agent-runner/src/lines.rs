//! Output of programs, line by line and bounded.

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// A line of which at most so many bytes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// What was kept, without the line break; invalid UTF-8 replaced.
    pub(crate) text: String,
    /// Bytes that were dropped from its end.
    pub(crate) dropped: usize,
}

impl Line {
    /// For people: cut to `limit` bytes, with a mark that says so.
    pub(crate) fn marked(&self, limit: usize) -> String {
        let kept = crate::returned::beginning(&self.text, limit);
        let dropped = self.text.len() - kept.len() + self.dropped;
        if dropped == 0 { kept.to_owned() } else { format!("{kept} … [{dropped} more bytes]") }
    }
}

/// Reads the next line and keeps at most `limit` bytes of it; `None` at the end.
pub(crate) async fn next(source: &mut (impl AsyncBufRead + Unpin), limit: usize) -> Option<Line> {
    let (mut kept, mut dropped, mut any) = (Vec::new(), 0, false);
    loop {
        let available = source.fill_buf().await.unwrap_or_default();
        if available.is_empty() {
            break;
        }
        any = true;
        let (line, consumed, complete) = match available.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&available[..end], end + 1, true),
            None => (available, available.len(), false),
        };
        let room = (limit - kept.len()).min(line.len());
        kept.extend_from_slice(&line[..room]);
        dropped += line.len() - room;
        source.consume(consumed);
        if complete {
            break;
        }
    }
    if kept.ends_with(b"\r") && dropped == 0 {
        kept.pop();
    }
    any.then(|| Line { text: String::from_utf8_lossy(&kept).into_owned(), dropped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_lines_are_cut_and_the_next_is_whole() {
        let mut source = tokio::io::BufReader::with_capacity(4, &b"abcdefghij\r\n\nx\xff\nlast"[..]);
        let line = next(&mut source, 5).await.expect("a line");
        assert_eq!((line.text.as_str(), line.dropped), ("abcde", 6));
        assert_eq!(line.marked(100), "abcde … [6 more bytes]");
        assert_eq!(next(&mut source, 5).await.expect("a line").text, "");
        assert_eq!(next(&mut source, 5).await.expect("a line").text, "x\u{fffd}");
        assert_eq!(next(&mut source, 5).await.expect("a line").marked(2), "la … [2 more bytes]");
        assert_eq!(next(&mut source, 5).await, None);
    }
}
